// Figures of a query as tables: stages, failed attempts, and the tasks that took longest.

import { section } from "./badges.js";
import { h } from "./dom.js";
import { bytes, count, dollars, seconds } from "./format.js";

const SLOWEST = 8;
const FAILURES = 50;

function table(caption, heads, rows) {
  return h(
    "div",
    { class: "table-wrap" },
    h(
      "table",
      { class: "figures" },
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, at) => h(at === 0 ? "th" : "td", at === 0 ? { scope: "row" } : {}, cell))))),
    ),
  );
}

export function stageTable(stages) {
  const ran = stages.filter((stage) => stage.measured && stage.measured.attempts > 0);
  if (!ran.length) return null;
  const heads = ["Stage", "Tasks", "Attempts", "Rows in", "Rows out", "Scanned", "Read", "Written", "Requests", "Memory", "Time", "Cost"];
  const rows = ran.map(({ stage, kind, measured: did }) => [
    `${stage} ${kind}`,
    count(did.tasks),
    count(did.attempts),
    count(did.rows_in),
    count(did.rows_out),
    did.bytes_scanned ? bytes(did.bytes_scanned) : "–",
    bytes(did.bytes_in),
    bytes(did.bytes_out),
    count(Object.values(did.requests).reduce((total, one) => total + one, 0)),
    bytes(did.memory_bytes),
    seconds(did.seconds),
    dollars(did.dollars),
  ]);
  const notes = ran.flatMap(({ stage, measured }) => measured.adaptations.map((text) => h("li", {}, `stage ${stage}: ${text}`)));
  return section("Figures", "figures-title", table("What each stage did", heads, rows), notes.length ? [h("h3", {}, "Changed while it ran"), h("ul", { class: "notes" }, notes)] : null);
}

export function failures(page) {
  const failed = page.attempts.filter((attempt) => attempt.state === "failed");
  if (!failed.length) return null;
  const rows = failed.slice(0, FAILURES).map((one) => [`${one.stage}/${one.task}/${one.attempt}`, one.kind, seconds(one.began_s), seconds(one.ended_s - one.began_s), h("span", { class: "message" }, one.message)]);
  return section(`Failed attempts (${count(failed.length)})`, "failures-title", table("Failed attempts", ["Stage/task/attempt", "Kind", "Sent at", "Took", "Message"], rows));
}

export function slowest(page) {
  const done = page.attempts.filter((attempt) => attempt.state === "succeeded").sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST);
  if (done.length < 2) return null;
  const rows = done.map((one) => [`${one.stage}/${one.task}/${one.attempt}`, seconds(one.seconds), seconds(one.ended_s - one.began_s - one.seconds), one.cold_start ? "yes" : "", count(one.rows_in), count(one.rows_out), bytes(one.bytes_in), bytes(one.bytes_out), bytes(one.peak_memory_bytes)]);
  return section("Slowest tasks", "slowest-title", table("Slowest tasks", ["Stage/task/attempt", "Function", "Waited", "Cold", "Rows in", "Rows out", "Read", "Written", "Memory"], rows));
}
