// Elements from values. What strangers wrote becomes text nodes and attribute values, never markup: there is no innerHTML here,
// and the page's policy (Trusted Types) refuses one anywhere.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [rule, given] of Object.entries(value)) element.style.setProperty(rule, given);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

// Replace the content of an element without losing the keyboard's place: the element with the same id or data-key has it again.
export function refresh(element, ...children) {
  const active = document.activeElement;
  const key = active && element.contains(active) ? active.getAttribute("data-key") : null;
  const scrolled = [...element.querySelectorAll("[data-scroll]")].map((one) => [one.dataset.scroll, one.scrollLeft, one.scrollTop]);
  show(element, ...children);
  for (const [name, left, top] of scrolled) {
    const again = element.querySelector(`[data-scroll="${CSS.escape(name)}"]`);
    if (again) again.scrollTo({ left, top, behavior: "instant" });
  }
  if (key !== null) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export function say(text) {
  document.getElementById("live").textContent = text;
}
