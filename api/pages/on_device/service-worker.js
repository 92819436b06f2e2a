// Keeps this page's own parts on the device, so that it opens without a network; of nothing else it keeps anything.
// The two lines above name them: PARTS, and VERSION, a digest over all of them. Other parts, another worker.
const OURS = `dermqueue ${registration.scope} `;
const CACHE = OURS + VERSION;

async function keepParts() {
  const cache = await caches.open(CACHE);
  // A sign-in page must not be kept in a part's place.
  await cache.addAll(PARTS.map((part) => new Request(part, { cache: "no-cache", redirect: "error" })));
  await skipWaiting(); // a page that is open has read all its parts already
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
