// The examples of a run: a list, and one example with both models side by side.

import { Problem, address, json, latest } from "./api.js";
import { el, focusBeside, problemBox } from "./dom.js";
import { number } from "./numbers.js";
import { sideBySide } from "./sides.js";

/** The list and the example in their places; `choose(name, value)` gets the reader's choice. */
export class Examples {
  #section;
  #list;
  #place;
  #choose;
  #next = latest();
  #wanted = null;
  #asked = null;
  #listed = null;
  #names = null;
  #lines = [];
  #isNear = false;

  constructor(section, list, place, choose) {
    this.#section = section;
    this.#list = list;
    this.#place = place;
    this.#choose = choose;
    list.addEventListener("keydown", (event) => this.#move(event));
    const near = new IntersectionObserver(
      (entries) => {
        this.#isNear = entries.at(-1).isIntersecting;
        this.#load();
      },
      { rootMargin: "400px" },
    );
    near.observe(section);
  }

  /** Show a level of a run with this example; by default, with the first example of the list.
   *
   * `names` names the level and level 0.
   */
  want({ runId, level, example, method }, names) {
    this.#names = names;
    this.#wanted = { runId, level, example, method };
    if (JSON.stringify(this.#wanted) === this.#asked) return;
    this.#asked = null;
    this.#next();
    if (this.#listed !== `${runId} ${level}`) this.#list.replaceChildren();
    this.#pend();
    this.#load();
  }

  /** Show nothing. */
  forget() {
    this.#wanted = this.#asked = this.#listed = null;
    this.#next();
    this.#list.replaceChildren();
    this.#pend();
  }

  #pend() {
    this.#section.setAttribute("aria-busy", "true");
    this.#place.classList.add("pending");
  }

  async #load() {
    if (!this.#isNear || this.#wanted === null || this.#asked !== null) return;
    this.#asked = JSON.stringify(this.#wanted);
    const { runId, level, example, method } = this.#wanted;
    const signal = this.#next();
    try {
      if (this.#listed !== `${runId} ${level}`) await this.#loadList(runId, level, signal);
      const chosen = example ?? this.#lines[0]?.example_id;
      this.#mark(chosen);
      if (chosen === undefined) {
        const text = "The lake holds no examples of this run: it was imported without them.";
        this.#place.replaceChildren(el("p", { class: "soft" }, text));
      } else {
        const found = await this.#found(runId, chosen, level, method, signal);
        this.#place.replaceChildren(...sideBySide(found, method, this.#names, this.#choose));
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      this.#place.replaceChildren(problemBox(error, () => this.#again()));
    }
    this.#section.removeAttribute("aria-busy");
    this.#place.classList.remove("pending");
  }

  #again() {
    this.#asked = null;
    this.#pend();
    this.#load();
  }

  async #found(runId, chosen, level, method, signal) {
    const path = `/examples/${runId}/${chosen.split("/").map(encodeURIComponent).join("/")}`;
    try {
      return await json(address(path, { level, method }), signal);
    } catch (error) {
      // The method was chosen for another example: show this one by its own method, and name it.
      if (error.code !== "not_found" || method === undefined) throw error;
      return json(address(path, { level }), signal);
    }
  }

  async #loadList(runId, level, signal) {
    const { examples } = await json(address(`/examples/${runId}`, { level }), signal);
    this.#lines = examples;
    this.#listed = `${runId} ${level}`;
    this.#list.replaceChildren(
      el("ol", { "aria-label": "Examples" }, ...examples.map((line) => this.#line(line))),
    );
  }

  #line(line) {
    const change = `${number(line.unpruned_confidence)} → ${number(line.confidence)}`;
    const button = el(
      "button",
      {
        type: "button",
        "data-example": line.example_id,
        onclick: () => this.#choose("example", line.example_id),
      },
      el("span", { class: "excerpt", dir: "auto" }, (line.prompt ?? "").replace(/\s+/g, " ")),
      el(
        "span",
        { class: "facts" },
        line.flip_kind ? el("span", { class: "badge flip" }, `${line.flip_kind} flip`) : null,
        line.is_explained ? el("span", { class: "badge explained" }, "explained") : null,
        el("span", { class: "soft" }, `confidence ${change}`),
      ),
    );
    return el("li", {}, button);
  }

  #mark(chosen) {
    for (const button of this.#list.querySelectorAll("button")) {
      const isChosen = button.dataset.example === chosen;
      if (isChosen) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  #move(event) {
    const buttons = [...this.#list.querySelectorAll("button")];
    focusBeside(event, buttons, "ArrowUp", "ArrowDown");
  }
}
