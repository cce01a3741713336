// Cards of charts: each chart is fetched and drawn when it comes near the screen.

import { Problem, address, ask, hasToken, json, latest } from "./api.js";
import { draw } from "./draw.js";
import { el, problemBox, sentence } from "./dom.js";

/** The growth of a chart beyond its drawn size; equal for all, so that letters have one size. */
const GROWTH = 1.2;

/** A chart is drawn when it is this close to the screen. */
const NEAR = "600px";

/** One chart of the server's list, drawn for the last call of `want`. */
class Card {
  #info;
  #next = latest();
  #wanted = null;
  #asked = null;
  #isNear = false;
  #picture = el("img", { class: "picture", alt: "" });
  #paper = el("div", { class: "paper" });
  #links = el("p", { class: "links" });
  #sql = el("code");
  #details = el(
    "details",
    {},
    el("summary", {}, "SQL behind it"),
    el("pre", { tabindex: "0", "aria-label": "SQL" }, this.#sql),
  );
  #caption = "";
  #heading = el("h3", {});
  #note = el("p", { class: "soft note", role: "status" });

  constructor(info, next) {
    this.#info = info;
    this.#heading.textContent = info.caption.replace(/\.$/, "");
    this.element = el(
      "article",
      { class: "card chart", "data-chart": info.name, id: `chart-${info.name}`, tabindex: "-1" },
      el("a", { class: "skip-chart", href: next }, "Skip this chart"),
      this.#heading,
      this.#paper,
      this.#links,
      this.#note,
      this.#details,
    );
    this.#paper.append(this.#picture);
    this.#pend();
  }

  set isNear(value) {
    this.#isNear = value;
    this.#load();
  }

  /** Show this run (and level and metric, if the chart takes them) in this theme. */
  want({ runId, kind, level, metric, theme }) {
    this.#caption = kind === "candidate" ? this.#info.candidate_caption : this.#info.caption;
    this.#heading.textContent = this.#caption.replace(/\.$/, "");
    const chosen = { level, metric };
    this.#wanted = { run_id: runId };
    for (const name of this.#info.takes) this.#wanted[name] = chosen[name];
    if (theme === "dark") this.#wanted.theme = theme;
    if (JSON.stringify(this.#wanted) !== this.#asked) {
      this.#next();
      this.#pend();
      this.#load();
    }
  }

  /** Show nothing, and keep the place. */
  forget() {
    this.#wanted = null;
    this.#next();
    this.#pend();
  }

  #address(format) {
    return address(`/charts/${this.#info.name}.${format}`, this.#wanted);
  }

  #pend() {
    this.#asked = null;
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.add("pending");
    this.#note.replaceChildren();
  }

  async #load() {
    if (!this.#isNear || this.#wanted === null || this.#asked !== null) return;
    this.#asked = JSON.stringify(this.#wanted);
    const signal = this.#next();
    try {
      const spec = await json(this.#address("json"), signal);
      await this.#show(await draw(spec, this.#paper.clientWidth, signal), `${this.#caption} ${titleOf(spec)}`, signal);
      this.#sql.textContent = spec.usermeta.prunelake.sql;
      this.#settle(true);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      const isMissing = error.code === "nothing_to_show";
      this.#paper.replaceChildren(
        isMissing
          ? el("p", { class: "soft" }, ...sentence(error.message))
          : problemBox(error, () => this.#again()),
      );
      this.#settle(false);
    }
  }

  async #show(drawing, alt, signal) {
    const url = URL.createObjectURL(new Blob([drawing], { type: "image/svg+xml" }));
    const picture = el("img", { class: "picture", src: url, alt });
    try {
      await picture.decode();
      signal.throwIfAborted();
    } catch (error) {
      URL.revokeObjectURL(url);
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "undrawable", "the browser cannot draw this chart");
    }
    picture.style.setProperty("max-width", `${GROWTH * picture.naturalWidth}px`);
    URL.revokeObjectURL(this.#picture.src);
    this.#picture = picture;
    this.#paper.replaceChildren(picture);
  }

  #settle(isDrawn) {
    this.element.removeAttribute("aria-busy");
    this.element.classList.remove("pending");
    this.element.classList.toggle("missing", !isDrawn);
    this.#details.hidden = this.#links.hidden = !isDrawn;
    if (isDrawn) this.#links.replaceChildren(...this.#ways());
  }

  #again() {
    this.#pend();
    this.#load();
  }

  #ways() {
    const file = (format, name) =>
      el(
        "a",
        {
          href: this.#address(format),
          target: "_blank",
          rel: "noopener",
          onclick: (event) => this.#download(event, format),
        },
        name,
      );
    const copy = el("button", { type: "button", onclick: () => this.#copy() }, "Copy link");
    const ways = [file("svg", "SVG"), file("png", "PNG"), file("html", "Interactive")];
    return [...ways, file("json", "Data"), copy].flatMap((way) => [way, " "]);
  }

  /** A link cannot carry the reader's token: with a token, the file is fetched and saved. */
  async #download(event, format) {
    if (!hasToken()) return;
    event.preventDefault();
    try {
      const file = await (await ask(this.#address(format))).blob();
      const url = URL.createObjectURL(file);
      el("a", { href: url, download: `${this.#info.name}.${format}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      this.#note.replaceChildren(error.message);
    }
  }

  async #copy() {
    const url = new URL(this.#address("svg"), location.href).href;
    try {
      await navigator.clipboard.writeText(url);
      this.#note.replaceChildren("The address of the SVG is copied.");
    } catch {
      // Browsers give only secure pages the clipboard.
      const field = el("input", { readonly: true, value: url, "aria-label": "Address of the SVG" });
      this.#note.replaceChildren(field);
      field.select();
    }
  }
}

function titleOf(spec) {
  const { text: title = "", subtitle = "" } = spec.title ?? {};
  return [title, subtitle].flat().filter(Boolean).join(" ");
}

/** The cards of all charts in `place`, one after another in the shortest column. */
export function cardsIn(place, infos) {
  const links = [...infos.slice(1).map(({ name }) => `#chart-${name}`), "#examples"];
  const cards = infos.map((info, i) => new Card(info, links[i]));
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
