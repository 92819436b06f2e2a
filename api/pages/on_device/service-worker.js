// Caches this page's own files on the device, and nothing else, so that it opens offline.
// The two lines above name them: PARTS, each with its SHA-256, and VERSION, a digest of all. Any change makes it a new worker.
const OURS = `dermqueue ${registration.scope} `;
const CACHE = OURS + VERSION;

async function keepParts() {
  const fetched = await Promise.all(Object.entries(PARTS).map(fetchPart));
  const cache = await caches.open(CACHE);
  await Promise.all(fetched.map(([part, response]) => cache.put(part, response)));
  await skipWaiting(); // an open page has loaded all its files already
}

async function fetchPart([part, sha256]) {
  // A redirect to the sign-in page must not be cached in place of a file.
  const response = await fetch(part, { cache: "no-cache", redirect: "error" });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await response.clone().arrayBuffer()));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  // While servers are being updated, one of another version may answer; the browser tries again at the next visit.
  if (hex !== sha256) throw new Error(`${part} belongs to another version of this page`);
  return [part, response];
}

async function takeOver() {
  const outdated = (await caches.keys()).filter((name) => name.startsWith(OURS) && name !== CACHE);
  await Promise.all(outdated.map((name) => caches.delete(name)));
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

addEventListener("install", (event) => event.waitUntil(keepParts()));
addEventListener("activate", (event) => event.waitUntil(takeOver()));
addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
