// One query: live by server-sent events; its plan and attempts are asked for again while it runs.

import { events, get, Problem, remove } from "./api.js";
import { ENDED, labels, section, stateBadge, tile } from "./badges.js";
import { h, refresh, say, show } from "./dom.js";
import { bytes, count, dollars, moment, seconds } from "./format.js";
import { stageGraph } from "./graph.js";
import { histograms, measureChoice } from "./skew.js";
import { failures, slowest, stageTable } from "./tables.js";
import { attemptDetail, keyOf, legend, timeline } from "./timeline.js";
import { pause, polling } from "./polling.js";

const DETAILS_MS = 1500;
const AGAIN_MS = 1000;
const DRAW_MS = 250;
const MOST_ATTEMPTS = 2000;

export function queryView(context, id) {
  document.title = `${id} – Frazil`;
  const path = `v1/queries/${encodeURIComponent(id)}`;
  const view = { context, path, status: null, plan: null, page: null, stage: null, chosen: null, due: null, measure: "seconds" };
  const parts = Object.fromEntries(["head", "tiles", "graph", "time", "skew", "tables", "plan"].map((name) => [name, h("div", { class: `part-${name}` })]));
  view.parts = parts;
  show(context.main, Object.values(parts));
  view.draw = () => draw(view);
  let wide = 0;
  const redrawn = new ResizeObserver(() => {
    if (parts.time.clientWidth === wide) return; // drawing changes the height
    wide = parts.time.clientWidth;
    if (view.page) drawTime(view);
  });
  redrawn.observe(parts.time);
  context.signal.addEventListener("abort", () => redrawn.disconnect(), { once: true });
  follow(view);
  details(view);
}

async function follow(view) {
  const { context, path } = view;
  while (!context.signal.aborted) {
    try {
      await events(`${path}/events`, context.signal, (event) => {
        const before = view.status?.state;
        view.status = event.status;
        context.settle();
        if (before !== undefined && before !== event.status.state) say(`The query is ${event.status.state}.`);
        soon(view);
      });
      if (view.status && ENDED.has(view.status.state)) return;
    } catch (error) {
      if (context.signal.aborted) return;
      context.tell(error);
      if (error instanceof Problem && (error.status === 401 || error.status === 404)) return;
    }
    await pause(AGAIN_MS, context.signal); // the coordinator ended, and another one goes on with the query
  }
}

// Events may be many a second: what they change is drawn a few times a second.
function soon(view) {
  view.due ??= setTimeout(() => {
    view.due = null;
    if (view.context.signal.aborted) return;
    drawHead(view);
    drawGraph(view);
  }, view.plan === null ? 0 : DRAW_MS);
}

async function details(view) {
  const { context, path } = view;
  const once = async () => {
    const ended = view.status !== null && ENDED.has(view.status.state);
    try {
      view.plan = await get(`${path}/plan`, { analyze: true }, context.signal);
    } catch (error) {
      // Being planned, or it never was: then the error is in its status.
      if (!(error instanceof Problem) || error.status === 401 || error.status === 404 || error.status === 0) throw error;
    }
    view.page = await get(`${path}/tasks`, { limit: MOST_ATTEMPTS, stage: view.stage }, context.signal);
    view.draw();
    if (ended) view.settled = true;
  };
  const stop = new AbortController();
  context.signal.addEventListener("abort", () => stop.abort(), { once: true });
  view.reload = () => once().catch(context.tell);
  await polling(stop.signal, DETAILS_MS, async () => { await once(); if (view.settled) stop.abort(); }, context.tell);
}

function draw(view) {
  if (view.status === null) return;
  drawHead(view);
  drawGraph(view);
  drawTime(view);
  drawSkew(view);
  drawTables(view);
  drawPlan(view);
}

function drawHead(view) {
  const { status, context } = view;
  const cancel = async (event) => {
    if (!confirm(`Cancel query ${status.id}?`)) return;
    event.target.disabled = true;
    await remove(view.path).catch(context.tell);
  };
  const may = context.caller.role !== "read" && !ENDED.has(status.state);
  refresh(
    view.parts.head,
    h("p", { class: "crumbs" }, h("a", { href: "#/queries", "data-key": "back" }, "← Queries")),
    h("div", { class: "title" }, h("h1", {}, status.id), stateBadge(status.state), labels(status), may ? h("button", { type: "button", class: "danger", id: "cancel", "data-key": "cancel", onclick: cancel }, "Cancel query") : null),
    status.waits_for ? h("p", { class: "hint" }, `It waits for ${status.waits_for}.`) : null,
    status.error ? errorBox(status) : null,
    status.fallbacks.map((why) => h("p", { class: "hint" }, `! ${why}`)),
  );
  drawTiles(view);
}

function errorBox({ id, state, error }) {
  const where = Object.entries(error.where ?? {}).map(([name, value]) => `${name} ${value}`).join(", ");
  const { stage, task } = error.where ?? {};
  const again = state === "failed" && stage !== undefined && task !== undefined ? h("p", { class: "where again" }, "To run that task again on your machine: ", h("code", {}, `frazil replay ${id}/${stage}/${task}`)) : null;
  return h("div", { class: "error", role: "alert" }, h("strong", {}, error.exception || error.kind), where ? h("span", { class: "where" }, ` ${where}`) : null, h("pre", {}, error.message), again);
}

