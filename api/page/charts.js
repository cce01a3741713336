// Cards of charts: each chart is fetched and drawn when it comes near the screen.

import { Problem, json, latest } from "./api.js";
import { draw, drawTogether } from "./draw.js";
import { el } from "./dom.js";
import { Plot } from "./plot.js";

/** A chart is drawn when it is this close to the screen. */
const NEAR = "600px";

/** One chart of the server's list, drawn for the last call of `want`, for one run or for two. */
class Card {
  #info;
  #next = latest();
  #linkTo;
  #wanted = null;
  #asked = null;
  #isNear = false;
  #plots = [];
  #heading = el("h3", {});
  #place = el("div", { class: "plots" });

  constructor(info, next, linkTo) {
    this.#info = info;
    this.#linkTo = linkTo;
    this.#heading.textContent = info.caption.replace(/\.$/, "");
    this.element = el(
      "article",
      { class: "card chart", "data-chart": info.name, id: `chart-${info.name}`, tabindex: "-1" },
      el("a", { class: "skip-chart", href: next }, "Skip this chart"),
      this.#heading,
      this.#place,
    );
    this.#fit(1);
    this.#pend();
  }

  set isNear(value) {
    this.#isNear = value;
    this.#load();
  }

  /** Show these runs, each `{ runId, kind, level, name }`, in this theme.
   *
   * The chart takes the level and the metric only if it depends on them.
   */
  want(sides, metric, theme) {
    const wanted = sides.map(({ runId, level }) => {
      const chosen = { level, metric };
      const asked = { run_id: runId };
      for (const name of this.#info.takes) asked[name] = chosen[name];
      if (theme === "dark") asked.theme = theme;
      return asked;
    });
    if (JSON.stringify(wanted) === this.#asked) return;
    this.#wanted = wanted;
    this.#heading.textContent = this.#caption(sides[0].kind).replace(/\.$/, "");
    this.#fit(sides.length);
    this.#plots.forEach((plot, i) => plot.want(wanted[i], sides.length > 1 ? sides[i].name() : null));
    this.#next();
    this.#pend();
    this.#load();
  }

  /** Show nothing, and keep the place. */
  forget() {
    this.#wanted = null;
    this.#next();
    this.#pend();
  }

  #caption(kind) {
    return kind === "candidate" ? this.#info.candidate_caption : this.#info.caption;
  }

  #fit(count) {
    while (this.#plots.length < count) this.#plots.push(new Plot(this.#info.name, this.#linkTo));
    this.#plots.length = count;
    if (this.#place.childElementCount !== count) {
      this.#place.replaceChildren(...this.#plots.map((plot) => plot.element));
    }
  }

  #pend() {
    this.#asked = null;
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.add("pending");
  }

  async #load() {
    if (!this.#isNear || this.#wanted === null || this.#asked !== null) return;
    this.#asked = JSON.stringify(this.#wanted);
    const signal = this.#next();
    const answers = await Promise.all(
      this.#plots.map((plot) => json(plot.address("json"), signal).catch((error) => error)),
    );
    try {
      const drawings = await this.#drawn(answers, signal);
      for (const [i, plot] of this.#plots.entries()) {
        await this.#put(plot, answers[i], drawings[i], signal);
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      throw error;
    }
    this.element.removeAttribute("aria-busy");
    this.element.classList.remove("pending");
  }

  /** The drawings of all specs, with shared axes if there are two; a Problem in place of one. */
  async #drawn(answers, signal) {
    const failure = answers.find((answer) => answer instanceof Error && !(answer instanceof Problem));
    if (failure) throw failure;
    const widths = this.#plots.map((plot) => plot.width);
    const isPair = answers.length > 1 && !answers.some((answer) => answer instanceof Problem);
    try {
      if (isPair) return await drawTogether(answers, widths, signal);
      const drawn = answers.map((spec, i) =>
        spec instanceof Problem ? spec : draw(spec, widths[i], signal),
      );
      return await Promise.all(drawn);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return answers.map(() => error);
    }
  }

  async #put(plot, spec, drawing, signal) {
    try {
      if (drawing instanceof Problem) throw drawing;
      const alt = `${this.#heading.textContent}. ${titleOf(spec)}`;
      await plot.show(drawing, alt, spec.usermeta.prunelake.sql, signal);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      plot.fail(error, () => this.#again());
    }
  }

  #again() {
    this.#pend();
    this.#load();
  }
}

function titleOf(spec) {
  const { text: title = "", subtitle = "" } = spec.title ?? {};
  return [title, subtitle].flat().filter(Boolean).join(" ");
}

/** The cards of all charts in `place`, one after another in the shortest column.
 *
 * `linkTo(hash)` gives the address of the page as it is shown, at a part of it.
 */
export function cardsIn(place, infos, linkTo) {
  const links = [...infos.slice(1).map(({ name }) => `#chart-${name}`), "#examples"];
  const cards = infos.map((info, i) => new Card(info, links[i], linkTo));
  const of = new Map(cards.map((card) => [card.element, card]));
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) of.get(entry.target).isNear = entry.isIntersecting;
    },
    { rootMargin: NEAR },
  );
  const resized = new ResizeObserver((entries) => {
    for (const { target, borderBoxSize } of entries) {
      const rows = Math.ceil(borderBoxSize[0].blockSize) + 16;
      target.parentElement.style.setProperty("grid-row-end", `span ${rows}`);
    }
  });
  place.replaceChildren(...cards.map((card) => el("div", {}, card.element)));
  for (const card of cards) {
    near.observe(card.element);
    resized.observe(card.element);
  }
  return cards;
}
