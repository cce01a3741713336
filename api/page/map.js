// The map of verdicts: each level of each run by its worst verdict, with a link to it.

import { Problem, json, latest } from "./api.js";
import { el, isolated, problemBox } from "./dom.js";
import { count } from "./numbers.js";
import { addVerdicts, namesOf } from "./state.js";

/** The mark, the colour and the meaning of the verdicts on a level. */
const VERDICTS = {
  "hidden degradation": ["!", "hidden", "a metric is worse while accuracy is stable"],
  worse: ["w", "worse", "a metric is worse while accuracy is inconclusive or rises"],
  "visible degradation": ["v", "visible", "accuracy falls"],
  improved: ["+", "improved", "accuracy rises, nothing is shown to be worse"],
  equivalent: ["=", "equivalent", "accuracy is stable, nothing is shown to be worse"],
  inconclusive: ["?", "inconclusive", "the verdict on accuracy is open"],
  null: ["–", "inconclusive", "published without examples"],
};

/** Runs in the list at first, and with each request for more. */
const FIRST = 8;
const MORE = 50;

/** The map in the entry of the page; `open(runId, level)` gets the chosen cell. */
export class VerdictMap {
  #entry;
  #outline;
  #place;
  #open;
  #next = latest();
  #wanted = [[], []];
  #all = 0;
  #runs = [];
  #count = FIRST;
  #shown = null;

  constructor(entry, open) {
    this.#entry = entry;
    this.#outline = entry.querySelector("h2");
    this.#place = entry.querySelector("#runs");
    this.#open = open;
  }

  /** Add the verdicts to all runs, and show them; resolves also if the server cannot.
   *
   * In a large lake this takes longer than the verdict and the charts of one run, so these do not
   * wait for it.
   */
  async load(runs) {
    const signal = this.#next();
    const expected = runs.filter((run) => run.levels.some((level) => level > 0)).length;
    this.#entry.hidden = expected === 0;
    this.#outline.textContent = "All runs";
    this.#place.style.setProperty("--rows", Math.min(expected, FIRST));
    this.#place.setAttribute("aria-busy", "true");
    this.#place.replaceChildren();
    this.#shown = null;
    this.#all = 0;
    try {
      const map = await json("/map", signal);
      addVerdicts(runs, map);
      this.#all = map.runs.length;
      this.#outline.textContent = `${map.outline}.`;
      this.#entry.hidden = this.#all === 0;
      this.show(...this.#wanted);
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) return;
      if (!(error instanceof Problem)) throw error;
      this.#place.replaceChildren(problemBox(error, () => this.load(runs)));
    }
    this.#place.removeAttribute("aria-busy");
  }

  /** Wait for the verdicts no more: they are those of an older snapshot, or refused. */
  stop() {
    this.#next();
    this.#wanted = [[], []];
  }

  /** List these runs, with the cells of the shown levels marked: texts of run id and level. */
  show(runs, shown) {
    this.#wanted = [runs, shown];
    if (this.#all === 0) return;
    const mapped = runs.filter((run) => run.verdicts).sort((a, b) => a.rank - b.rank);
    const asked = JSON.stringify([shown, mapped.map((run) => run.run)]);
    if (asked === this.#shown) return;
    this.#shown = asked;
    if (this.#runs.length !== mapped.length) this.#count = FIRST;
    this.#runs = mapped;
    this.#draw(shown);
  }

  #draw(shown) {
    const listed = this.#runs.slice(0, this.#count);
    const removals = listed.filter((run) => run.kind === "removal");
    const levels = [...new Set(removals.flatMap((run) => run.levels))].filter((level) => level > 0);
    levels.sort((a, b) => a - b);
    const rest = this.#runs.length - listed.length;
    const more = () => {
      this.#count += MORE;
      this.#draw(shown);
      this.#place.querySelectorAll("ol > li")[listed.length].querySelector("a").focus();
    };
    const isPart = this.#runs.length < this.#all;
    const found = `${count(this.#runs.length)} of ${count(this.#all)} runs match.`;
    this.#place.replaceChildren(
      el("ol", { "aria-label": "Runs" }, ...listed.map((run) => this.#row(run, levels, shown))),
      rest
        ? el("button", { type: "button", onclick: more }, `Show ${Math.min(MORE, rest)} of ${count(rest)} more runs`)
        : "",
      legend(listed),
      isPart ? el("p", { class: "soft note" }, found) : "",
    );
  }

  #row(run, levels, shown) {
    const isRemoval = run.kind === "removal";
    const cells = run.verdicts.map((verdict, i) =>
      this.#cell(run, run.mapped[i], verdict, isRemoval ? levels.indexOf(run.mapped[i]) + 1 : null, shown),
    );
    const facts = [isRemoval ? run.strategy || "order not known" : "candidates"];
    if (run.example_count) facts.push(`${count(run.example_count)} examples`);
    const strip = el("div", { class: isRemoval ? "strip" : "strip candidates" }, ...cells);
    strip.style.setProperty("--columns", levels.length);
    return el(
      "li",
      {},
      el(
        "div",
        {},
        el("strong", {}, isolated(run.model), ", ", isolated(run.task)),
        el("span", { class: "soft" }, ` · ${facts.join(" · ")}`),
        el("p", { class: "note" }, `${run.finding}.`),
      ),
      strip,
    );
  }

  #cell(run, level, verdict, column, shown) {
    const [mark, style] = VERDICTS[verdict];
    const name = namesOf(run, String(level)).level;
    const short = run.kind === "removal" ? String(level) : name;
    const link = el(
      "a",
      {
        class: `cell ${style}`,
        href: `?${new URLSearchParams({ run_id: run.run, level })}#verdict`,
        title: `${name}: ${verdict ?? "no verdict"}`,
        "aria-current": shown.includes(`${run.run} ${level}`) ? "true" : null,
        onclick: (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          this.#open(run.run, String(level));
        },
      },
      el("span", { "aria-hidden": "true" }, mark),
      el("small", { "aria-hidden": "true" }, isolated(short)),
      el("span", { class: "visually-hidden" }, isolated(name), `: ${verdict ?? "no verdict"}`),
    );
    if (column) link.style.setProperty("--column", column);
    return link;
  }
}

function legend(runs) {
  const found = new Set(runs.flatMap((run) => run.verdicts.map(String)));
  const items = Object.entries(VERDICTS)
    .filter(([verdict]) => found.has(verdict))
    .map(([, [mark, style, meaning]]) =>
      el("li", {}, el("span", { class: `cell ${style}`, "aria-hidden": "true" }, mark), ` ${meaning}`),
    );
  return el("ul", { class: "legend soft", "aria-label": "Meaning of the marks" }, ...items);
}
