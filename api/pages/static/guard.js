// Keeps what was written when a form is sent after the session has ended: the sign-in page would take its place.

/** Send the form only if its sender is still signed in; if not, say so beside its button. */
export function guard(form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if ("sending" in form.dataset) return;
    form.dataset.sending = "";
    if (await isSignedOut()) {
      delete form.dataset.sending;
      return say(form, "You are signed out, and nothing was sent. Copy what you wrote, then sign in again.");
    }
    delete form.dataset.unsaved;
    form.submit();
  });
  addEventListener("pageshow", () => delete form.dataset.sending); // after Back
}

async function isSignedOut() {
  try {
    const headers = { "Dermqueue-Live": "1" };
    const signal = AbortSignal.timeout(5000);
    const answer = await fetch("/app/model", { headers, signal, redirect: "manual", cache: "no-store" });
    return answer.type === "opaqueredirect";
  } catch {
    return false; // without a connection, the browser says so itself
  }
}

function say(form, text) {
  const alert = Object.assign(document.createElement("p"), { role: "alert", className: "told bad", textContent: text });
  form.querySelector("[role=alert]")?.remove();
  form.querySelector("button").before(alert);
}
