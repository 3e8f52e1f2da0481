// Questions to the server: JSON out, JSON or a Problem back. Holds the key of a server that asks for one.

import { $ } from "/page/dom.js";

const KEY = "zebra-key";

export class Problem extends Error {
  constructor(status, message, seconds = 0) {
    super(message);
    this.status = status;
    this.seconds = seconds; // after which it is worth asking again
  }
}

// POST if there is a body, else GET. Throws Problem, or AbortError where the signal says so.
export async function ask(path, { body, signal } = {}) {
  const answer = await send(path, { body, signal });
  return answer.json();
}

// Show a picture of the server; with a key, <img> cannot ask for it itself. Failing gives an "error" event.
export async function show(image, path) {
  if (!sessionStorage.getItem(KEY)) {
    image.src = path;
    return;
  }
  try {
    const blob = await (await send(path)).blob();
    image.src = URL.createObjectURL(blob);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

async function send(path, { body, signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer. Is it still running?", 2);
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    await unlock(Boolean(key));
    return send(path, { body, signal });
  }
  const said = await answer.json().catch(() => null);
  const message = said?.error?.message ?? `The server answered ${answer.status}.`;
  throw new Problem(answer.status, message, Number(answer.headers.get("Retry-After")) || 0);
}

let asking = null;

function unlock(refused) {
  asking ??= new Promise((resolve) => {
    const dialog = $("key");
    $("key-error").textContent = refused ? "That was not the key." : "";
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, $("key-value").value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

export const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
