// The page's entry point: loads the model and has it read each photograph that is chosen. Nothing leaves the device.
import { fit } from "./heatmap.js";
import { loadModel, ModelMissing } from "./model.js";
import { keepOffline } from "./offline.js";
import { decode, prepare, Refusal } from "./photograph.js";
import { showModel, showReading } from "./result.js";

const state = document.getElementById("state");
const take = document.getElementById("take");
const result = document.getElementById("result");

function tell(text, kind = "") {
  state.className = `told ${kind}`;
  state.textContent = text;
}

function explain(error) {
  if (error instanceof Refusal) return error.message;
  if (error instanceof ModelMissing) {
    return (
      "There is no model here: portable.onnx is missing beside this page. The server’s administrator can put it there, " +
      "as “dermqueue export --help” explains. Until then, send photographs as usual."
    );
  }
  return `This browser cannot run the model. Try a newer one, or send the photograph as usual. (${error.message})`;
}

async function read(model, file) {
  const side = model.steps.at(-1).resize[0];
  const photograph = await decode(file, 2 * model.steps[0].resize[0]);
  const reading = await model.read(await prepare(photograph, model.steps), side);
  const isSmall = Math.min(photograph.width, photograph.height) < side;
  showReading(model, fit(photograph), reading, isSmall);
}

async function takeIn(model, input) {
  const [file] = input.files;
  if (!file) return;
  result.hidden = true;
  take.inert = true;
  tell("Reading the photograph.");
  await new Promise((shown) => setTimeout(shown)); // let the browser paint: what follows blocks the main thread
  try {
    await read(model, file);
    result.hidden = false;
    document.getElementById("result-title").focus();
    tell("The photograph was read on this device. It was not sent anywhere.", "good");
  } catch (error) {
    tell(explain(error), "bad");
  }
  take.inert = false;
  input.value = ""; // so that the same file can be chosen again
}

async function begin() {
  document.getElementById("back").hidden = !location.pathname.endsWith("/app/portable/");
  document.getElementById("opacity").addEventListener("input", (event) => {
    document.getElementById("overlay").style.opacity = event.target.value / 100;
  });
  try {
    const isKept = await keepOffline();
    const model = await loadModel();
    showModel(model);
    for (const input of take.querySelectorAll("input")) input.addEventListener("change", () => takeIn(model, input));
    take.hidden = false;
    tell(isKept ? "Ready. From now on, this page also works offline." : "Ready. In this browser, the page opens only while online.");
  } catch (error) {
    tell(explain(error), "bad");
  }
}

begin();
