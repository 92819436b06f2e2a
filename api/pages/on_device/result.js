// Shows a photograph's result in the same words as the server: probabilities, suggestion, heatmaps.
import { overlay } from "./heatmap.js";
import { draw } from "./photograph.js";

const DECIDES = "melanoma"; // the class whose probability is compared with the threshold

/** Show the model's name, figures and limitations. */
export function showModel(model) {
  for (const name of ["name", "version", "measured_on", "licence", "digest"]) say(name, model[name]);
  const withoutMarkdown = model.limits.map((limit) => limit.replace(/[*`]/g, ""));
  const limits = withoutMarkdown.map((textContent) => Object.assign(document.createElement("li"), { textContent }));
  document.getElementById("limits").replaceChildren(...limits);
  document.getElementById("model").hidden = false;
}

/** Show the model's reading of a photograph (RGB bytes, at display size). */
export function showReading(model, photograph, { probabilities, maps }, isSmall) {
  const deciding = model.labels.indexOf(DECIDES);
  const decision = probabilities[deciding] >= model.point.threshold ? "refer" : "routine";
  say("point", model.point.name);
  say("decision", nameOf(decision));
  document.querySelector("[data-say=decision]").className = `tag ${decision}`;
  document.getElementById("small").hidden = !isSmall;
  const scales = model.labels.map((label, index) => makeScale(label, probabilities[index], index === deciding && model.point));
  document.getElementById("scales").replaceChildren(...scales);
  for (const name of ["photograph", "under"]) draw(photograph, document.getElementById(name));
  offerHeatmaps(model, (index) => overlay(photograph, maps[index], model.scales[index])).at(deciding).click();
}

/** Make a button for each class that draws its heatmap; return the buttons. */
function offerHeatmaps({ labels }, drawOne) {
  const choices = document.getElementById("classes");
  choices.replaceChildren(
    ...labels.map((label, index) => {
      const button = Object.assign(document.createElement("button"), { className: "quiet", textContent: nameOf(label) });
      button.addEventListener("click", () => {
        draw(drawOne(index), document.getElementById("overlay"));
        say("class", nameOf(label).toLowerCase());
        for (const other of choices.children) other.setAttribute("aria-pressed", other === button);
      });
      return button;
    }),
  );
  return [...choices.children];
}

function makeScale(label, probability, point) {
  const scale = document.getElementById("scale").content.firstElementChild.cloneNode(true);
  const fill = (part, text) => (scale.querySelector(part).textContent = text);
  const bar = scale.querySelector(".bar");
  bar.setAttribute("width", probability * 1000);
  fill(".scale-name", nameOf(label));
  const [shown, threshold] = point ? tellApart(probability, point.threshold) : [percent(probability)];
  fill(".scale-number", shown);
  if (!point) return scale;
  if (probability >= point.threshold) bar.setAttribute("class", "over");
  for (const line of scale.querySelectorAll("path")) line.setAttribute("d", `M${point.threshold * 1000} 0v40`);
  fill(
    ".scale-note",
    `The line is the operating point “${point.name}”: refer at ${threshold} or more. On the images of this model’s card, ` +
      `its sensitivity for melanoma was ${percent(point.sensitivity)} and its specificity ${percent(point.specificity)}.`,
  );
  return scale;
}

function say(name, text) {
  document.querySelector(`[data-say=${name}]`).textContent = text;
}

function nameOf(label) {
  const words = label.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

/** Return a share in percent. One that only rounds to 0% or 100% gets a `<` or `>`. */
function percent(share, digits = share < 0.1 ? 1 : 0) {
  const least = 10 ** -(digits + 2);
  if (share > 0 && share < least / 2) return `<${(least * 100).toFixed(digits)}%`;
  if (share < 1 && share >= 1 - least / 2) return `>${((1 - least) * 100).toFixed(digits)}%`;
  return `${(share * 100).toFixed(digits)}%`;
}

/** Return both in percent, with enough digits to differ where they do: the decision depends on which is larger. */
function tellApart(share, threshold) {
  let shown;
  for (const digits of [undefined, 1, 2, 3, 4]) {
    shown = [percent(share, digits), percent(threshold, digits)];
    if (share === threshold || shown[0] !== shown[1]) break;
  }
  return shown;
}
