// The page: which view is shown, who asks, and what is said when the coordinator refuses.

import { get, Problem, token } from "./api.js";
import { clusterView } from "./cluster.js";
import { say, show } from "./dom.js";
import { listView } from "./list.js";
import { queryView } from "./query.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");
const dialog = document.getElementById("token-dialog");
const input = document.getElementById("token-input");

let leave = null; // stops the view that is shown
let caller = null; // who asks; null until the coordinator said

function route() {
  const [path, search = ""] = (location.hash.slice(1) || "/queries").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { page: parts[0] ?? "queries", id: parts[1], params: new URLSearchParams(search) };
}

export function tell(error) {
  if (error?.name === "AbortError") return;
  if (error instanceof Problem && error.status === 401) {
    askForToken(token.get() === null ? "" : "This token is not known here.");
    return;
  }
  notice.hidden = false;
  const text = error instanceof Problem ? error.message : `The page failed: ${error}`;
  if (notice.textContent !== text) show(notice, text);
}

export function settle() {
  notice.hidden = true;
  show(notice);
}

function askForToken(why) {
  leave?.();
  leave = null;
  show(main);
  settle();
  document.getElementById("token-error").textContent = why;
  if (!dialog.open) dialog.showModal();
  input.focus();
}

async function identify() {
  const cluster = await get("v1/cluster");
  caller = cluster.caller;
  const { tenant, role } = caller;
  document.getElementById("who").textContent = `${tenant} · ${role === "read" ? "read only" : role}`;
  document.getElementById("sign-out").hidden = token.get() === null;
}

async function render() {
  leave?.();
  leave = null;
  const { page, id, params } = route();
  for (const name of ["queries", "cluster"]) {
    const link = document.getElementById(`nav-${name}`);
    if (name === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const stop = new AbortController();
  leave = () => stop.abort();
  while (caller === null && !stop.signal.aborted) {
    try {
      await identify();
      settle();
    } catch (error) {
      tell(error);
      if (error.status === 401) return;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  if (stop.signal.aborted) return;
  const context = { main, caller, signal: stop.signal, tell, settle };
  if (page === "cluster") clusterView(context);
  else if (id === undefined) listView(context, params);
  else queryView(context, id);
}

document.getElementById("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(input.value.trim());
  input.value = "";
  caller = null;
  dialog.close();
  render();
});
dialog.addEventListener("cancel", (event) => event.preventDefault()); // there is nothing to see without a token
document.getElementById("sign-out").addEventListener("click", () => {
  token.forget();
  caller = null;
  document.getElementById("who").textContent = "";
  document.getElementById("sign-out").hidden = true;
  say("The token is forgotten.");
  render();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment of the address says which view is shown
  main.focus();
});
window.addEventListener("hashchange", () => {
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  render();
});
render();
