// The page: the reader's choice, and the parts that show it.

import { forgetAdvice, showAdvice } from "./advice.js";
import { Problem, address, events, json, latest } from "./api.js";
import { cardsIn } from "./charts.js";
import {
  listen,
  listenToSearch,
  offerLevels,
  offerOther,
  offerRuns,
  offerSearch,
} from "./controls.js";
import { el, inOrder, label, problemBox, words } from "./dom.js";
import { prepare } from "./draw.js";
import { Examples } from "./examples.js";
import { VerdictMap } from "./map.js";
import { forgetPair, nameOf, secondSide, showPair } from "./pair.js";
import { count } from "./numbers.js";
import {
  changed,
  fitting,
  found,
  fromAddress,
  namesOf,
  notesOnAddress,
  opened,
  queryOf,
  runsOf,
  swapped,
  toAddress,
  withOther,
  withoutOther,
} from "./state.js";
import { dark, showTheme, themeOf } from "./theme.js";
import { tokenForm } from "./token.js";
import { besideWords, metricsAt, showMetrics, showWords } from "./verdict.js";

const byId = (id) => document.getElementById(id);
const next = latest();
const examples = new Examples(byId("examples"), byId("list"), byId("example"), change);

const map = new VerdictMap(byId("entry"), open);

let choice = fromAddress();
let isRefused = false;
let cards = [];
// From the snapshot: its runs, the shown run, and the findings on this run.
let runs = null;
let mapped = null; // settles when the runs have their verdicts
let run = null;
let findings = null;
let usualLevel = null;
let metrics = null;
// The level and the metric as they are shown, chosen or usual.
let shown = {};
let notes = notesOnAddress();

/** Show another choice of the reader, and add it to the history. */
function choose(wanted, hash) {
  choice = wanted;
  toAddress(choice, true, hash);
  return show();
}

/** Apply a change by the reader to one part of the choice. */
function change(name, value) {
  choose(changed(found(runs ?? [], choice.find), run, choice, name, value));
}

/** Show a level of a run from the map, and go to its verdict. */
async function open(runId, level) {
  await choose(opened(choice, runId, level), "#verdict");
  byId("verdict").focus();
}

/** The address of the page as it is shown, at a part of it. */
function linkTo(hash) {
  return new URL(`?${queryOf({ ...choice, ...shown })}${hash}`, location.href).href;
}

/** Keep only the runs with these words; the shown run stays, if it has them. */
async function find(words) {
  choice = { ...choice, find: words || undefined };
  await mapped;
  if ((choice.find ?? "") !== words) return;
  const among = found(runs ?? [], words);
  if (run && among.length && !among.includes(run)) {
    for (const name of ["model", "task", "strategy", "run", "example", "method"]) delete choice[name];
  }
  toAddress(choice, false);
  show();
}

/** Show the choice; parts that show it already are not drawn again. */
async function show() {
  const signal = next();
  showTheme(choice);
  if (isRefused) return;
  try {
    if (runs === null) await loadLists(signal);
    if (runs.length === 0) showEmpty();
    else await showRun(signal);
  } catch (error) {
    if (error.name === "AbortError" || error.status === 401) return;
    if (!(error instanceof Problem)) throw error;
    conceal(problemBox(error, show));
    tell(error.message);
  }
}

async function loadLists(signal) {
  tell("Loading …");
  const lists = ["/models", "/charts", "/health"].map((path) => json(path, signal));
  const [models, charts, health] = await Promise.all(lists);
  runs = runsOf(models);
  mapped = map.load(runs);
  if (cards.length === 0) cards = cardsIn(byId("cards"), charts, linkTo);
  showFooter(health);
}

