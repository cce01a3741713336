// Light or dark paper: the reader's choice, else that of the system.

export const dark = matchMedia("(prefers-color-scheme: dark)");

const THEMES = ["light", "dark"];

/** The paper of a choice. */
export function themeOf(choice) {
  return choice.theme ?? (dark.matches ? "dark" : "light");
}

/** Show the page on the paper of a choice; an unknown theme is dropped. */
export function showTheme(choice) {
  if (!THEMES.includes(choice.theme)) delete choice.theme;
  const chosen = choice.theme ?? "";
  document.getElementById("theme").value = chosen;
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}
