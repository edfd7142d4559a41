// The stages of a query as a graph: who reads from whom, and how far each is.

import { h, s } from "./dom.js";
import { bytes, count, seconds, short } from "./format.js";

const WIDTH = 176;
const HEIGHT = 66;
const GAP_X = 46;
const GAP_Y = 18;
const PAD = 8;

// Column of a stage: one more than that of the last stage that it reads.
function columns(stages) {
  const column = new Map();
  for (const stage of stages) {
    const before = sourcesOf(stage).filter((one) => column.has(one)).map((one) => column.get(one));
    column.set(stage.stage, before.length ? Math.max(...before) + 1 : 0);
  }
  return column;
}

const sourcesOf = (stage) => [...new Set(stage.sources.map((source) => source.stage).filter((one) => one !== undefined && one !== null))];

function places(stages) {
  const column = columns(stages);
  const deepest = Math.max(0, ...column.values());
  // A stage without sources stands just before the first one that reads it.
  for (const stage of [...stages].reverse()) {
    if (sourcesOf(stage).length) continue;
    const readers = stages.filter((one) => sourcesOf(one).includes(stage.stage)).map((one) => column.get(one.stage));
    if (readers.length) column.set(stage.stage, Math.min(...readers) - 1);
  }
  const rows = new Array(deepest + 1).fill(0);
  const place = new Map();
  for (const stage of stages) {
    const at = column.get(stage.stage);
    place.set(stage.stage, { x: PAD + at * (WIDTH + GAP_X), y: PAD + rows[at] * (HEIGHT + GAP_Y) });
    rows[at] += 1;
  }
  return { place, width: 2 * PAD + (deepest + 1) * WIDTH + deepest * GAP_X, height: 2 * PAD + Math.max(1, ...rows) * (HEIGHT + GAP_Y) - GAP_Y };
}

export function stageGraph(stages, progress, reused, ended, selected, onSelect) {
  const shown = stages.filter((stage) => !stage.reserve || (progress.get(stage.stage)?.attempts ?? 0) > 0 || reused.has(stage.stage));
  const { place, width, height } = places(shown);
  const largest = Math.max(1, ...shown.map((stage) => stage.measured?.bytes_out ?? 0));
  const edges = shown.flatMap((stage) =>
    sourcesOf(stage)
      .filter((from) => place.has(from))
      .map((from) => edge(place.get(from), place.get(stage.stage), shown.find((one) => one.stage === from), largest)),
  );
  const nodes = shown.map((stage) => node(stage, place.get(stage.stage), progress.get(stage.stage), reused.get(stage.stage) ?? 0, ended, stage.stage === selected, onSelect));
  return h(
    "div",
    { class: "scroll-x", "data-scroll": "graph", tabindex: "0", role: "group", "aria-label": "Stage graph" },
    s("svg", { class: "graph", width, height, viewBox: `0 0 ${width} ${height}` }, edges, nodes),
  );
}

function edge(from, to, producer, largest) {
  const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const bend = Math.max(24, (x2 - x1) / 2);
  const moved = producer.measured?.bytes_out ?? 0;
  const title = s("title", {}, `stage ${producer.stage} wrote ${bytes(moved)} in ${count(producer.measured?.rows_out ?? 0)} rows (${producer.output.kind})`);
  return s("path", { class: "edge", d: `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`, style: { "stroke-width": `${1.5 + 4.5 * Math.sqrt(moved / largest)}px` } }, title);
}

function node(stage, at, progress, reused, ended, selected, onSelect) {
  const tasks = progress?.tasks ?? stage.tasks;
  const done = progress?.done ?? stage.measured?.tasks ?? 0;
  const state = stateOf(progress);
  const rows = progress?.rows ?? stage.measured?.rows_out;
  const about = `Stage ${stage.stage}, ${stage.kind}: ${done} of ${tasks} tasks done${reused ? `, ${reused} of them reused` : ""}`;
  const long = (some) => (tasks > 0 ? ((WIDTH - 24) * Math.min(some, tasks)) / tasks : 0);
  const [aside, mark] = stage.fallbacks.length ? ["one task !", " node-warning"] : reused ? [`${count(reused)} reused`, " node-reused"] : [rows ? `${short(rows)} rows` : "", ""];
  const choose = () => onSelect(selected ? null : stage.stage);
  const onKey = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose();
  };
  return s(
    "g",
    { class: `node node-${state}`, transform: `translate(${at.x},${at.y})`, role: "button", tabindex: "0", "data-key": `stage-${stage.stage}`, "aria-pressed": String(selected), "aria-label": about, onclick: choose, onkeydown: onKey },
    s("title", {}, [about, ...stage.operators, ...stage.fallbacks.map((why) => `! ${why}`)].join("\n")),
    s("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 8 }),
    s("text", { class: "node-title", x: 12, y: 20 }, `${stage.stage} ${stage.kind}`),
    s("text", { class: "node-text end", x: WIDTH - 12, y: 20 }, stage.measured?.seconds > 0 ? seconds(stage.measured.seconds) : ""),
    s("text", { class: "node-text", x: 12, y: 40 }, state === "waiting" && ended ? "not needed" : `${count(done)}/${count(tasks)} tasks`),
    s("text", { class: `node-text end${mark}`, x: WIDTH - 12, y: 40 }, aside),
    s("rect", { class: "track", x: 12, y: HEIGHT - 14, width: WIDTH - 24, height: 5, rx: 2.5 }),
    s("rect", { class: "fill", x: 12, y: HEIGHT - 14, width: long(done), height: 5, rx: 2.5 }),
    reused ? s("rect", { class: "fill-reused", x: 12, y: HEIGHT - 14, width: long(reused), height: 5, rx: 2.5 }) : null,
  );
}

function stateOf(progress) {
  if (progress === undefined || (progress.attempts === 0 && progress.done === 0)) return "waiting";
  return progress.done >= progress.tasks ? "done" : "running";
}
