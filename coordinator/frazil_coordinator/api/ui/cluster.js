// The cluster: functions by state, slots, and each tenant's queue beside its quotas.

import { get } from "./api.js";
import { bar, section, tile } from "./badges.js";
import { h, refresh, show } from "./dom.js";
import { count, seconds } from "./format.js";
import { polling } from "./polling.js";

const EVERY_MS = 2000;
const LIMITS = { max_running_tasks: "tasks", max_running_queries: "queries", max_queued_queries: "waiting" };

export function clusterView(context) {
  document.title = "Cluster – Frazil";
  const body = h("div", {});
  show(context.main, h("h1", {}, "Cluster"), body);
  polling(
    context.signal,
    EVERY_MS,
    async () => {
      const cluster = await get("v1/cluster", {}, context.signal);
      context.settle();
      refresh(body, functions(cluster), tenants(cluster), about(cluster));
    },
    context.tell,
  );
}

function functions({ functions: now, slots }) {
  return section(
    "Functions",
    "functions-title",
    h(
      "dl",
      { class: "tiles" },
      tile("Functions", count(now.running), bar(now.busy, 0, now.running, `${now.busy} of ${now.running} functions are busy`)),
      tile("Busy", count(now.busy)),
      tile("Idle", count(now.idle)),
      tile("Started", count(now.started_total), now.died_total ? `${count(now.died_total)} died` : "none died"),
      tile("Slots", `${count(slots.taken)} / ${count(slots.limit)}`, bar(slots.taken, 0, slots.limit, `${slots.taken} of ${slots.limit} slots are taken`)),
      tile("Slots wanted", count(slots.wanted), slots.wanted ? "tasks wait for a slot" : "nothing waits"),
    ),
  );
}

function tenants({ tenants: all }) {
  const heads = ["Tenant", "Running", "Waiting", "Longest wait", "Tasks", "Tasks wanted", "Quotas"];
  const rows = all.map((one) => {
    const active = Object.values(one.queries).reduce((total, each) => total + each, 0) - one.waiting;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, one.name),
      h("td", { "data-name": "Running" }, used(active, one.quotas.max_running_queries)),
      h("td", { "data-name": "Waiting" }, used(one.waiting, one.quotas.max_queued_queries)),
      h("td", { "data-name": "Longest wait" }, one.waiting ? seconds(one.oldest_waiting_s) : "–"),
      h("td", { "data-name": "Tasks" }, used(one.tasks, one.quotas.max_running_tasks)),
      h("td", { "data-name": "Tasks wanted" }, count(one.wanted)),
      h("td", { "data-name": "Quotas", class: "quotas" }, quotas(one.quotas)),
    );
  });
  return section("Tenants", "tenants-title", h("div", { class: "table-wrap" }, h("table", { class: "queries" }, h("caption", { class: "visually-hidden" }, "Queue and quotas by tenant"), h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows))));
}

function used(value, limit) {
  if (limit === null || limit === undefined) return count(value);
  return [bar(value, 0, limit, `${value} of ${limit}`), h("span", { class: "of" }, `${count(value)}/${count(limit)}`)];
}

// What is not shown as a bar; a quota that this page does not know is shown by its name.
function quotas(all) {
  return Object.entries(all)
    .filter(([name]) => !(name in LIMITS))
    .map(([name, value]) => h("span", { class: "quota" }, `${name.replaceAll("_", " ")}: `, h("strong", {}, text(value))));
}

function text(value) {
  if (value === null) return "any";
  if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

function about({ leadership, versions }) {
  const facts = [["Leader", leadership.leader ? "yes" : "no"], ["Journal", leadership.journal], ["", leadership.detail], ["Frazil", versions.frazil], ["Polars", versions.polars]];
  return section("Coordinator", "about-title", h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}
