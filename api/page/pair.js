// A second run, or another level of the shown run, beside the shown level.

import { address, json } from "./api.js";
import { el, isolated, label, sentence } from "./dom.js";
import { count, number, signed } from "./numbers.js";
import { namesOf } from "./state.js";
import { badge, metricsAt } from "./verdict.js";

let kept = null;

/** The second side of a choice: its run, findings, level, names and metrics.
 *
 * `note(text)` gets a reason if the page shows something else; null if there is no such run.
 */
export async function secondSide(runs, choice, note, signal) {
  if (!choice.other) return null;
  const run = runs.find((one) => one.run === choice.other);
  if (!run) {
    note(`The lake has no run ${choice.other}, so nothing is beside the shown run.`);
    delete choice.other;
    delete choice.other_level;
    return null;
  }
  const levels = run.levels.map(String);
  if (choice.other_level && !levels.includes(choice.other_level)) {
    note(`Run ${run.run} has no level ${choice.other_level}.`);
    delete choice.other_level;
  }
  const asked = address("/findings", { run_id: run.run, level: choice.other_level });
  if (kept?.asked !== asked) {
    const findings = await json(asked, signal);
    const level = String(findings.level);
    kept = { asked, run, findings, level, metrics: await metricsAt(findings, level, signal) };
  }
  return { ...kept, names: namesOf(kept.findings, kept.level) };
}

/** Forget the second side: the snapshot has changed. */
export function forgetPair() {
  kept = null;
}

/** The model, task and level of a side. */
export function nameOf({ run, names }) {
  return [isolated(run.model), ", ", isolated(run.task), ", ", isolated(names.level)];
}

/** The verdicts of both sides in one table; each side has `run`, `findings`, `names`, `metrics`. */
export function showPair(place, sides) {
  const [first, second] = sides;
  place.replaceChildren(
    el("h3", {}, "Side by side"),
    ...remarks(first, second).map((text) => el("p", { class: "note" }, ...sentence(text))),
    table(first, second),
  );
}

function isSameTask(first, second) {
  return first.run.task === second.run.task;
}

/** The reasons to compare the sides with care, as sentences without a full stop. */
function remarks(first, second) {
  if (first.run.run === second.run.run && first.level === second.level) {
    return ["both sides show the same level: choose another level or run"];
  }
  if (!isSameTask(first, second)) {
    return ["the tasks differ, so the table has no difference of changes: it would mean nothing"];
  }
  const said = ["no test compares the two sides, so the differences have no interval"];
  const counts = [first, second].map(({ run }) => run.example_count);
  if (first.run.run === second.run.run) said.push("both sides answer the same examples");
  else if (counts[0] !== counts[1]) {
    const [a, b] = counts.map((n) => (n ? count(n) : "an unknown number of"));
    said.push(`the sides differ in their examples: ${a} and ${b}`);
  }
  if (EXPLAINED.some((name) => isExplainedOtherwise(first.metrics.get(name), second.metrics.get(name)))) {
    said.push("different methods explain the sides, so changes of explanations are not subtracted");
  }
  return said;
}

const EXPLAINED = ["comprehensiveness", "sufficiency"];
const EXPLANATION = ["method", "operator", "variant"];

function isExplainedOtherwise(a, b) {
  return Boolean(a && b) && EXPLANATION.some((name) => a[name] !== b[name]);
}

function table(first, second) {
  const names = [...new Set([...first.metrics.keys(), ...second.metrics.keys()])];
  const isComparable = isSameTask(first, second);
  const group = (side) =>
    el("th", { scope: "colgroup", colspan: "3", class: "side-head" }, ...nameOf(side));
  const columns = ["Value", "Change", "Verdict"].map((text) =>
    el("th", { scope: "col", class: text === "Verdict" ? "text" : null }, text),
  );
  const head = [
    el(
      "tr",
      {},
      el("th", { scope: "col", rowspan: "2" }, "Metric"),
      group(first),
      group(second),
      isComparable
        ? el("th", { scope: "col", rowspan: "2" }, "Difference of changes")
        : null,
    ),
    el("tr", {}, ...columns, ...columns.map((one) => one.cloneNode(true))),
  ];
  const rows = names.map((name) => {
    const [a, b] = [first.metrics.get(name), second.metrics.get(name)];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, label(name)),
      ...cells(a),
      ...cells(b),
      isComparable ? el("td", {}, difference(a, b)) : null,
    );
  });
  const caption = isComparable
    ? "Values, and changes from level 0. Difference: the second change less the first."
    : "Values, and changes from level 0.";
  return el(
    "div",
    { class: "scroll", role: "group", tabindex: "0", "aria-label": "Both sides by metric" },
    el(
      "table",
      {},
      el("caption", {}, caption),
      el("thead", {}, ...head),
      el("tbody", {}, ...rows),
    ),
  );
}

function cells(row) {
  if (!row) return [el("td", {}, "–"), el("td", {}, "–"), el("td", { class: "text" }, "–")];
  return [
    el("td", {}, number(row.value)),
    el("td", {}, signed(row.delta)),
    el("td", { class: "text" }, badge(row.verdict)),
  ];
}

function difference(a, b) {
  if ([a?.delta ?? null, b?.delta ?? null].includes(null) || isExplainedOtherwise(a, b)) return "–";
  return signed(b.delta - a.delta);
}
