// Sends chosen or dropped photographs one per request, two at a time, each with its progress. Without it, the form sends them.
import { guard } from "./guard.js";

const AT_ONCE = 2;
const NAMED = 10; // chosen files that are listed by name: a screen reader reads them out
const TRIES = 6;
const PAUSE_MS = 5000;

const form = document.getElementById("many");
const input = form.elements.image;
const zone = form.querySelector(".drop");
const chosen = document.getElementById("chosen");
const panel = document.getElementById("progress");
const waiting = [];
const keys = new Map(); // idempotency keys of photographs whose outcome is unknown: a resend must reuse the key
const counts = { all: 0, sent: 0, refused: 0 };
let sending = 0;

for (const hint of form.querySelectorAll("[data-script]")) hint.hidden = false;
guard(document.getElementById("one"));

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function post(upload, onProgress) {
  const body = new FormData();
  body.set("csrf_token", form.elements.csrf_token.value);
  body.set("idempotency_key", upload.key);
  body.set("priority", upload.priority);
  body.set("image", upload.file, upload.file.name);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onloadend = () => resolve({ status: request.status, body: request.response, url: request.responseURL });
    request.send(body);
  });
}

function say(upload, text, isBad = false) {
  const state = upload.row.querySelector(".upload-state");
  state.textContent = text;
  state.classList.toggle("bad", isBad);
}

function excuse({ status, url }) {
  if (!status) return "No connection. Send it again.";
  if (url.includes("/sign-in")) return "You are signed out. Sign in and send it again.";
  return `The service answered with status ${status}. Send it again.`;
}

function finish(upload, answer) {
  const { body } = answer;
  const item = body?.items?.[0];
  if (item) keys.delete(upload.name);
  if (item?.case_id) {
    counts.sent += 1;
    const link = document.createElement("a");
    link.href = `/app/cases/${item.case_id}`;
    link.textContent = upload.file.name;
    upload.row.querySelector(".upload-name").replaceChildren(link);
    upload.row.querySelector("progress").value = 1;
    return say(upload, "Sent");
  }
  counts.refused += 1;
  say(upload, item?.error?.detail ?? body?.detail ?? excuse(answer), true);
}

async function send(upload) {
  const bar = upload.row.querySelector("progress");
  for (let tried = 1; ; tried += 1) {
    say(upload, "Sending");
    const answer = await post(upload, (share) => (bar.value = share));
    if (answer.body?.code === "idempotency_key_reused") {
      keys.set(upload.name, (upload.key = newKey())); // the key was used for another photograph
      continue;
    }
    const mayPass = [0, 408, 429, 502, 503, 504].includes(answer.status);
    if (!mayPass || tried >= TRIES) return finish(upload, answer);
    say(upload, "Waiting: the service is busy or cannot be reached. It will be retried.");
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function tell() {
  const left = counts.all - counts.sent - counts.refused;
  document.getElementById("progress-status").textContent =
    `${counts.sent} of ${counts.all} sent` + (counts.refused ? `, ${counts.refused} not accepted` : "") + (left ? "." : ". Done.");
}

async function work() {
  sending += 1;
  while (waiting.length) {
    await send(waiting.shift());
    tell();
  }
  sending -= 1;
}

function take(files) {
  if (!files.length) return;
  const list = panel.querySelector("ul");
  const priority = form.elements.priority.value;
  for (const file of files) {
    const row = panel.querySelector("template").content.firstElementChild.cloneNode(true);
    row.querySelector(".upload-name").textContent = file.name;
    row.querySelector("progress").setAttribute("aria-label", file.name);
    list.append(row);
    const name = [file.name, file.size, priority].join("|"); // not the date: phones set a new one each time a photograph is chosen
    if (!keys.has(name)) keys.set(name, newKey());
    waiting.push({ file, row, name, key: keys.get(name), priority });
    counts.all += 1;
  }
  panel.hidden = false;
  document.getElementById("progress-title").focus();
  tell();
  while (sending < Math.min(AT_ONCE, waiting.length + sending)) work();
}

/** Show what is chosen but not sent: the priority field comes after the files and is often set last. */
function showChosen() {
  const names = Array.from(input.files, (file) => file.name);
  const count = names.length === 1 ? "1 photograph" : `${names.length} photographs`;
  const rest = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
  const text = `${count} chosen, not sent yet: ${names.slice(0, NAMED).join(", ")}${rest}.`;
  chosen.textContent = names.length ? text : "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  take(input.files);
  input.value = "";
  showChosen();
});
input.addEventListener("change", showChosen);
zone.addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("over");
});
zone.addEventListener("dragleave", () => zone.classList.remove("over"));
zone.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  const dropped = Array.from(event.dataTransfer.items).filter((item) => item.kind === "file");
  const files = dropped.filter((item) => !item.webkitGetAsEntry()?.isDirectory).map((item) => item.getAsFile());
  const all = new DataTransfer(); // files dropped earlier and not sent yet are kept
  for (const file of [...input.files, ...files]) all.items.add(file);
  input.files = all.files;
  showChosen();
  if (files.length < dropped.length) chosen.textContent += " A folder cannot be sent: open it and drop the files in it.";
});
addEventListener("beforeunload", (event) => {
  if (sending || input.files.length) event.preventDefault();
});
