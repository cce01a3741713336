// Draws Vega-Lite in the browser, with one runtime for all charts.

import { Problem } from "./api.js";

let runtime = null;

/** Run the script of the runtime while the page waits for its first answers. */
export function prepare() {
  // A failure is reported by the first drawing, which tries again.
  runtime ??= import("./vega.js");
  runtime.catch(() => (runtime = null));
}

/** px of a plot with its axis and its paddings; the plots of all charts have about this width. */
const USUAL = 348;

/** The chart as SVG, where possible at most `width` px wide, with letters of their full size.
 *
 * Rejects with a Problem if the browser cannot draw it.
 */
export async function draw(spec, width, signal) {
  const px = USUAL - width;
  const usual = await embedded(fitted(spec, px), signal, svgOf);
  const over = widthOf(usual) - width;
  if (over <= 0) return usual;
  // Long names of rows or legends: only narrower plots, and shorter lines, leave room for them.
  const narrow = await embedded(fitted(spec, afterwards(px, over)), signal, svgOf);
  return widthOf(narrow) < widthOf(usual) ? narrow : usual;
}

/** The same chart of several runs as SVG, each on axes with the same ends. */
export async function drawTogether(specs, widths, signal) {
  const width = Math.min(...widths);
  let px = USUAL - width;
  const scales = [];
  let over = 0;
  for (const spec of specs) {
    const read = async (drawn) => [scalesOf(drawn), await svgOf(drawn)];
    const [found, svg] = await embedded(fitted(spec, px), signal, read);
    scales.push(found);
    over = Math.max(over, widthOf(svg) - width);
  }
  if (over > 0) px = afterwards(px, over);
  const domains = shared(scales);
  const patch = (vega) => {
    for (const scale of vega.scales ?? []) {
      if (domains.has(scale.name)) scale.domain = domains.get(scale.name);
    }
    return vega;
  };
  const drawings = [];
  for (const spec of specs) drawings.push(await embedded(fitted(spec, px), signal, svgOf, patch));
  return drawings;
}

function svgOf({ view }) {
  return view.toSVG();
}

function widthOf(svg) {
  return Number(svg.match(/ width="([\d.]+)"/)[1]);
}

/** The px by which plots get narrower after a drawing that was too wide. */
function afterwards(px, over) {
  return Math.max(px, SLIGHT) + Math.ceil(over) + 1;
}

async function embedded(spec, signal, read, patch) {
  runtime ??= import("./vega.js");
  let drawn;
  try {
    await runtime;
    signal.throwIfAborted();
    // Without `ast`, Vega evaluates text as code, which the page's policy forbids.
    drawn = await window.vegaEmbed(document.createElement("div"), spec, {
      actions: false,
      ast: true,
      defaultStyle: false,
      logLevel: 1,
      mode: "vega-lite",
      patch,
      renderer: "none",
      tooltip: false,
    });
    return await read(drawn);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    runtime = null;
    throw new Problem(0, "undrawable", "the browser cannot draw this chart");
  } finally {
    drawn?.finalize();
  }
}

/** The scales of a drawn chart by name: their type and domain. */
function scalesOf({ view, vgSpec }) {
  return new Map(
    (vgSpec.scales ?? []).map(({ name, type }) => [name, { type, domain: view.scale(name).domain() }]),
  );
}

const CONTINUOUS = ["linear", "log", "pow", "sqrt", "symlog"];
const IN_STEPS = ["band", "point"];

/** The domains that cover all charts: of continuous scales, and of numbered steps along x. */
function shared(scales) {
  const domains = new Map();
  for (const [name, { type }] of scales[0]) {
    const all = scales.map((one) => one.get(name));
    if (all.some((one) => one?.type !== type)) continue;
    const values = all.flatMap((one) => one.domain);
    if (!values.every((value) => typeof value === "number")) continue;
    if (CONTINUOUS.includes(type)) domains.set(name, [Math.min(...values), Math.max(...values)]);
    else if (IN_STEPS.includes(type) && /x$/.test(name)) {
      domains.set(name, [...new Set(values)].sort((a, b) => a - b));
    }
  }
  return domains;
}

/** A screen that is narrower by at most these px shows a chart as it is. */
const SLIGHT = 12;

/** Letters in a line of the title, of a subtitle and of a legend on a phone. */
const TITLE_LINE = 32;
const SUBTITLE_LINE = 42;
const LEGEND_LINE = 38;

/** The chart as it is, or for a screen that is narrower than its usual width by some px. */
function fitted(spec, px) {
  if (px <= SLIGHT) return spec;
  const title = {
    ...spec.title,
    text: lines(spec.title.text, TITLE_LINE),
    subtitle: lines(spec.title.subtitle, SUBTITLE_LINE),
  };
  return { ...narrowed(spec, px), title };
}

/** The same words in lines of at most `letters` letters. */
function lines(given, letters) {
  const wrapped = [""];
  for (const word of [given].flat().join(" ").split(" ")) {
    const longer = `${wrapped.at(-1)} ${word}`.trim();
    if (longer.length <= letters || wrapped.at(-1) === "") wrapped[wrapped.length - 1] = longer;
    else wrapped.push(word);
  }
  return wrapped;
}

/** px: wider plots can get narrower, but not than the second. */
const [WIDE, NARROWEST] = [140, 90];

/** A channel with long labels of its legend in lines; Vega takes them only as an expression. */
function withWrappedLabels(channel) {
  const { legend, scale } = channel;
  if (!legend || !Array.isArray(scale?.domain)) return channel;
  const long = scale.domain.filter((label) => label.length > LEGEND_LINE);
  if (long.length === 0) return channel;
  const labelExpr = long
    .map((label) => [label, lines(label, LEGEND_LINE)].map((value) => JSON.stringify(value)))
    .reduce((rest, [label, wrapped]) => `datum.label === ${label} ? ${wrapped} : ${rest}`, "datum.label");
  return { ...channel, legend: { ...legend, labelExpr } };
}

/** The chart with wide plots narrower by some px, so that a phone need not shrink its letters. */
function narrowed(part, px) {
  if (part === null || typeof part !== "object") return part;
  if (Array.isArray(part)) return part.map((member) => narrowed(member, px));
  const entries = Object.entries(part).map(([name, value]) => {
    if (name === "width" && value > WIDE) return [name, Math.max(value - px, NARROWEST)];
    if (name === "x2" && value.value > WIDE) {
      return [name, { value: Math.max(value.value - px, NARROWEST) }];
    }
    if (name === "title" && value?.subtitle) {
      return [name, { ...value, subtitle: lines(value.subtitle, SUBTITLE_LINE) }];
    }
    return [name, name === "datasets" || name === "config" ? value : narrowed(value, px)];
  });
  return withWrappedLabels(Object.fromEntries(entries));
}
