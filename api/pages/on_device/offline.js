// Has the page's parts kept on the device, and has a newer version, once it was fetched, take its place.

/** Return whether the parts are kept; where they are not, the page works as long as there is a network. */
export async function keepOffline() {
  const workers = navigator.serviceWorker; // browsers offer it by TLS and to localhost alone
  try {
    const registration = await workers.register("service-worker.js");
    if (registration.waiting && registration.active) return useNewer(registration.waiting);
    if (!registration.active) await end(registration.installing ?? registration.waiting);
    return Boolean(registration.active);
  } catch {
    return Boolean(workers?.controller); // there is no network now: what was kept serves
  }
}

/** Wait until a worker has kept all parts and is in charge, or has failed. */
async function end(worker) {
  await new Promise((resolve) => {
    const look = () => ["activated", "redundant"].includes(worker.state) && resolve();
    worker.addEventListener("statechange", look);
    look();
  });
}

/** Never come back: the page is loaded again as soon as the newer parts are in charge. */
function useNewer(worker) {
  navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
  worker.postMessage("take over");
  return new Promise(() => {});
}
