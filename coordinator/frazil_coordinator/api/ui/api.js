// Requests to the coordinator that served this page. The token is kept in this tab's session storage and nowhere else.

const KEY = "frazil-token";
const BASE = new URL("../", document.baseURI);

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

// What a problem document (RFC 9457) says; status 0 when nobody answered.
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

async function ask(path, { params, method = "GET", signal } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(params ?? {})) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = token.get() === null ? {} : { Authorization: `Bearer ${token.get()}` };
  let response;
  try {
    response = await fetch(url, { method, headers, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "No answer", "The coordinator does not answer. Trying again …");
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = await response.json();
  } catch {
    told = { detail: `The answer is ${response.status} ${response.statusText}.` }; // from a proxy, not from a coordinator
  }
  throw new Problem(response.status, told.title ?? response.statusText, told.detail ?? "");
}

export const get = async (path, params, signal) => (await ask(path, { params, signal })).json();
export const remove = async (path) => (await ask(path, { method: "DELETE" })).json();

// Server-sent events over fetch, because EventSource can't send a token. Ends with the stream.
export async function events(path, signal, onEvent) {
  const response = await ask(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const line = part.split("\n").find((one) => one.startsWith("data:"));
      if (line !== undefined) onEvent(JSON.parse(line.slice(5)));
    }
  }
}
