// Caches the page's files on the device. Newer ones are fetched in the background and used from the next visit on.

/** Return whether the files are cached; if not, the page works only while online. */
export async function keepOffline() {
  const workers = navigator.serviceWorker; // only over TLS and on localhost
  try {
    const registration = await workers.register("service-worker.js");
    if (!registration.active) await settle(registration.installing ?? registration.waiting);
    return Boolean(registration.active);
  } catch {
    return Boolean(workers?.controller); // offline: the cached files are in use
  }
}

/** Wait until a service worker has cached all files and is active, or has failed. */
async function settle(worker) {
  await new Promise((resolve) => {
    const look = () => ["activated", "redundant"].includes(worker.state) && resolve();
    worker.addEventListener("statechange", look);
    look();
  });
}
