// One example: the answers of both models, and the tokens behind them.

import { el, focusBeside, inOrder, isolated, sentence } from "./dom.js";
import { number, percent, signed } from "./numbers.js";

/** An example with both models side by side, by their names; `choose` gets another method. */
export function sideBySide(found, method, names, choose) {
  const [baseline, level] = names.heads;
  const gold = found.options[found.gold];
  const flip = flipOf(found);
  return [
    el(
      "div",
      { class: "about" },
      el("h3", {}, "Example ", isolated(found.example_id)),
      flip ? el("span", { class: "badge flip" }, `${flip} flip`) : null,
      el("p", {}, "Right answer: ", el("strong", {}, gold === undefined ? "unknown" : quoted(gold))),
      methods(found, choose),
    ),
    method && method !== found.method
      ? el("p", { class: "notice" }, `This example is not explained by ${method}.`)
      : null,
    found.tokens.length || !found.prompt ? null : el("p", { class: "prompt", dir: "auto" }, found.prompt),
    el(
      "div",
      { class: "sides" },
      side(found, baseline, found.unpruned, "unpruned"),
      side(found, level, found.pruned, "pruned"),
    ),
    found.tokens.length
      ? el(
          "p",
          { class: "soft note" },
          "Tokens ",
          el("span", { class: "token positive legend" }, "for"),
          " the model's own answer are blue with a solid line; tokens ",
          el("span", { class: "token negative legend" }, "against"),
          " it are orange with a dashed line. A deeper colour means a larger score, relative to the ",
          "largest score of that side. Scores are nats of log-likelihood, averaged over seeds.",
        )
      : el("p", { class: "soft note" }, "No method explains this example: its tokens have no scores."),
    options(found, names),
  ].filter(Boolean);
}

function methods(found, choose) {
  if (found.methods.length < 2) {
    return found.method ? el("p", { class: "soft" }, `Explained by ${found.method}`) : null;
  }
  const select = el(
    "select",
    {
      id: "method",
      autocomplete: "off",
      onchange: (event) => choose("method", event.target.value),
    },
    ...found.methods.map((name) =>
      el("option", { value: name, selected: name === found.method }, name),
    ),
  );
  return el("label", { class: "field" }, "Explained by ", select);
}

/** harmful, beneficial or neutral where the models predict differently. */
function flipOf({ unpruned, pruned }) {
  if (!unpruned || !pruned || unpruned.prediction === pruned.prediction) return null;
  if (unpruned.is_correct === pruned.is_correct) return "neutral";
  return unpruned.is_correct ? "harmful" : "beneficial";
}

function quoted(text) {
  return `“${inOrder(text.trim())}”`;
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
    ...tokens(found, which, predicted),
  );
}

/** The prompt with each token's score, relative to the largest score of this side. */
function tokens({ tokens: all, tokens_note: note }, which, predicted) {
  if (!all.length) return [];
  const scores = all.map((token) => token[which]);
  if (scores.every((score) => score === null)) {
    return [
      el("p", { class: "prompt", dir: "auto" }, all.map((token) => token.token).join("")),
      el("p", { class: "soft note" }, ...(note ? sentence(note) : ["Not explained at this level."])),
    ];
  }
  const largest = Math.max(...scores.map((score) => Math.abs(score ?? 0)));
  const hint = "Point at a token, or use the arrow keys, to read its score.";
  const readout = el("p", { class: "soft note readout", "aria-live": "polite" }, hint);
  const spaced = all.map(({ token }) => token.match(/^( +)?(.*)$/s));
  const marked = all.map(({ token }, i) => {
    const score = scores[i];
    const part = largest ? Math.abs(score ?? 0) / largest : 0;
    const kind = !score ? "none" : score > 0 ? "positive" : "negative";
    const text = score === null ? "no score" : signed(score);
    const tell = () => {
      const share = `${percent(part)} of the largest`;
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
      dir: "auto",
      role: "group",
      "aria-label": "Tokens with their scores; arrow keys go to the next token",
      onkeydown: (event) => focusBeside(event, marked, "ArrowLeft", "ArrowRight"),
    },
    // The space in front of a word is part of its token, but only the word is marked.
    ...marked.flatMap((span, i) => [spaced[i][1] ?? "", span]),
  );
  return [strip, readout];
}

function options(found, names) {
  const probability = (answer, i) => number(answer?.probabilities?.[i]);
  const cell = (answer, i) =>
    el("td", { class: answer?.prediction === i ? "predicted" : null }, probability(answer, i));
  const columns = ["Option", ...names.heads];
  const head = el("tr", {}, ...columns.map((text) => el("th", { scope: "col" }, text)));
  const rows = found.options.map((option, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, isolated(option.trim()), i === found.gold ? " (right answer)" : ""),
      cell(found.unpruned, i),
      cell(found.pruned, i),
    ),
  );
  const name = "Probability of each option; bold is the model's answer";
  return el(
    "div",
    { class: "scroll", role: "group", tabindex: "0", "aria-label": name },
    el("table", {}, el("caption", {}, name), el("thead", {}, head), el("tbody", {}, ...rows)),
  );
}
