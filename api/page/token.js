// The form that asks for the server's token.

import { hasToken, keepToken } from "./api.js";
import { el } from "./dom.js";

/** A form that keeps what is typed for this tab, then calls `done`. */
export function tokenForm(done) {
  const field = el("input", {
    id: "token",
    type: "password",
    required: true,
    autocomplete: "off",
    "aria-describedby": "token-help",
  });
  const refused = "The server does not take this token. Is it all of PRUNELAKE_API_TOKEN?";
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
      "It is what the server was started with as ",
      el("code", {}, "PRUNELAKE_API_TOKEN"),
      ". The browser forgets it with this tab.",
    ),
    el("label", { class: "field" }, "Token ", field),
    wrong,
    el("button", { type: "submit", class: "primary" }, "Open the lake"),
  );
}
