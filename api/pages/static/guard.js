/** Keeps what was written when a form could not be sent: the sign-in page or the browser's own would take its place. */

const SIGNED_OUT = "You are signed out, and nothing was sent. Copy what you wrote, then sign in again.";
const UNREACHABLE = "The service cannot be reached, and nothing was sent. Try again.";

/** Send the form only if its sender is still signed in and the service answers; if not, say so beside its button. */
export function guard(form) {
  let isChecking = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isChecking) return;
    isChecking = true;
    const obstacle = await findObstacle();
    isChecking = false;
    if (obstacle) return say(form, obstacle);
    form.dataset.sending = ""; // it leaves the page by itself: nobody need be asked
    form.submit();
  });
  // It may be sent again, which does no harm: the browser's Stop, or an answer to another question, can keep the page.
  addEventListener("beforeunload", () => setTimeout(() => delete form.dataset.sending));
}

async function findObstacle() {
  try {
    const headers = { "Dermqueue-Live": "1" };
    const signal = AbortSignal.timeout?.(10000); // not in older browsers
    const answer = await fetch("/app/model", { headers, signal, redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect") return SIGNED_OUT;
    if (![502, 503, 504].includes(answer.status)) return null;
    return (await answer.text()).includes("model_not_loaded") ? null : UNREACHABLE; // cases are taken without a model
  } catch {
    return UNREACHABLE;
  }
}

function say(form, text) {
  const alert = Object.assign(document.createElement("p"), { role: "alert", className: "told bad", textContent: text });
  form.querySelector("[role=alert]")?.remove();
  form.querySelector("button").before(alert);
}
