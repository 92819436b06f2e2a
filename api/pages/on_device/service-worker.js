// Caches this page's own files on the device, and nothing else, so that it opens offline.
// The two lines above name them: PARTS, and VERSION, a digest of them all. Any change makes it a new worker.
const OURS = `dermqueue ${registration.scope} `;
const CACHE = OURS + VERSION;

async function keepParts() {
  const cache = await caches.open(CACHE);
  // A redirect to the sign-in page must not be cached in place of a file.
  await cache.addAll(PARTS.map((part) => new Request(part, { cache: "no-cache", redirect: "error" })));
  await skipWaiting(); // an open page has loaded all its files already
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
