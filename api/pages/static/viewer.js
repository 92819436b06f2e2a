// Zooms and pans both pictures together, sets the heatmap's opacity, and changes its class without reloading the page.
const MAX_SCALE = 12;
const STEP = 1.4;
const MOVE = 0.1; // of the picture's width, for an arrow key
let latest = null; // the heatmap requested last
const view = { scale: 1, x: 0, y: 0 }; // x, y: the picture's top left corner, as fractions of the stage

function stages() {
  return document.querySelectorAll(".stage");
}

function draw() {
  const low = 1 - view.scale;
  view.x = Math.min(0, Math.max(low, view.x));
  view.y = Math.min(0, Math.max(low, view.y));
  for (const stage of stages()) {
    const { clientWidth: width, clientHeight: height } = stage;
    stage.firstElementChild.style.transform = `translate(${view.x * width}px, ${view.y * height}px) scale(${view.scale})`;
    stage.toggleAttribute("data-zoomed", view.scale > 1);
  }
  document.getElementById("zoom").textContent = `${Math.round(view.scale * 100)}%`;
}

/** Zoom about the point (x, y), given as fractions of the stage. */
function zoom(factor, x = 0.5, y = 0.5) {
  const scale = Math.min(MAX_SCALE, Math.max(1, view.scale * factor));
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  draw();
}

function move(x, y) {
  view.x += x;
  view.y += y;
  draw();
}

const KEYS = {
  "+": () => zoom(STEP),
  "=": () => zoom(STEP),
  "-": () => zoom(1 / STEP),
  0: () => zoom(0),
  ArrowLeft: () => move(MOVE, 0),
  ArrowRight: () => move(-MOVE, 0),
  ArrowUp: () => move(0, MOVE),
  ArrowDown: () => move(0, -MOVE),
};

function place(stage, event) {
  const box = stage.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

function middle(points) {
  const [a, b = a] = points;
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
}

function follow(stage) {
  const fingers = new Map();
  let travelled = 0;
  stage.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, place(stage, event));
    stage.setPointerCapture(event.pointerId);
    travelled = 0;
  });
  stage.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = middle([...fingers.values()]);
    fingers.set(event.pointerId, place(stage, event));
    const now = middle([...fingers.values()]);
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
    if (before.apart && now.apart) zoom(now.apart / before.apart, now.x, now.y);
    if (view.scale > 1) move(now.x - before.x, now.y - before.y);
  });
  const lift = (event) => fingers.delete(event.pointerId);
  stage.addEventListener("pointercancel", lift);
  stage.addEventListener("pointerup", (event) => {
    const { x, y } = place(stage, event);
    if (lift(event) && !fingers.size && travelled < 0.01 && view.scale > 1) move(0.5 - x, 0.5 - y);
  });
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { x, y } = place(stage, event);
    zoom(STEP ** Math.sign(-event.deltaY), x, y);
  });
  stage.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
}

/** Return whether this heatmap loaded and is still the latest; report a failure: a bare photograph looks like a cold heatmap. */
async function comes(heatmap, name) {
  const problem = document.getElementById("heatmap-problem");
  latest = heatmap;
  const hasCome = await heatmap.decode().then(() => true, () => false);
  if (heatmap !== latest) return false;
  problem.textContent = hasCome ? "" : `The heatmap of ${name} could not be loaded. Choose it again.`;
  problem.hidden = hasCome;
  return hasCome;
}

async function choose(link) {
  const old = document.querySelector(".overlay");
  const caption = document.querySelector("[data-class-name]");
  const name = link.textContent.toLowerCase();
  const heatmap = Object.assign(new Image(), { className: old.className, alt: old.alt, src: link.dataset.heatmap });
  link.setAttribute("aria-busy", "true");
  const isToShow = await comes(heatmap, name);
  link.removeAttribute("aria-busy");
  if (!isToShow || !old.isConnected) return;
  heatmap.style.opacity = old.style.opacity;
  old.replaceWith(heatmap);
  caption.textContent = name;
  for (const other of document.querySelectorAll("[data-heatmap]")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  history.replaceState(null, "", link.href);
}

function begin() {
  const viewer = document.querySelector(".viewer");
  if (!viewer || "ready" in viewer.dataset) return;
  viewer.dataset.ready = "";
  for (const part of viewer.querySelectorAll("[data-script]")) part.hidden = false;
  for (const stage of stages()) {
    stage.tabIndex = 0;
    stage.setAttribute("role", "group");
    stage.setAttribute("aria-label", "Picture: + and − zoom, arrow keys pan, 0 resets");
    follow(stage);
  }
  document.getElementById("opacity").addEventListener("input", (event) => {
    document.querySelector(".overlay").style.opacity = event.target.value / 100;
  });
  const buttons = { in: () => zoom(STEP), out: () => zoom(1 / STEP), fit: () => zoom(0) };
  for (const button of viewer.querySelectorAll("[data-zoom]")) button.addEventListener("click", buttons[button.dataset.zoom]);
  for (const link of viewer.querySelectorAll("[data-heatmap]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(link);
    });
  }
  comes(viewer.querySelector(".overlay"), viewer.querySelector("[data-class-name]").textContent);
  addEventListener("resize", () => viewer.isConnected && draw());
}

begin();
document.addEventListener("refreshed", begin);
