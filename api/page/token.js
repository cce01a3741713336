// The form that asks for the server's token.

import { hasToken, keepToken } from "./api.js";
import { el } from "./dom.js";

/** A form that keeps the token for this tab, then calls `done`. */
export function tokenForm(done) {
  const field = el("input", {
    id: "token",
    type: "password",
    required: true,
    autocomplete: "off",
    "aria-describedby": "token-help",
  });
  const refused = "The server does not accept this token. Is it the whole PRUNELAKE_API_TOKEN?";
  const wrong = el("p", { class: "warning", role: "alert" }, hasToken() ? refused : "");
  wrong.hidden = !hasToken();
  const submit = (event) => {
    event.preventDefault();
    if (keepToken(field.value.trim())) return done();
    wrong.textContent = refused;
    wrong.hidden = false;
  };
  return el(
    "form",
    { class: "card token-form", onsubmit: submit },
    el("h2", {}, "This server asks for a token"),
    el(
      "p",
      { id: "token-help", class: "soft" },
      "The server was started with it in ",
      el("code", {}, "PRUNELAKE_API_TOKEN"),
      ". The browser forgets it when this tab closes.",
    ),
    el("label", { class: "field" }, "Token ", field),
    wrong,
    el("button", { type: "submit", class: "primary" }, "Open the lake"),
  );
}