function drawTiles(view) {
  const { status, plan } = view;
  const measured = plan?.measured;
  const sum = (name) => status.progress.reduce((total, stage) => total + stage[name], 0);
  const end = status.ended_unix_s ?? Date.now() / 1000;
  const requests = Object.values(measured?.requests ?? {}).reduce((total, one) => total + one, 0);
  const byKind = Object.entries(measured?.requests ?? {}).map(([name, value]) => `${count(value)} ${name.toUpperCase()}`).join(", ");
  const ran = ENDED.has(status.state) && measured ? measured.tasks : sum("tasks"); // some were only needed if …
  const again = Math.max(0, sum("attempts") - ran);
  show(
    view.parts.tiles,
    h(
      "dl",
      { class: "tiles" },
      tile("Took", seconds(Math.max(0, end - (status.started_unix_s ?? status.submitted_unix_s))), `since ${moment(status.started_unix_s ?? status.submitted_unix_s)}`),
      tile("Tasks", `${count(sum("done"))} / ${count(ran)}`, again ? `${count(again)} more ${again === 1 ? "attempt" : "attempts"}` : sum("running") ? `${count(sum("running"))} running` : null),
      tile("Scanned", bytes(measured?.bytes_scanned), measured ? `${bytes(measured.bytes_in)} exchanged` : null),
      tile("Requests", count(measured ? requests : null), byKind),
      tile("Functions", seconds(measured?.function_seconds), measured ? `${count(measured.cold_starts)} cold starts` : null),
      tile("Cost", dollars(measured?.dollars), plan?.predicted ? `expected ${dollars(plan.predicted.dollars)}` : null),
      tile("Result", status.rows === null ? "–" : `${count(status.rows)} rows`, status.bytes === null ? null : bytes(status.bytes)),
      tile("Tenant", status.tenant, `priority ${status.priority}`),
    ),
  );
}

function drawGraph(view) {
  if (!view.plan?.stages.length) return;
  const progress = new Map(view.status.progress.map((stage) => [stage.stage, stage]));
  const reused = new Map((view.page?.reused ?? []).map((stage) => [stage.stage, stage.tasks]));
  const select = (stage) => {
    view.stage = stage;
    view.chosen = null;
    view.draw();
    view.reload();
  };
  refresh(
    view.parts.graph,
    section("Stages", "stages-title", view.stage === null ? h("p", { class: "muted" }, "Choose a stage to see only its tasks.") : h("p", {}, `Stage ${view.stage} is chosen. `, h("button", { type: "button", "data-key": "all", onclick: () => select(null) }, "Show all")), stageGraph(view.plan.stages, progress, reused, ENDED.has(view.status.state), view.stage, select)),
  );
}

function drawTime(view) {
  const { page } = view;
  const wide = Math.max(280, view.parts.time.clientWidth - 34);
  const choose = (key) => {
    view.chosen = key;
    drawTime(view);
  };
  const chosen = page.attempts.find((one) => keyOf(one) === view.chosen);
  refresh(
    view.parts.time,
    section(
      "Timeline",
      "time-title",
      page.attempts.length === 0 ? h("p", { class: "empty" }, "No task was sent.") : [legend(page), timeline(page, view.chosen, wide, choose)],
      page.total > page.attempts.length ? h("p", { class: "muted" }, `The first ${count(page.attempts.length)} of ${count(page.total)} attempts; choose a stage to see its own.`) : null,
      chosen ? attemptDetail(chosen) : null,
    ),
  );
}

function drawSkew(view) {
  if (!view.page.spreads.length) return show(view.parts.skew);
  const kinds = new Map((view.plan?.stages ?? []).map((stage) => [stage.stage, stage.kind]));
  const change = (measure) => {
    view.measure = measure;
    drawSkew(view);
  };
  refresh(view.parts.skew, section("Skew", "skew-title", measureChoice(view.measure, change), histograms(view.page.spreads, kinds, view.measure, view.stage)));
}

function drawTables(view) {
  refresh(view.parts.tables, stageTable(view.plan?.stages ?? []), failures(view.page), slowest(view.page));
}

function drawPlan(view) {
  if (view.plan === null) return show(view.parts.plan);
  const open = view.parts.plan.querySelector("details")?.open ?? true;
  const sql = view.plan.sql ? section("SQL", "sql-title", h("pre", { class: "plan sql", tabindex: "0", "data-scroll": "sql", "aria-label": "SQL" }, view.plan.sql)) : null;
  refresh(view.parts.plan, sql, h("section", { class: "panel" }, h("details", { open }, h("summary", { "data-key": "plan" }, h("h2", {}, "Plan")), h("pre", { class: "plan", tabindex: "0", "data-scroll": "plan", "aria-label": "Plan" }, view.plan.text))));
}
