// The examples of a run: a list to pick from, and one of them with both models side by side.

import { Problem, address, json, latest } from "./api.js";
import { el, number, problemBox, signed } from "./dom.js";

/** The list and the example in their places; `choose(name, value)` is told of the reader's choice. */
export class Examples {
  #section;
  #list;
  #place;
  #choose;
  #next = latest();
  #wanted = null;
  #asked = null;
  #listed = null;
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

  /** Show a level of a run, and this example of it; the first in the list where none is named. */
  want({ runId, level, example, method }) {
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
        this.#place.replaceChildren(...this.#sides(found, method));
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
      // The method was chosen for another example; what explains this one is shown, and named.
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
      el("span", { class: "excerpt" }, line.prompt.replace(/\s+/g, " ")),
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

  #sides(found, method) {
    const gold = found.options[found.gold];
    const flip = flipOf(found);
    return [
      el(
        "div",
        { class: "about" },
        el("h3", {}, `Example ${found.example_id}`),
        flip ? el("span", { class: "badge flip" }, `${flip} flip`) : null,
        el("p", {}, "Right answer: ", el("strong", {}, quoted(gold))),
        this.#methods(found),
      ),
      method && method !== found.method
        ? el("p", { class: "notice" }, `This example is not explained by ${method}.`)
        : null,
      found.tokens.length ? null : el("p", { class: "prompt" }, found.prompt),
      el(
        "div",
        { class: "sides" },
        side(found, "Unpruned", found.unpruned, "unpruned"),
        side(found, `Level ${found.level}`, found.pruned, "pruned"),
      ),
      found.tokens.length
        ? el(
            "p",
            { class: "soft note" },
            "Tokens ",
            el("span", { class: "token positive legend" }, "for"),
            " the model's own answer are blue over a solid line, those ",
            el("span", { class: "token negative legend" }, "against"),
            " it orange over a dashed one; the deeper, the nearer to the largest score of that ",
            "side. Scores are nats of log-likelihood, seeds averaged.",
          )
        : el("p", { class: "soft note" }, "No method explains this example: its tokens have no scores."),
      options(found),
    ].filter(Boolean);
  }

  #methods(found) {
    if (found.methods.length < 2) {
      return found.method ? el("p", { class: "soft" }, `Explained by ${found.method}`) : null;
    }
    const select = el(
      "select",
      {
        id: "method",
        autocomplete: "off",
        onchange: (event) => this.#choose("method", event.target.value),
      },
      ...found.methods.map((name) =>
        el("option", { value: name, selected: name === found.method }, name),
      ),
    );
    return el("label", { class: "field" }, "Explained by ", select);
  }
}

/** harmful, beneficial or neutral where the models predict differently. */
function flipOf({ unpruned, pruned }) {
  if (!unpruned || !pruned || unpruned.prediction === pruned.prediction) return null;
  if (unpruned.is_correct === pruned.is_correct) return "neutral";
  return unpruned.is_correct ? "harmful" : "beneficial";
}

function quoted(text) {
  return `“${text.trim()}”`;
}

function side(found, name, answer, which) {
  if (!answer || answer.prediction === null) {
    return el(
      "article",
      { class: "card side", "data-side": which },
      el("h4", {}, name),
      el("p", { class: "soft" }, "No prediction could be scored."),
    );
  }
  const predicted = quoted(found.options[answer.prediction]);
  const verdict = answer.is_correct
    ? el("span", { class: "badge right" }, "✓ right")
    : el("span", { class: "badge wrong" }, "✗ wrong");
  return el(
    "article",
    { class: "card side", "data-side": which },
    el("h4", {}, name),
    el("p", { class: "answer" }, el("strong", {}, predicted), " ", verdict),
    el("p", { class: "confidence" }, "Confidence ", el("strong", {}, number(answer.confidence))),
    ...tokens(found.tokens, which, predicted),
  );
}

/** The prompt with each token's score, relative to the largest of this side. */
function tokens(all, which, predicted) {
  if (!all.length) return [];
  const scores = all.map((token) => token[which]);
  if (scores.every((score) => score === null)) {
    return [
      el("p", { class: "prompt" }, all.map((token) => token.token).join("")),
      el("p", { class: "soft note" }, "Not explained at this level."),
    ];
  }
  const largest = Math.max(...scores.map((score) => Math.abs(score ?? 0)));
  const hint = "Point at a token, or go through them by the arrow keys, to read its score.";
  const readout = el("p", { class: "soft note readout", "aria-live": "polite" }, hint);
  const spaced = all.map(({ token }) => token.match(/^( +)?(.*)$/s));
  const marked = all.map(({ token }, i) => {
    const score = scores[i];
    const part = largest ? Math.abs(score ?? 0) / largest : 0;
    const kind = !score ? "none" : score > 0 ? "positive" : "negative";
    const text = score === null ? "no score" : signed(score);
    const tell = () => {
      const share = `${Math.round(100 * part)} % of the largest`;
      const says = kind === "negative" ? "against" : "for";
      readout.textContent = score
        ? `${quoted(token)}: ${text} ${says} ${predicted}, ${share}`
        : `${quoted(token)}: ${text}`;
    };
    const span = el(
      "span",
      {
        class: `token ${kind}`,
        tabindex: i ? "-1" : "0",
        title: text,
        onfocus: tell,
        onmouseenter: tell,
      },
      spaced[i][2].replaceAll("\n", "↵\n"),
      el("span", { class: "visually-hidden" }, ` ${text} `),
    );
    span.style.setProperty("--strength", part.toFixed(3));
    return span;
  });
  const strip = el(
    "p",
    {
      class: "prompt tokens",
      role: "group",
      "aria-label": "Tokens with their scores; arrow keys go from one to the next",
      onkeydown: (event) => focusBeside(event, marked, "ArrowLeft", "ArrowRight"),
    },
    // The space in front of a word is part of its token, but only the word is marked.
    ...marked.flatMap((span, i) => [spaced[i][1] ?? "", span]),
  );
  return [strip, readout];
}

function options(found) {
  const probability = (answer, i) => number(answer?.probabilities?.[i]);
  const cell = (answer, i) =>
    el("td", { class: answer?.prediction === i ? "predicted" : null }, probability(answer, i));
  const columns = ["Option", "Unpruned", `Level ${found.level}`];
  const head = el("tr", {}, ...columns.map((text) => el("th", { scope: "col" }, text)));
  const rows = found.options.map((option, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, option.trim(), i === found.gold ? " (right answer)" : ""),
      cell(found.unpruned, i),
      cell(found.pruned, i),
    ),
  );
  const name = "Probability of each option; bold is the model's answer";
  return el(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": name },
    el("table", {}, el("caption", {}, name), el("thead", {}, head), el("tbody", {}, ...rows)),
  );
}

/** Move the focus along a row of elements by two arrow keys, Home and End. */
function focusBeside(event, all, back, forth) {
  const at = all.indexOf(document.activeElement);
  const last = all.length - 1;
  const to = { [back]: at - 1, [forth]: at + 1, Home: 0, End: last }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const target = all[Math.min(Math.max(to, 0), last)];
  if (target.tabIndex < 0) {
    all[at].tabIndex = -1;
    target.tabIndex = 0;
  }
  target.focus();
}
