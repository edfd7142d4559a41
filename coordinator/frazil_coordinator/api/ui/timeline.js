// Attempts on a time axis, packed into as few lanes as there were attempts at once; colours tell attempts and cold starts.

import { h, s } from "./dom.js";
import { bytes, count, seconds } from "./format.js";

const LANE = 12;
const GAP = 2;
const HEAD = 20;
const LEAST = 1.5;
const MOST_LANES = 400;

const KINDS = [
  ["first", "first attempt"],
  ["cold", "cold start"],
  ["again", "second attempt"],
  ["more", "third or later"],
  ["failed", "failed"],
  ["unneeded", "not needed"],
  ["running", "running"],
  ["reused", "reused: nothing ran"],
];

function kindOf(attempt) {
  if (attempt.state === "running") return "running";
  if (attempt.state === "failed") return "failed";
  if (attempt.state === "not_needed") return "unneeded";
  if (attempt.state === "reused") return "reused";
  if (attempt.attempt > 1) return "more";
  if (attempt.attempt === 1) return "again";
  return attempt.cold_start ? "cold" : "first";
}

// Lanes by stage, so that stages stay together; inside one the first lane that is free.
function lanes(attempts, end) {
  const byStage = new Map();
  for (const attempt of attempts) {
    if (!byStage.has(attempt.stage)) byStage.set(attempt.stage, []);
    byStage.get(attempt.stage).push(attempt);
  }
  const placed = [];
  const groups = [];
  let base = 0;
  for (const [stage, own] of [...byStage].sort(([a], [b]) => a - b)) {
    const free = [];
    for (const attempt of own) {
      let lane = free.findIndex((until) => until <= attempt.began_s + 1e-9);
      if (lane < 0) lane = free.push(0) - 1;
      free[lane] = attempt.ended_s ?? end;
      placed.push({ attempt, lane: base + lane });
    }
    groups.push({ stage, from: base, lanes: free.length });
    base += free.length;
  }
  return { placed, groups, count: base };
}

function step(span, width) {
  const rough = span / Math.max(2, Math.floor(width / 110));
  const scale = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((one) => one * scale).find((one) => one >= rough);
}

