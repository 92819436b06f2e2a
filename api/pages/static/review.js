// One key goes to the next case. It can be turned off, since dictation software presses keys, too.
const box = document.getElementById("shortcuts");
const NAME = "dermqueue-shortcuts";

const form = document.querySelector("form.stacked");
let isChanged = false;
form.addEventListener("input", () => (isChanged = true));
const mayLeave = () => !isChanged || confirm("Your verdict is not saved. Go to the next case all the same?");

box.closest("[data-script]").hidden = false;
box.checked = localStorage.getItem(NAME) !== "off";
box.addEventListener("change", () => localStorage.setItem(NAME, box.checked ? "on" : "off"));

addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input:not([type=radio], [type=checkbox], [type=range]), select, textarea");
  if (event.key !== "n" || !box.checked || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (mayLeave()) document.getElementById("next").click();
});