async function showRun(signal) {
  offerSearch(runs, choice.find);
  if (choice.find) {
    await mapped; // the words of the findings count, too
    signal.throwIfAborted();
  }
  const among = found(runs, choice.find);
  if (among.length === 0) {
    map.show([], []);
    byId("controls").hidden = false;
    conceal(el("p", { class: "notice" }, `No run matches ${choice.find}: change the words of the search.`));
    tell("No run matches.");
    return;
  }
  // The map needs no findings, so it can be read while they load.
  if (findings === null) map.show(among, []);
  run = fitting(among, choice)[0] ?? null;
  offerRuns(among, run);
  const { model, task, strategy } = choice;
  const asked = run ? { run_id: run.run } : { model, task, strategy, run_id: choice.run };
  if (run === null || findings?.run_id !== run.run) {
    forget();
    tell("Loading …");
    // If no run fits, the error of the server names the choices.
    findings = await json(address("/findings", asked), signal);
    usualLevel = String(findings.level);
  }
  choice = { ...choice, model: run.model, task: run.task, strategy: run.strategy, run: run.run };
  const pruned = findings.levels.filter((level) => level > 0);
  const levels = (pruned.length ? pruned : findings.levels).map(String);
  const level = chosenOf("level", levels, usualLevel);
  if (String(findings.level) !== level) {
    findings = await json(address("/findings", { run_id: run.run, level }), signal);
  }
  const metric = chosenOf("metric", findings.metrics, findings.metric);
  const other = await secondSide(runs, choice, (note) => notes.push(note), signal);
  if (other) choice.other_level = other.level;
  shown = { level, metric };
  toAddress(choice, false);
  offerOther(other);
  offerLevels(run, levels, level, findings.metrics, metric);
  const cells = [`${run.run} ${level}`, ...(other ? [`${other.run.run} ${other.level}`] : [])];
  map.show(among, cells);
  showWords(findings);
  const names = namesOf(findings, level);
  reveal();
  const { example, method } = choice;
  const first = { run, findings, level, names };
  const sides = [first, ...(other ? [other] : [])].map((side) => ({
    runId: side.run.run,
    kind: side.findings.kind,
    level: side.level,
    name: () => el("span", {}, ...nameOf(side)),
  }));
  for (const card of cards) card.want(sides, metric, themeOf(choice));
  examples.want({ runId: run.run, level, example, method }, names);
  await showTiles(level, names, metric, signal);
  byId("content").classList.toggle("beside", other !== null);
  byId("beside").hidden = byId("pair").hidden = other === null;
  if (other) {
    byId("beside").replaceChildren(...besideWords(other.findings));
    showPair(byId("pair"), [{ ...first, metrics: metrics.byName }, other]);
  }
  showAdvice(byId("advice"), run.reference);
  const subject = `${inOrder(run.model)}, ${inOrder(run.task)}, ${names.level}`;
  document.title = `${subject} · PruneLake`;
  tell(`Shown: ${subject}, ${label(metric)}.`);
}

async function showTiles(level, names, metric, signal) {
  const of = `${run.run} ${level}`;
  if (metrics?.of !== of) {
    metrics = null;
    byId("tiles").classList.add("pending");
    metrics = { of, byName: await metricsAt(findings, level, signal) };
  }
  showMetrics(metrics.byName, names, metric);
  byId("tiles").classList.remove("pending");
}

/** The chosen level or metric; a value that the run lacks is dropped, with a note. */
function chosenOf(name, values, usual) {
  const wanted = choice[name];
  if (wanted === undefined || values.includes(wanted)) return wanted ?? usual;
  delete choice[name];
  const read = name === "metric" ? label : (value) => value;
  notes.push(`This run has no ${name} ${read(wanted)}; the page shows ${read(usual)}.`);
  return usual;
}

function reveal() {
  byId("message").replaceChildren(...notes.map((note) => el("p", { class: "notice" }, note)));
  notes = [];
  const isFirst = byId("content").hidden;
  byId("content").hidden = false;
  // The browser could not go to a hidden section.
  if (isFirst && location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  byId("content").classList.remove("pending");
  byId("verdict").removeAttribute("aria-busy");
}

/** Show a message in place of everything. */
function conceal(message) {
  forget();
  byId("content").hidden = true;
  byId("message").replaceChildren(message);
}

/** Clear the page, so that it never mixes two runs or snapshots. */
function forget() {
  findings = metrics = null;
  shown = {};
  byId("content").classList.add("pending");
  byId("verdict").setAttribute("aria-busy", "true");
  for (const card of cards) card.forget();
  examples.forget();
}

function showEmpty() {
  const text =
    "The lake holds no runs yet, so there is nothing to show. `prunelake demo` fills it with a " +
    "small sweep, `prunelake sweep --task boolq` with your own; `prunelake publish` brings new " +
    "runs to this page.";
  byId("controls").hidden = byId("entry").hidden = true;
  conceal(el("p", { class: "notice" }, ...words(text)));
  tell("The lake holds no runs yet.");
}

function showFooter({ snapshot, published_at: publishedAt, run_count: runCount, version }) {
  const held = `${count(runCount)} run${runCount === 1 ? "" : "s"}`;
  const date = publishedAt.slice(0, 16).replace("T", " ");
  byId("footer").replaceChildren(
    el("p", {}, `Snapshot ${snapshot} of ${held}, published ${date} UTC. PruneLake ${version}.`),
  );
}

function tell(text) {
  byId("status").textContent = text;
}

listen(change);
listenToSearch(find);
byId("keep").addEventListener("click", () => choose(withOther(choice, run.run, shown.level)));
byId("swap").addEventListener("click", () => choose(swapped(choice, run.run, shown.level)));
byId("remove").addEventListener("click", () => choose(withoutOther(choice)));
dark.addEventListener("change", show);
addEventListener("popstate", () => {
  choice = fromAddress();
  notes = notesOnAddress();
  show();
});
events.addEventListener("refused", () => {
  next();
  map.stop();
  isRefused = true;
  byId("controls").hidden = byId("entry").hidden = true;
  const again = () => {
    isRefused = false;
    runs = null;
    show();
  };
  conceal(tokenForm(again));
  byId("token").focus();
  tell("The server asks for a token.");
});
events.addEventListener("republished", () => {
  runs = null;
  map.stop();
  forgetAdvice();
  forgetPair();
  forget();
  notes = ["The lake was published again; the page shows the new snapshot."];
  show();
});
show();
prepare();
