// Keeps what is marked `data-live` as the server would show it now. Focus stays where it was.
const EVERY_MS = Number(document.querySelector("[data-every]")?.dataset.every ?? 2000);
const MISSES_TOLD = 3;
// A page that answers a form stands at the form's address, where there is nothing to be asked for.
const ADDRESS = [...document.querySelectorAll("script[data-address]")].at(-1)?.dataset.address ?? location.href;
const ENDS = {
  403: "You are signed in with another key now, which may not see this page",
  404: "This was erased, or is not for the key that you are signed in with now",
};
let etag = null;
let missed = 0;
let hasEnded = false;

const notice = Object.assign(document.createElement("p"), { role: "status", className: "told warn", hidden: true });
document.querySelector("main").prepend(notice);

function isFinal() {
  const untilFinal = document.querySelector("script[data-until-final]");
  return untilFinal && document.querySelector("[data-final]")?.dataset.final === "yes";
}

function replace(fresh) {
  const focused = document.activeElement?.getAttribute("href");
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    if (!now || now.isEqualNode(old)) continue;
    // What announces changes must stay in the document, or a screen reader would not notice them.
    old.replaceChildren(...now.childNodes);
    if (now.dataset.final) old.dataset.final = now.dataset.final;
    if (focused) old.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    old.dispatchEvent(new Event("refreshed", { bubbles: true }));
  }
}

function unsaved() {
  return [...document.querySelectorAll("form[data-unsaved]")];
}

/** Take away what may be seen no longer, but for what somebody wrote and could not save: it can be copied. */
function end(reason) {
  const title = document.querySelector("h1"); // without one, a screen reader's user is lost
  title.textContent = document.title = "Shown no longer";
  const kept = [notice, title, ...unsaved()];
  for (const part of document.querySelectorAll("main *")) {
    if (!kept.some((one) => one.contains(part) || part.contains(one))) part.remove();
  }
  for (const form of unsaved()) form.querySelector("button").disabled = true;
  notice.textContent = reason + (unsaved().length ? ": copy what you wrote, it cannot be saved from this page." : ".");
  notice.hidden = false;
  hasEnded = true;
}

async function refresh() {
  if (document.hidden) return;
  const headers = { "Dermqueue-Live": "1" }; // nobody is at work: it keeps no session from ending
  if (etag) headers["If-None-Match"] = etag;
  const answer = await fetch(ADDRESS, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (answer.redirected) return unsaved().length ? end("You are signed out") : location.reload();
  if (answer.status in ENDS && answer.headers.has("X-Request-Id")) return end(ENDS[answer.status]); // not a proxy's
  if (answer.status !== 200 && answer.status !== 304) throw new Error(answer.status);
  if (answer.status === 304) return;
  etag = answer.headers.get("ETag");
  replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
}

/** What does not come any more must not look as if it were so now. */
function tellMisses() {
  if (missed === MISSES_TOLD) {
    notice.textContent = `Not renewed since ${new Date().toLocaleTimeString()}: the service cannot be reached.`;
  }
  notice.hidden = missed < MISSES_TOLD;
}

async function follow() {
  try {
    await refresh();
    missed = 0;
  } catch {
    missed += 1; // The network or the service is away for a moment; the next look may succeed.
  }
  if (hasEnded) return;
  tellMisses();
  if (!isFinal()) setTimeout(follow, EVERY_MS);
}

setTimeout(follow, EVERY_MS);
