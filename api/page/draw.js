// Draws Vega-Lite in the browser, with one runtime for all charts.

import { Problem } from "./api.js";

let runtime = null;

/** The chart as SVG; rejects with a Problem if the browser cannot draw it. */
export async function draw(spec, signal) {
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
      renderer: "none",
      tooltip: false,
    });
    return await drawn.view.toSVG();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    runtime = null;
    throw new Problem(0, "undrawable", "the browser cannot draw this chart");
  } finally {
    drawn?.finalize();
  }
}