export function timeline(page, chosen, width, onChoose) {
  const end = Math.max(page.seconds, ...page.attempts.map((one) => one.ended_s ?? 0), 1e-3);
  const { placed, groups, count: laneCount } = lanes(page.attempts, end);
  const shown = placed.filter(({ lane }) => lane < MOST_LANES);
  const left = 40;
  const scale = (width - left - 4) / end;
  const height = HEAD + Math.min(laneCount, MOST_LANES) * (LANE + GAP) + groups.length * 4 + 4;
  const yOf = (lane, stage) => HEAD + lane * (LANE + GAP) + 4 * groups.findIndex((group) => group.stage === stage);
  const ticks = [];
  const every = step(end, width - left);
  for (let at = 0; at <= end; at += every) {
    const x = left + at * scale;
    ticks.push(s("line", { class: "tick", x1: x, x2: x, y1: HEAD - 4, y2: height }), s("text", { class: "tick-text", x: x + 3, y: 12 }, seconds(at)));
  }
  const names = groups.filter((group) => group.from < MOST_LANES).map((group) => s("text", { class: "stage-name", x: 0, y: yOf(group.from, group.stage) + LANE - 2 }, `st. ${group.stage}`));
  const bars = shown.map(({ attempt, lane }) => {
    const x = left + attempt.began_s * scale;
    const long = Math.max(LEAST, ((attempt.ended_s ?? end) - attempt.began_s) * scale);
    const key = keyOf(attempt);
    const inside = attempt.seconds === null ? long : Math.min(long, Math.max(LEAST, attempt.seconds * scale));
    const waited = long - inside > 1 ? s("rect", { class: `run run-${kindOf(attempt)} waited`, x, y: yOf(lane, attempt.stage) + 3, width: long - inside, height: LANE - 6, "data-attempt": key }) : null;
    return [waited, s("rect", { class: `run run-${kindOf(attempt)}${key === chosen ? " chosen" : ""}`, x: x + long - inside, y: yOf(lane, attempt.stage), width: inside, height: LANE, rx: 2, "data-attempt": key }, s("title", {}, about(attempt)))];
  });
  const choose = (event) => onChoose(event.target.closest?.("[data-attempt]")?.dataset.attempt ?? null);
  const move = (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by === undefined || !shown.length) return;
    event.preventDefault();
    const at = shown.findIndex(({ attempt }) => keyOf(attempt) === chosen);
    onChoose(keyOf(shown[at < 0 ? 0 : (at + by + shown.length) % shown.length].attempt));
  };
  return h(
    "div",
    { class: "scroll-y", "data-scroll": "timeline" },
    s("svg", { class: "timeline", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", tabindex: "0", "data-key": "timeline", "aria-label": `Timeline of ${page.attempts.length} attempts; arrow keys go from one to the next`, onclick: choose, onkeydown: move }, ticks, names, bars),
  );
}

export const keyOf = (attempt) => `${attempt.stage}/${attempt.task}/${attempt.attempt}`;

export function legend(page) {
  const found = new Map();
  for (const attempt of page.attempts) found.set(kindOf(attempt), (found.get(kindOf(attempt)) ?? 0) + 1);
  return h(
    "ul",
    { class: "legend" },
    KINDS.filter(([kind]) => found.has(kind)).map(([kind, name]) => h("li", {}, h("span", { class: `swatch run-${kind}`, "aria-hidden": "true" }), `${name} (${count(found.get(kind))})`)),
    h("li", {}, h("span", { class: "swatch waited", "aria-hidden": "true" }), "thin: waits for a function"),
  );
}

const ORDER = ["get", "put", "head", "list", "delete"];

// "3 GET, 1 PUT; 1 of them made once more"
function requestsOf(attempt) {
  const told = ORDER.filter((name) => attempt.requests[name]).map((name) => `${count(attempt.requests[name])} ${name.toUpperCase()}`);
  const again = attempt.requests.hedge;
  return `${told.join(", ")}${again ? `; ${count(again)} of them made once more` : ""}`;
}

function about(attempt) {
  if (attempt.state === "reused") return `stage ${attempt.stage}, task ${attempt.task}: reused, nothing ran`;
  const took = attempt.ended_s === null ? "running" : seconds(attempt.ended_s - attempt.began_s);
  const parts = [`stage ${attempt.stage}, task ${attempt.task}, attempt ${attempt.attempt}: ${attempt.state.replace("_", " ")}, ${took}`];
  if (attempt.cold_start) parts.push("cold start");
  if (requestsOf(attempt)) parts.push(`store: ${requestsOf(attempt)}`);
  if (attempt.kind) parts.push(`${attempt.kind}: ${attempt.message}`);
  return parts.join("\n");
}

export function attemptDetail(attempt) {
  const reused = attempt.state === "reused";
  const took = attempt.ended_s === null ? null : attempt.ended_s - attempt.began_s;
  const facts = [
    ["State", attempt.state.replace("_", " ") + (attempt.cold_start ? ", cold start" : "")],
    [reused ? "Taken up at" : "Sent at", seconds(attempt.began_s)],
    reused ? null : ["Took", took === null ? "running" : seconds(took)],
    attempt.seconds === null ? null : ["In the function", seconds(attempt.seconds)],
    reused ? ["Rows out", count(attempt.rows_out)] : null,
    reused ? ["Bytes out", bytes(attempt.bytes_out)] : null,
    attempt.rows_in === null ? null : ["Rows in → out", `${count(attempt.rows_in)} → ${count(attempt.rows_out)}`],
    attempt.bytes_in === null ? null : ["Bytes in → out", `${bytes(attempt.bytes_in)} → ${bytes(attempt.bytes_out)}`],
    requestsOf(attempt) ? ["Store requests", requestsOf(attempt)] : null,
    attempt.peak_memory_bytes ? ["Peak memory", bytes(attempt.peak_memory_bytes)] : null,
    attempt.kind && attempt.state === "failed" ? ["Error", `${attempt.kind}: ${attempt.message}`] : null,
  ].filter(Boolean);
  return h(
    "div",
    { class: "detail", role: "status" },
    h("h3", {}, `Stage ${attempt.stage}, task ${attempt.task}${reused ? "" : `, attempt ${attempt.attempt}`}`),
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
  );
}
