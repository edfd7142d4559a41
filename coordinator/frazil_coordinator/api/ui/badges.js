// Small parts that several views share.

import { h } from "./dom.js";

export const ENDED = new Set(["succeeded", "failed", "cancelled"]);

export const stateBadge = (state) => h("span", { class: `badge state-${state}` }, state);

export const tile = (name, value, note) =>
  h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, note ? h("small", {}, note) : null));

// A bar of `done` and `running` out of `all`.
export function bar(done, running, all, label) {
  const share = (value) => `${all > 0 ? Math.min(100, (100 * value) / all) : 0}%`;
  return h(
    "span",
    { class: "bar", role: "img", "aria-label": label },
    h("span", { class: "bar-done", style: { width: share(done) } }),
    h("span", { class: "bar-running", style: { width: share(running) } }),
  );
}

export const section = (title, id, ...children) =>
  h("section", { "aria-labelledby": id, class: "panel" }, h("h2", { id }, title), ...children);

export const labels = (status) => status.labels.map((label) => h("span", { class: "label" }, label));
