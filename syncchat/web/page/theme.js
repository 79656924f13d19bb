// The theme: light, dark, or the system's. Runs before the page is drawn.

import { follow } from "./settings.js";

const COLOURS = { light: "#ffffff", dark: "#14171c" }; // --ground of style.css
const metas = [...document.querySelectorAll("meta[name=theme-color]")];
const scheme = document.querySelector("meta[name=color-scheme]");

follow("theme", (theme) => {
  const forced = Object.hasOwn(COLOURS, theme) ? theme : null;
  if (forced) document.documentElement.dataset.theme = forced;
  else delete document.documentElement.dataset.theme;
  scheme.content = forced ?? "light dark";
  for (const meta of metas) {
    meta.content = COLOURS[forced ?? (meta.media.includes("dark") ? "dark" : "light")];
  }
});
