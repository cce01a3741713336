// The verdict on a run in words, and its metrics at a level.

import { address, json } from "./api.js";
import { el, isolated, label } from "./dom.js";
import { interval, number, signed } from "./numbers.js";

const byId = (id) => document.getElementById(id);

/** The metrics at a level by name: values, difference with interval, and the verdict. */
export async function metricsAt(findings, level, signal) {
  const asked = { run_id: findings.run_id, level, limit: 1000 };
  const { rows } = await json(address("/views/headline_metrics", asked), signal);
  return new Map(
    rows.map((row) => [row.metric, { ...row, value: row.paired_value, ...judgement(row) }]),
  );
}

export function showWords(findings) {
  byId("subject").replaceChildren(...subjectOf(findings));
  byId("outline").replaceChildren(`${findings.outline}.`);
  byId("words").replaceChildren(...wordsOf(findings));
}

/** The verdict on a second run, for a place beside the first. */
export function besideWords(findings) {
  return [
    el("p", { class: "soft" }, ...subjectOf(findings)),
    el("h3", {}, `${findings.outline}.`),
    ...wordsOf(findings),
  ];
}

function wordsOf(findings) {
  return [
    ...findings.sentences.map((sentence) => el("p", {}, sentence)),
    ...findings.warnings.map((warning) =>
      el("p", { class: "warning" }, el("strong", {}, "Caution: "), warning),
    ),
    findings.caveat ? el("p", { class: "soft note" }, findings.caveat) : "",
    findings.settled_by && !findings.outline.includes(findings.settled_by)
      ? el("p", { class: "soft note" }, "To settle open verdicts: ", el("code", {}, findings.settled_by))
      : "",
  ];
}

/** The model, the task, and the order of removal or the candidates beside their baseline. */
function subjectOf({ model, task, kind, strategy, labels }) {
  const [baseline, ...candidates] = labels.map(isolated);
  const order =
    kind === "candidate"
      ? [...candidates.flatMap((name) => [", ", name]).slice(1), " beside the baseline ", baseline]
      : [strategy ? `${strategy} order` : "order not known"];
  return [isolated(model), ", ", isolated(task), ", ", ...order];
}

export function showMetrics(metrics, names, metric) {
  const chosen = [...new Set(["accuracy", metric])].filter((name) => metrics.has(name));
  byId("tiles").replaceChildren(...chosen.map((name) => tile(metrics.get(name), names)));
  const all = byId("all-metrics");
  all.hidden = metrics.size === 0;
  all.replaceChildren(
    el("summary", {}, `All metrics ${names.at}`),
    table([...metrics.values()], names),
  );
}

function judgement(row) {
  if (!row.is_judged) return { verdict: null, reason: "not tested" };
  return {
    verdict: row.shown_verdict,
    reason: row.reason?.replace("smallest_detectable", number(row.smallest_detectable)) ?? "",
  };
}

export function badge(verdict) {
  if (!verdict) return el("span", { class: "soft" }, "not tested");
  const style = verdict === "worse within margin" ? "slight" : verdict.split(" ")[0];
  return el("span", { class: `badge ${style}` }, verdict);
}

function tile(row, names) {
  const better = { true: "higher is better", false: "lower is better" }[row.higher_is_better];
  const reach = interval(row.delta_low, row.delta_high);
  return el(
    "div",
    { class: "card tile", "data-metric": row.metric },
    el("h3", {}, label(row.metric), " ", el("small", { class: "soft" }, better ?? "")),
    el(
      "p",
      { class: "values" },
      el("span", {}, number(row.unpruned_value), el("small", {}, names.baseline)),
      el("span", { "aria-hidden": "true" }, "→"),
      el("span", {}, number(row.value), el("small", {}, names.level)),
    ),
    el("p", {}, badge(row.verdict), ` ${signed(row.delta)}`),
    reach ? el("p", { class: "note" }, `95 % interval: ${reach}`) : null,
    el("p", { class: "soft note" }, row.note ?? row.reason),
  );
}

function headOf(text) {
  return el("th", { scope: "col", class: text === "Verdict" ? "text" : null }, text);
}

function table(rows, names) {
  const head = ["Metric", ...names.heads, "Change", "95 % interval", "Verdict"];
  const name = `All metrics ${names.at}`;
  return el(
    "div",
    { class: "scroll", role: "group", tabindex: "0", "aria-label": name },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...head.map(headOf))),
      el(
        "tbody",
        {},
        ...rows.map((row) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, label(row.metric)),
            el("td", {}, number(row.unpruned_value)),
            el("td", {}, number(row.value)),
            el("td", {}, signed(row.delta)),
            el("td", {}, interval(row.delta_low, row.delta_high)),
            el("td", { class: "text" }, badge(row.verdict)),
          ),
        ),
      ),
    ),
  );
}
