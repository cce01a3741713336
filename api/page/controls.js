// The native controls above the page: they show a choice, and report changes to it.

import { inOrder, isolated, label } from "./dom.js";
import { count } from "./numbers.js";
import { alternatives, namesOf } from "./state.js";

const byId = (id) => document.getElementById(id);

const CONTROLS = ["model", "task", "strategy", "run", "level", "metric", "theme", "other_level"];

/** Call `choose(name, value)` at every change. */
export function listen(choose) {
  for (const name of CONTROLS) {
    byId(name).addEventListener("change", (event) => choose(name, event.target.value));
  }
}

/** More runs than this need a search. */
const MANY_RUNS = 5;

/** Call `find(words)` while the reader types. */
export function listenToSearch(find) {
  byId("find").addEventListener("input", (event) => find(event.target.value));
}

/** Show the search, if there are many runs, with its words. */
export function offerSearch(runs, words = "") {
  const field = byId("find");
  field.parentElement.hidden = runs.length <= MANY_RUNS && words === "";
  if (document.activeElement !== field) field.value = words;
}

/** Offer the runs, with the shown run selected; `run` is null if no run fits. */
export function offerRuns(runs, run) {
  const found = alternatives(runs, run);
  const named = new Map(runs.map((one) => [one.run, one]));
  fill("model", found.model, run?.model);
  fill("task", found.task, run?.task);
  const ofTask = runs.filter((one) => one.model === run?.model && one.task === run.task);
  fill("strategy", found.strategy, run?.strategy, (name) => strategyText(name, ofTask));
  fill("run", found.run, run?.run, (name) => described(named.get(name)));
  byId("run").parentElement.hidden = run === null || found.run.length < 2;
  byId("controls").hidden = false;
}

/** Offer the levels and metrics of a run. */
export function offerLevels(run, levels, level, metrics, metric) {
  const isComparison = run.kind === "candidate";
  byId("level-name").textContent = levelName(run);
  byId("about").textContent = isComparison
    ? "How compressing a model changes accuracy, confidence and explanations"
    : "How removing attention layers changes accuracy, confidence and explanations";
  fill("level", levels.map(String), level, (name) => levelText(run, name));
  fill("metric", metrics, metric, label);
}

/** Offer the levels of the second side; null offers to keep the shown run as the second side. */
export function offerOther(side) {
  byId("keep").hidden = side !== null;
  byId("other").hidden = side === null;
  if (side === null) return;
  const { run, level } = side;
  const levels = run.levels.filter((one) => one > 0 || run.levels.length === 1).map(String);
  byId("other-name").replaceChildren(isolated(run.model), ", ", isolated(run.task));
  byId("other-level-name").textContent = levelName(run);
  fill("other_level", levels, level, (name) => levelText(run, name));
}

function levelName(run) {
  return run.kind === "candidate" ? "Candidate" : "Layers removed";
}

function levelText(run, level) {
  if (run.kind === "candidate") return namesOf(run, level).level;
  return run.layer_count ? `${level} of ${run.layer_count}` : level;
}

/** A strategy; comparisons with the number of their candidates, where it is the same. */
function strategyText(name, runs) {
  const comparisons = runs.filter((one) => one.strategy === name && one.kind === "candidate");
  if (comparisons.length === 0) return name || "not known";
  const counts = new Set(comparisons.map((one) => one.levels.length - 1));
  return counts.size === 1 ? comparisonOf([...counts][0]) : "comparison of candidates";
}

function comparisonOf(count) {
  return `comparison of ${count} candidate${count === 1 ? "" : "s"}`;
}

function described(run) {
  const facts = [
    run.kind === "candidate" ? run.labels.map(inOrder).join(", ") : null,
    run.created_at.slice(0, 16).replace("T", " "),
    run.example_count ? `${count(run.example_count)} examples` : "no examples",
    run.explained_by ?? "not explained",
    run.dtype,
    run.run.slice(0, 8),
  ];
  return facts.filter(Boolean).join(", ");
}

function fill(id, values, chosen, text = (value) => value) {
  const select = byId(id);
  const current = [...select.options].map((option) => option.value);
  // Replaced only if they differ: an open list would close under the reader's hand.
  if (JSON.stringify(current) !== JSON.stringify(values)) {
    select.replaceChildren(...values.map((value) => new Option(text(value), value)));
  } else {
    values.forEach((value, i) => (select.options[i].text = text(value)));
  }
  select.selectedIndex = values.indexOf(chosen);
}
