// How evenly the tasks of each stage were cut: one histogram a stage, of the measure that is chosen.

import { h, s } from "./dom.js";
import { bytes, count, seconds } from "./format.js";

const WIDTH = 220;
const HEIGHT = 64;

export const MEASURES = [
  ["seconds", "Seconds", seconds],
  ["rows_in", "Rows in", count],
  ["rows_out", "Rows out", count],
  ["bytes_in", "Bytes in", bytes],
  ["bytes_out", "Bytes out", bytes],
  ["peak_memory_bytes", "Memory", bytes],
];

export function measureChoice(chosen, onChange) {
  const options = MEASURES.map(([name, text]) => h("option", { value: name, selected: name === chosen }, text));
  return h("label", { class: "inline" }, "Measure", h("select", { "data-key": "measure", onchange: (event) => onChange(event.target.value) }, options));
}

export function histograms(spreads, kinds, measure, stage) {
  const format = MEASURES.find(([name]) => name === measure)[2];
  const shown = spreads.filter((one) => measure in one.measures && (stage === null || one.stage === stage));
  if (!shown.length) return h("p", { class: "empty" }, "No task has told this yet.");
  const many = shown.filter((one) => one.measures[measure].counts.length > 1);
  const alike = shown.filter((one) => one.measures[measure].counts.length === 1);
  return [
    h("div", { class: "histograms" }, many.map((one) => histogram(one, kinds.get(one.stage) ?? "", one.measures[measure], format))),
    alike.length ? h("p", { class: "alike" }, alike.map((one) => h("span", {}, h("strong", {}, `${one.stage} ${kinds.get(one.stage) ?? ""}`), ` · ${one.tasks === 1 ? "one task" : `${count(one.tasks)} tasks, all`} ${format(one.measures[measure].median)}`))) : null,
  ];
}

function histogram(one, kind, spread, format) {
  const most = Math.max(...spread.counts);
  const wide = WIDTH / spread.counts.length;
  const bars = spread.counts.map((tasks, at) => {
    const tall = tasks === 0 ? 0 : Math.max(2, (HEIGHT * tasks) / most);
    const from = spread.least + ((spread.largest - spread.least) * at) / spread.counts.length;
    return s("rect", { class: "column", x: at * wide + 0.5, y: HEIGHT - tall, width: Math.max(1, wide - 1), height: tall }, s("title", {}, `${count(tasks)} tasks from ${format(from)}`));
  });
  const skew = spread.median > 0 ? spread.largest / spread.median : null;
  const text = `least ${format(spread.least)}, median ${format(spread.median)}, largest ${format(spread.largest)}`;
  return h(
    "figure",
    { class: skew !== null && skew >= 4 && one.tasks > 2 ? "skewed" : "" },
    h("figcaption", {}, h("strong", {}, `${one.stage} ${kind}`), ` · ${count(one.tasks)} tasks`, skew === null || one.tasks < 2 ? null : h("span", { class: "ratio" }, ` · largest ${skew.toFixed(1)} × median`)),
    s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Stage ${one.stage}: ${text}`, preserveAspectRatio: "none" }, bars),
    h("div", { class: "range" }, h("span", {}, format(spread.least)), h("span", {}, `median ${format(spread.median)}`), h("span", {}, format(spread.largest))),
  );
}
