// The recommendation for the shown model: how much to remove, and the reasons against more.

import { Problem, address, json, latest } from "./api.js";
import { el, sentence } from "./dom.js";

const next = latest();
let shown = null;

/** Show the recommendation for a model in `place`; a model that has it is not asked again. */
export async function showAdvice(place, model) {
  if (shown === model) return;
  shown = model;
  const signal = next();
  place.setAttribute("aria-busy", "true");
  try {
    const advice = await json(address("/recommendations", { model }), signal);
    place.replaceChildren(
      ...advice.sentences.map((text) => el("p", {}, text)),
      listed("What would change this answer", advice.changes),
      listed("Limits", advice.caveats),
    );
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    place.replaceChildren(el("p", { class: "soft" }, ...sentence(error.message)));
  }
  place.removeAttribute("aria-busy");
}

/** Forget the recommendation: the snapshot has changed. */
export function forgetAdvice() {
  next();
  shown = null;
}

function listed(name, texts) {
  if (texts.length === 0) return "";
  const items = texts.map((text) => el("li", {}, text));
  return el("details", {}, el("summary", {}, name), el("ul", {}, ...items));
}
