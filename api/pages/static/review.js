import { guard } from "./guard.js";

// A keyboard shortcut to the next case. It can be turned off, since dictation software can trigger it (WCAG 2.1.4).
const box = document.getElementById("shortcuts");
const NAME = "dermqueue-shortcuts";

const form = document.querySelector("form.stacked");
const read = (fields) => new URLSearchParams(new FormData(fields)).toString();
form.addEventListener("input", () => (form.dataset.unsaved = ""));
addEventListener("pageshow", () => {
  const untouched = form.cloneNode(true);
  untouched.reset();
  if (read(form) !== read(untouched)) form.dataset.unsaved = ""; // after Back, browsers fill in what was written
});
guard(form);
addEventListener("beforeunload", (event) => {
  if ("unsaved" in form.dataset && !("sending" in form.dataset)) event.preventDefault();
});

box.closest("[data-script]").hidden = false;
box.checked = localStorage.getItem(NAME) !== "off";
box.addEventListener("change", () => localStorage.setItem(NAME, box.checked ? "on" : "off"));

addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input:not([type=radio], [type=checkbox], [type=range]), select, textarea");
  if (event.key !== "n" || !box.checked || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  document.getElementById("next")?.click();
});
