// Has the page's parts kept on the device. Newer ones are fetched meanwhile, and used from the next visit on.

/** Return whether the parts are kept; where they are not, the page works as long as there is a network. */
export async function keepOffline() {
  const workers = navigator.serviceWorker; // browsers offer it by TLS and to localhost alone
  try {
    const registration = await workers.register("service-worker.js");
    if (!registration.active) await settle(registration.installing ?? registration.waiting);
    return Boolean(registration.active);
  } catch {
    return Boolean(workers?.controller); // there is no network now: what was kept serves
  }
}

/** Wait until a worker has kept all parts and is in charge, or has failed. */
async function settle(worker) {
  await new Promise((resolve) => {
    const look = () => ["activated", "redundant"].includes(worker.state) && resolve();
    worker.addEventListener("statechange", look);
    look();
  });
}
