// Requests to the server. Asks for the API key if the server requires one.

import { $ } from "./dom.js";

const STORAGE_KEY = "zebra-api-key";

export class ApiError extends Error {
  constructor(status, message, retryAfterSeconds = 0) {
    super(message);
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

// URLs are relative to the page, which a proxy may serve below a path.
export const imageUrl = (id) => `v1/images/${encodeURIComponent(id)}`;
export const thumbnailUrl = (id, side) => `${imageUrl(id)}/thumbnail?side=${side}`;

// Send a POST if there is a body, else a GET, and return the JSON. Throws ApiError, or AbortError from the signal.
export async function fetchJson(path, { body, signal } = {}) {
  const response = await fetchWithKey(path, { body, signal });
  return response.json();
}

// As fetchJson, for a file.
export async function fetchBlob(path, { body, signal } = {}) {
  const response = await fetchWithKey(path, { body, signal });
  return response.blob();
}

// Load an image of the server into an <img>, which cannot send the key itself. A failure dispatches an "error" event.
export async function loadImage(image, path) {
  if (!sessionStorage.getItem(STORAGE_KEY)) {
    image.src = path;
    return;
  }
  try {
    image.src = URL.createObjectURL(await fetchBlob(path));
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

async function fetchWithKey(path, { body, signal } = {}) {
  const key = sessionStorage.getItem(STORAGE_KEY);
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. Is it still running?", 2);
  }
  if (response.ok) return response;
  if (response.status === 401) {
    await promptForKey(Boolean(key));
    return fetchWithKey(path, { body, signal });
  }
  const errorBody = await response.json().catch(() => null);
  const message = errorBody?.error?.message ?? `The server answered with status ${response.status}.`;
  throw new ApiError(response.status, message, Number(response.headers.get("Retry-After")) || 0);
}

let keyPrompt = null;

function promptForKey(wasRejected) {
  keyPrompt ??= new Promise((resolve) => {
    const dialog = $("api-key-dialog");
    $("api-key-error").textContent = wasRejected ? "Invalid API key." : "";
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(STORAGE_KEY, $("api-key-input").value);
      keyPrompt = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return keyPrompt;
}

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
