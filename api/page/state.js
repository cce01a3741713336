// The reader's choice, as the address holds it, and the run that it names.

import { inOrder } from "./dom.js";

const NAMES = [
  "model", "task", "strategy", "run", "level", "metric", "example", "method", "theme", "find",
  "other", "other_level",
];

const OF_RUN = ["model", "task", "strategy", "run"];

// The names of the API; links from before they were used have the short names.
const API_NAMES = { run: "run_id", example: "example_id", other: "other_run_id" };

/** The choice in the address, without defaults. */
export function fromAddress() {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(
    NAMES.map((name) => [name, given.get(API_NAMES[name]) || given.get(name)]).filter(
      ([, value]) => value,
    ),
  );
}

/** A note for the reader if the address has parameters that the page does not know. */
export function notesOnAddress() {
  const known = NAMES.map((name) => API_NAMES[name] ?? name);
  const given = [...new Set(new URLSearchParams(location.search).keys())];
  const ignored = given.filter((name) => !known.includes(name) && !NAMES.includes(name));
  if (ignored.length === 0) return [];
  return [`The page ignores ${ignored.join(", ")} in its address; it knows ${known.join(", ")}.`];
}

/** A choice as the parameters of an address. */
export function queryOf(choice) {
  const given = NAMES.filter((name) => choice[name]).map((name) => [
    API_NAMES[name] ?? name,
    choice[name],
  ]);
  return new URLSearchParams(given).toString();
}

/** Write a choice into the address, as a new step of the history or in place of the last step. */
export function toAddress(choice, isStep, hash = location.hash) {
  const query = queryOf(choice);
  if (query === location.search.slice(1) && hash === location.hash) return;
  const url = (query ? `?${query}` : location.pathname) + hash;
  if (isStep) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

/** All runs, the latest first, each with its model: by its short name if this is unique. */
export function runsOf(models) {
  const references = Map.groupBy(models, (model) => model.name);
  return models
    .flatMap((model) => {
      const others = references.get(model.name).filter((other) => other.model !== model.model);
      const name = others.length ? model.model : model.name;
      return model.runs.map((run) => ({
        ...run,
        model: name,
        reference: model.model,
        layer_count: model.layer_count,
        run: run.run_id,
      }));
    })
    .sort(
      (a, b) =>
        // Runs of level 0 alone come last: a comparison shows what they measured.
        (b.levels.length > 1) - (a.levels.length > 1) ||
        b.created_at.localeCompare(a.created_at) ||
        a.run.localeCompare(b.run),
    );
}

/** Give runs on the map their `finding`, their `rank`, and `verdicts` on the levels `mapped`. */
export function addVerdicts(runs, map) {
  const mapped = new Map(map.runs.map((one, rank) => [one.run_id, { ...one, rank }]));
  for (const run of runs) {
    if (!mapped.has(run.run)) continue;
    const { finding, rank, verdicts, levels } = mapped.get(run.run);
    Object.assign(run, { finding, rank, verdicts, mapped: levels });
  }
}

/** The names of level 0 and of a level: in a sentence (`at level 4`) and as headings. */
export function namesOf({ kind, levels, labels }, level) {
  if (kind === "removal") {
    return {
      baseline: "unpruned",
      level: `level ${level}`,
      at: `at level ${level}`,
      heads: ["Unpruned", `Level ${level}`],
    };
  }
  const label = inOrder(labels[levels.map(String).indexOf(level)]);
  return {
    baseline: "baseline",
    level: label,
    at: `of ${label}`,
    heads: [`${inOrder(labels[0])} (baseline)`, label],
  };
}

/** The runs whose model, task, strategy, id or finding contain all words of `find`, in any case. */
export function found(runs, find = "") {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return runs;
  return runs.filter((run) => {
    const texts = [run.reference, run.task, run.strategy, run.run, ...run.labels, run.finding];
    const text = texts.join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** The runs that fit the model, task, strategy and run of a choice, the latest first. */
export function fitting(runs, choice) {
  return runs.filter((run) =>
    OF_RUN.every(
      (name) =>
        choice[name] === undefined ||
        choice[name] === run[name] ||
        (name === "model" && choice.model === run.reference),
    ),
  );
}

/** The choices besides a run: other models, the tasks of its model, and so on. */
export function alternatives(runs, run) {
  const found = {};
  let among = runs;
  for (const name of OF_RUN) {
    found[name] = [...new Set(among.map((other) => other[name]))];
    if (name !== "run") found[name].sort();
    among = among.filter((other) => run && other[name] === run[name]);
  }
  return found;
}

/** The choice after a change; the parts of the choice that still fit are kept. */
export function changed(runs, shown, choice, name, value) {
  if (!OF_RUN.includes(name)) return { ...choice, [name]: value };
  const kept = {};
  for (const other of OF_RUN) {
    const wanted = other === name ? value : other === "run" ? undefined : shown?.[other];
    if (wanted && fitting(runs, { ...kept, [other]: wanted }).length) kept[other] = wanted;
  }
  const rest = Object.fromEntries(
    Object.entries(choice).filter(([other]) => !OF_RUN.includes(other)),
  );
  // An example belongs to its task; the methods that explain it belong to its run.
  delete rest.method;
  if (fitting(runs, kept)[0].task !== shown?.task) delete rest.example;
  return { ...rest, ...kept };
}

/** The choice without the run, and without its level and example. */
function withoutRun({ model, task, strategy, run, level, example, method, ...rest }) {
  return rest;
}

/** The choice of a level of another run. */
export function opened(choice, run, level) {
  return { ...withoutRun(choice), run, level };
}

/** The choice with a level of a run as the second side. */
export function withOther(choice, run, level) {
  return { ...choice, other: run, other_level: level };
}

/** The choice of the second side as the first, and of a level of a run as the second. */
export function swapped(choice, run, level) {
  return withOther(opened(choice, choice.other, choice.other_level), run, level);
}

/** The choice without a second side. */
export function withoutOther({ other, other_level: level, ...rest }) {
  return rest;
}
