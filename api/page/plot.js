// The drawing of one chart of one run: its picture, its files, and the SQL behind it.

import { Problem, address, ask, hasToken } from "./api.js";
import { copied, el, problemBox, sentence } from "./dom.js";

/** The growth of a chart beyond its drawn size; equal for all, so that letters have one size. */
const GROWTH = 1.2;

/** A chart of one run; `linkTo(hash)` gives the address of the page that shows it. */
export class Plot {
  #name;
  #linkTo;
  #asked = {};
  #picture = null;
  #subject = el("h4", {});
  #paper = el("div", { class: "paper" });
  #links = el("p", { class: "links" });
  #note = el("p", { class: "soft note", role: "status" });
  #sql = el("code");
  #details = el(
    "details",
    {},
    el("summary", {}, "SQL behind it"),
    el("pre", { tabindex: "0", "aria-label": "SQL" }, this.#sql),
  );

  constructor(name, linkTo) {
    this.#name = name;
    this.#linkTo = linkTo;
    const parts = [this.#subject, this.#paper, this.#links, this.#note, this.#details];
    this.element = el("div", { class: "plot" }, ...parts);
    this.want({}, null);
  }

  /** Wait for the chart with these parameters; `subject` names its run if there are two. */
  want(asked, subject) {
    this.#asked = asked;
    this.#subject.replaceChildren(subject ?? "");
    this.#subject.hidden = subject === null;
    this.#note.replaceChildren();
  }

  get width() {
    return this.#paper.clientWidth;
  }

  address(format) {
    return address(`/charts/${this.#name}.${format}`, this.#asked);
  }

  /** Show a drawing; rejects with a Problem if the browser cannot. */
  async show(drawing, alt, sql, signal) {
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
    // Letters never shrink: a chart that is wider than the screen scrolls.
    picture.style.setProperty("min-width", `${picture.naturalWidth}px`);
    if (this.#picture) URL.revokeObjectURL(this.#picture.src);
    this.#picture = picture;
    this.#paper.replaceChildren(picture);
    this.#letScroll(alt);
    this.#sql.textContent = sql;
    this.#links.replaceChildren(...this.#ways());
    this.#settle(true);
  }

  /** Show the reason why there is no drawing. */
  fail(problem, again) {
    const isMissing = problem.code === "nothing_to_show";
    this.#paper.replaceChildren(
      isMissing
        ? el("p", { class: "soft" }, ...sentence(problem.message))
        : problemBox(problem, again),
    );
    this.#settle(false);
  }

  /** Only a chart that scrolls can be reached by keyboard. */
  #letScroll(alt) {
    const isWide = this.#paper.scrollWidth > this.#paper.clientWidth;
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", alt]]) {
      if (isWide) this.#paper.setAttribute(name, value);
      else this.#paper.removeAttribute(name);
    }
  }

  #settle(isDrawn) {
    this.element.classList.toggle("missing", !isDrawn);
    this.#details.hidden = this.#links.hidden = !isDrawn;
  }

  #ways() {
    const file = (format, name) =>
      el(
        "a",
        {
          href: this.address(format),
          target: "_blank",
          rel: "noopener",
          onclick: (event) => this.#download(event, format),
        },
        name,
      );
    const copy = (name, url, told) =>
      el("button", { type: "button", onclick: () => copied(url(), told, this.#note) }, name);
    return [
      file("svg", "SVG"),
      file("png", "PNG"),
      file("html", "Interactive"),
      file("json", "Data"),
      copy("Copy link", () => this.#linkTo(`#chart-${this.#name}`), "The link to this page is copied."),
      copy(
        "Copy picture address",
        () => new URL(this.address("svg"), location.href).href,
        "The address of the SVG is copied.",
      ),
    ].flatMap((way) => [way, " "]);
  }

  /** A link cannot carry the reader's token: with a token, the file is fetched and saved. */
  async #download(event, format) {
    if (!hasToken()) return;
    event.preventDefault();
    try {
      const file = await (await ask(this.address(format))).blob();
      const url = URL.createObjectURL(file);
      el("a", { href: url, download: `${this.#name}.${format}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      this.#note.replaceChildren(error.message);
    }
  }
}
