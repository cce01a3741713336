// Small helpers that build the page; all text is inserted as text, never as markup.

/** An element with properties (`class`, `data-*` and `aria-*` as attributes) and children. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A name of the data; in a right-to-left script it keeps the words around it in order. */
export function isolated(name) {
  return el("bdi", {}, name);
}

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/** The same for text without markup: isolates around a name in a right-to-left script. */
export function inOrder(name) {
  return RIGHT_TO_LEFT.test(name) ? `\u2068${name}\u2069` : name;
}

/** A message of the server; text between backticks is code. */
export function words(text) {
  return text
    .split("`")
    .map((part, i) => (i % 2 ? el("code", {}, part) : document.createTextNode(part)));
}

/** A message of the server as a sentence. */
export function sentence(message) {
  return words(`${message[0].toUpperCase()}${message.slice(1)}.`);
}

/** The label of a metric. */
export function label(metric) {
  const text = metric
    .replaceAll("_", " ")
    .replace(/\b(ece|nll|auroc|aurc|kl)\b/g, (name) => name.toUpperCase());
  return text[0].toUpperCase() + text.slice(1);
}

/** Copy a text, and tell so in `note`; without the right to copy, the reader gets it to copy. */
export async function copied(text, told, note) {
  try {
    await navigator.clipboard.writeText(text);
    note.replaceChildren(told);
  } catch {
    // Browsers give only secure pages the clipboard.
    const field = el("input", { readonly: true, value: text, "aria-label": "Text to copy" });
    note.replaceChildren(field);
    field.select();
  }
}

/** An error in words, with the possible choices, and a button to try again. */
export function problemBox(problem, again) {
  const shown = problem.choices.slice(0, 12);
  const more = problem.choices.length - shown.length;
  return el(
    "div",
    { class: "notice problem", role: "alert" },
    el("p", {}, ...sentence(problem.message)),
    shown.length > 0
      ? el(
          "ul",
          { "aria-label": "What there is" },
          ...shown.map((choice) => el("li", {}, choice)),
          more > 0 ? el("li", {}, `and ${more} more`) : null,
        )
      : null,
    again ? el("button", { type: "button", onclick: again }, "Try again") : null,
  );
}

/** Move the focus along a row of elements with two arrow keys, Home and End. */
export function focusBeside(event, all, back, forth) {
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
