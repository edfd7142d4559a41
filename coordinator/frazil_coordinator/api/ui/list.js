// The list of queries, with filters that are part of the page's address.

import { get } from "./api.js";
import { bar, ENDED, labels, stateBadge } from "./badges.js";
import { h, say, show } from "./dom.js";
import { ago, count, moment, seconds } from "./format.js";
import { pause, polling } from "./polling.js";

const EVERY_MS = 2000;
const TYPED_MS = 250;
const PAGE = 50;
const MOST = 1000;
const STATES = ["planning", "queued", "running", "succeeded", "failed", "cancelled"];

export function listView(context, params) {
  document.title = "Queries – Frazil";
  const filters = Object.fromEntries(["text", "state", "label", "tenant"].map((name) => [name, params.get(name) ?? ""]));
  let limit = PAGE;
  const body = h("tbody", {});
  const empty = h("p", { class: "empty", hidden: true });
  const more = h("button", { type: "button", hidden: true, onclick: () => ((limit = Math.min(MOST, limit + 100)), load().catch(context.tell)) }, "Show more");
  const rows = new Map();

  async function load() {
    const found = await get("v1/queries", { ...filters, limit }, context.signal);
    if (context.signal.aborted) return;
    context.settle();
    draw(body, rows, found);
    empty.hidden = found.length > 0;
    empty.textContent = Object.values(filters).some(Boolean) ? "No query is like that." : "There is no query yet.";
    more.hidden = found.length < limit || limit >= MOST;
  }

  let typed = null;
  function change(name, value) {
    filters[name] = value;
    const search = new URLSearchParams(Object.entries(filters).filter(([, given]) => given));
    history.replaceState(null, "", `#/queries${search.size ? `?${search}` : ""}`);
    typed?.abort();
    const mine = (typed = new AbortController());
    pause(TYPED_MS, mine.signal).then(async () => {
      if (mine.signal.aborted || context.signal.aborted) return;
      await load().catch(context.tell);
      say(`${rows.size} queries`);
    });
  }

  show(context.main, h("h1", {}, "Queries"), filterForm(filters, context.caller, change), table(body), empty, more);
  document.addEventListener("keydown", (event) => keys(event, body), { signal: context.signal });
  polling(context.signal, EVERY_MS, load, context.tell);
}

function filterForm(filters, caller, change) {
  const field = (name, label, attributes) =>
    h("label", {}, label, h("input", { name, type: "search", value: filters[name], oninput: (event) => change(name, event.target.value.trim()), autocomplete: "off", maxlength: 200, ...attributes }));
  const states = ["", ...STATES].map((state) => h("option", { value: state, selected: state === filters.state }, state || "any"));
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filter queries", onsubmit: (event) => event.preventDefault() },
    field("text", "Text", { id: "search", placeholder: "id, label, error …", "aria-keyshortcuts": "/" }),
    h("label", {}, "State", h("select", { name: "state", onchange: (event) => change("state", event.target.value) }, states)),
    field("label", "Label"),
    caller.role === "admin" ? field("tenant", "Tenant") : null,
  );
}

function table(body) {
  const heads = ["Query", "State", "Labels", "Tenant", "Submitted", "Took", "Tasks", "Rows"];
  return h(
    "div",
    { class: "table-wrap" },
    h("table", { class: "queries" }, h("caption", { class: "visually-hidden" }, "Queries, newest first"), h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), body),
  );
}

// Only rows that changed are made anew, so that the focus and a selection stay where they are.
function draw(body, rows, found) {
  const wanted = found.map((status) => {
    const text = JSON.stringify(status);
    let known = rows.get(status.id);
    if (known?.text !== text) {
      const focused = known?.row.contains(document.activeElement);
      const row = rowOf(status);
      if (known) known.row.replaceWith(row);
      known = { text, row };
      rows.set(status.id, known);
      if (focused) row.querySelector("a").focus({ preventScroll: true });
    }
    const age = known.row.querySelector("time");
    age.textContent = ago(status.submitted_unix_s);
    if (!ENDED.has(status.state)) known.row.querySelector(".took").textContent = took(status);
    return known.row;
  });
  const kept = new Set(found.map((status) => status.id));
  for (const [id, { row }] of rows) if (!kept.has(id)) (row.remove(), rows.delete(id));
  wanted.forEach((row, at) => body.children[at] !== row && body.insertBefore(row, body.children[at] ?? null));
}

function took(status) {
  const end = status.ended_unix_s ?? Date.now() / 1000;
  return seconds(Math.max(0, end - (status.started_unix_s ?? status.submitted_unix_s)));
}

function rowOf(status) {
  const sum = (name) => status.progress.reduce((total, stage) => total + stage[name], 0);
  const [done, running, planned] = ["done", "running", "tasks"].map(sum);
  const tasks = status.state === "succeeded" ? done : planned; // some are planned in case that they are needed
  const cell = (name, ...children) => h("td", { "data-name": name }, children);
  const why = status.error?.message ?? status.waits_for;
  return h(
    "tr",
    { onclick: (event) => event.target.closest("a") ?? (getSelection().isCollapsed && event.currentTarget.querySelector("a").click()) },
    h("th", { scope: "row" }, h("a", { href: `#/queries/${encodeURIComponent(status.id)}` }, status.id)),
    cell("State", stateBadge(status.state), why ? h("span", { class: "why", title: why }, why) : null),
    cell("Labels", labels(status)),
    cell("Tenant", status.tenant),
    cell("Submitted", h("time", { datetime: new Date(status.submitted_unix_s * 1000).toISOString(), title: moment(status.submitted_unix_s) })),
    h("td", { class: "took", "data-name": "Took" }, took(status)),
    cell("Tasks", tasks > 0 ? [bar(done, running, tasks, `${done} of ${tasks} tasks done`), h("span", { class: "of" }, `${count(done)}/${count(tasks)}`)] : "–"),
    cell("Rows", count(status.rows)),
  );
}

// "/" to search, j and k (or the arrows) from row to row; Enter follows the focused link, as everywhere.
function keys(event, body) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    document.getElementById("search").focus();
    return;
  }
  const step = typing ? 0 : { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key] ?? 0;
  if (step === 0) return;
  const links = [...body.querySelectorAll("th a")];
  const at = links.indexOf(document.activeElement);
  if (event.key.startsWith("Arrow") && at < 0) return; // the arrows scroll, unless a row has the focus
  const next = links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + step))];
  if (next) (event.preventDefault(), next.focus());
}
