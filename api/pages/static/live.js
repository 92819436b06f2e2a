// Keeps what is marked `data-live` up to date with the server, without moving the focus.
const EVERY_MS = Number(document.querySelector("[data-every]")?.dataset.every ?? 2000);
const MISSES_TOLD = 3;
const STALE_MS = 30000; // with data older than this, as on a page that was hidden, the first miss is told
// A page that answers a form is shown at the form's address, which cannot be fetched again.
const ADDRESS = [...document.querySelectorAll("script[data-address]")].at(-1)?.dataset.address ?? location.href;
const ENDS = {
  403: "You are now signed in with a different key, which may not see this page",
  404: "This was erased, or the key you are now signed in with may not see it",
};
let etag = null;
let missed = 0;
let updatedAt = new Date();
let timer = null;
let hasEnded = false;

const notice = Object.assign(document.createElement("p"), { role: "status", className: "told warn", hidden: true });
document.querySelector("main").prepend(notice);

/** Return what the outcome was that the rest of a review page is about, which is not live. */
function outcomeOf(page) {
  return page.querySelector("[data-outcome]")?.dataset.outcome;
}

const pauses = new WeakMap();

/** Ask for a thumbnail again that was refused because too many were being drawn, ever later. */
function askAgain(picture) {
  const pause = (pauses.get(picture) ?? 500) * (1 + Math.random());
  pauses.set(picture, pause);
  if (pause < STALE_MS) setTimeout(() => picture.isConnected && (picture.src = picture.src), pause);
}

document.addEventListener("error", (event) => event.target.matches("img.thumbnail") && askAgain(event.target), true);
for (const picture of document.querySelectorAll("img.thumbnail")) {
  if (picture.complete && !picture.naturalWidth) askAgain(picture); // before this module ran
}

const OUTCOME = outcomeOf(document);

function isFinal() {
  const untilFinal = document.querySelector("script[data-until-final]");
  return untilFinal && document.querySelector("[data-final]")?.dataset.final === "yes";
}

function replace(fresh) {
  const focused = document.activeElement?.getAttribute("href");
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    if (!now || now.isEqualNode(old)) continue;
    // A live region must stay in the document, or screen readers would not announce its changes.
    old.replaceChildren(...now.childNodes);
    if (now.dataset.final) old.dataset.final = now.dataset.final;
    if (focused) old.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    old.dispatchEvent(new Event("refreshed", { bubbles: true }));
  }
}

function unsaved() {
  return [...document.querySelectorAll("form[data-unsaved]")];
}

/** Remove what may no longer be seen, but keep unsaved text, so that it can be copied. */
function end(reason) {
  const title = document.querySelector("h1"); // screen reader users need a heading
  title.textContent = document.title = "No longer available";
  const kept = [notice, title, ...unsaved()];
  for (const part of document.querySelectorAll("main *")) {
    if (!kept.some((one) => one.contains(part) || part.contains(one))) part.remove();
  }
  for (const form of unsaved()) form.querySelector("button").disabled = true;
  notice.textContent = reason + (unsaved().length ? ". Copy what you wrote: it cannot be saved from this page." : ".");
  notice.hidden = false;
  hasEnded = true;
}

async function refresh() {
  const headers = { "Dermqueue-Live": "1" }; // a background refresh must not keep the session alive
  if (etag) headers["If-None-Match"] = etag;
  const signal = AbortSignal.timeout?.(10000); // not in older browsers
  const answer = await fetch(ADDRESS, { headers, signal, cache: "no-store" });
  if (answer.redirected) return unsaved().length ? end("You are signed out") : location.reload();
  if (answer.status in ENDS && answer.headers.has("X-Request-Id")) return end(ENDS[answer.status]); // not a proxy's
  if (answer.status !== 200 && answer.status !== 304) throw new Error(answer.status);
  if (answer.status === 304) return;
  etag = answer.headers.get("ETag");
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (outcomeOf(fresh) !== OUTCOME) return unsaved().length ? end("This case was analysed again") : location.reload();
  replace(fresh);
}

/** Warn that the page is out of date, so that it does not look current. */
function tellMisses() {
  const minute = updatedAt.toISOString().slice(0, 16).replace("T", " ");
  const text = `Not updated since ${minute} UTC: the service cannot be reached.`;
  if (notice.textContent !== text) notice.textContent = text; // or screen readers would repeat it
  notice.hidden = missed < MISSES_TOLD && !(missed && Date.now() - updatedAt > STALE_MS);
}

async function follow() {
  try {
    await refresh();
    missed = 0;
    updatedAt = new Date();
  } catch {
    missed += 1; // the network or the service may be back by the next attempt
  }
  if (hasEnded) return;
  tellMisses();
  schedule();
}

/** Refresh after a pause; a page that is hidden then, as soon as it is seen again. */
function schedule() {
  clearTimeout(timer);
  if (!isFinal()) timer = setTimeout(() => document.hidden || follow(), EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden || hasEnded || isFinal()) return;
  clearTimeout(timer);
  follow();
});
schedule();
