(() => {
"use strict";
// Filters of the incidents that the page holds. Their state is the fragment of the address, so that a view can be linked.
const KEYS = ["fault", "cause", "process", "peer", "time", "silence", "text"];
const FAULTS = { local: "this host", peer: "the peer", path: "the path between", unknown: "not known", none: "harmless" };
const by = (id) => document.getElementById(id);
const list = (selector, within = document) => [...within.querySelectorAll(selector)];
const rows = list(".row").map((node) => ({ node, ...node.dataset, all: null }));
const marks = new Map();
for (const mark of list("svg [data-i]")) {
  const known = marks.get(mark.dataset.i);
  if (known) known.push(mark); else marks.set(mark.dataset.i, [mark]);
}
const [chips, find, shown] = ["chips", "find", "shown"].map(by);
if (!chips) return;
document.documentElement.classList.add("js");

const parse = (hash) => {
  const state = new Map();
  for (const part of hash.slice(1).split("&")) {
    const at = part.indexOf("=");
    const key = part.slice(0, Math.max(at, 0));
    if (!KEYS.includes(key) && key !== "row") continue;
    try { state.set(key, decodeURIComponent(part.slice(at + 1))); } catch { /* Not an escape. */ }
  }
  return state;
};
let state = parse(location.hash);

const write = (next, keep) => {
  const parts = [...next].filter(([, value]) => value !== "");
  const hash = parts.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
  const address = hash ? `#${hash}` : location.pathname + location.search;
  try { history[keep ? "replaceState" : "pushState"](null, "", address); } catch { if (hash) location.hash = hash; }
  state = next;
  apply();
};
const range = (text) => {
  const match = /^(-?[\d.]+)-(-?[\d.]+)$/.exec(text || "");
  return match && [Number(match[1]), Number(match[2])];
};
const within = (value, limits) => !limits || (value !== undefined && Number(value) >= limits[0] && Number(value) < limits[1]);

function apply() {
  const [time, silence] = [range(state.get("time")), range(state.get("silence"))];
  const text = (state.get("text") || "").toLowerCase();
  let count = 0;
  for (const row of rows) {
    let is = ["fault", "cause", "process", "peer"].every((key) => !state.has(key) || state.get(key) === row[key]);
    is = is && within(row.time, time) && within(row.silence, silence);
    if (is && text) {
      row.all = row.all || row.node.textContent.toLowerCase();
      is = row.all.includes(text);
    }
    count += is ? 1 : 0;
    row.node.hidden = !is;
    for (const mark of marks.get(row.i) || []) mark.classList.toggle("off", !is);
  }
  for (const bar of list('a[href^="#time="]')) {
    const own = range(bar.getAttribute("href").slice(6));
    bar.classList.toggle("off", Boolean(time) && (own[1] <= time[0] || own[0] >= time[1]));
  }
  for (const link of list('a[href^="#"]')) {
    const own = [...parse(link.getAttribute("href"))];
    const is = own.length === 1 && own[0][0] !== "row" && own[0][0] !== "time" && state.get(own[0][0]) === own[0][1];
    if (is) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
  const active = [...state].filter(([key]) => KEYS.includes(key));
  shown.textContent = active.length ? `${count} of ${rows.length} held incidents` : "";
  chips.replaceChildren(...active.map(([key, value]) => chip(`${key}: ${named(key, value)} ×`, () => drop(key))));
  if (active.length > 1) chips.append(chip("clear all", () => write(new Map())));
  if (document.activeElement !== find) find.value = state.get("text") || "";
  const row = rows.find((row) => row.i === state.get("row"));
  if (row && !row.node.open) open(row.node);
}
const clock = (ms) => new Date(Number(ms)).toISOString().slice(11, 19);
const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toPrecision(3)} s`);
const named = (key, value) => {
  const limits = range(value);
  if (key === "fault") return FAULTS[value] || value;
  if (key === "time" && limits) return `${clock(limits[0])}–${clock(limits[1])} UTC`;
  if (key === "silence" && limits) return `${seconds(limits[0])}–${seconds(limits[1])}`;
  return value;
};
const drop = (key) => { const next = new Map(state); next.delete(key); next.delete("row"); write(next); };
const chip = (text, action) => {
  const button = document.createElement("button");
  button.className = "chip";
  button.textContent = text;
  button.addEventListener("click", action);
  return button;
};
const open = (node) => {
  node.open = true;
  node.hidden = false;
  node.scrollIntoView({ block: "center" });
};

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const href = link.getAttribute("href");
  if (link.dataset.i !== undefined) {
    event.preventDefault();
    write(new Map(state).set("row", link.dataset.i));
    const row = rows.find((row) => row.i === link.dataset.i);
    if (row) open(row.node);
    return;
  }
  const own = [...parse(href)];
  if (own.length === 0) return;
  event.preventDefault();
  const next = new Map(state);
  next.delete("row");
  for (const [key, value] of own) if (next.get(key) === value) next.delete(key); else next.set(key, value);
  write(next);
});
let timer = 0;
find.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => write(new Map(state).set("text", find.value), true), 150);
});
addEventListener("popstate", () => { state = parse(location.hash); apply(); });
addEventListener("hashchange", () => { state = parse(location.hash); apply(); });

// A block as text, for a ticket.
const asText = (node) => {
  const head = list(":scope > summary > span", node).map((part) => part.textContent.trim()).filter(Boolean).join("  ");
  const lines = list("dt", node).map((name) => `  ${name.textContent.padEnd(10)} ${name.nextElementSibling.textContent}`);
  return [head, ...lines].join("\n");
};
document.addEventListener("toggle", (event) => {
  const node = event.target;
  if (!node.open || !node.classList.contains("row") || node.querySelector("button")) return;
  const button = document.createElement("button");
  button.textContent = "Copy as text";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(asText(node));
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(node.querySelector("dl"));
      button.textContent = "Selected: copy with the keyboard";
    }
  });
  node.querySelector(".block").append(button);
}, true);

// Dragging in a plot selects times, and silences where it has them.
for (const area of list("[data-brush]")) {
  const svg = area.ownerSVGElement;
  const of = (name) => Number(area.dataset[name]);
  const place = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [Math.min(Math.max(point.x, of("left")), of("right")), Math.min(Math.max(point.y, of("top")), of("bottom"))];
  };
  let from = null;
  let box = null;
  area.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType !== "touch") from = place(event);
  });
  addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = place(event);
    if (!box && Math.hypot(to[0] - from[0], to[1] - from[1]) < 5) return;
    if (!box) {
      box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      box.setAttribute("class", "brush");
      svg.append(box);
    }
    const two = area.dataset.low !== undefined;
    const [y, height] = two ? [Math.min(from[1], to[1]), Math.abs(to[1] - from[1])] : [of("top"), of("bottom") - of("top")];
    const values = { x: Math.min(from[0], to[0]), y, width: Math.abs(to[0] - from[0]), height };
    for (const [name, value] of Object.entries(values)) box.setAttribute(name, value);
    event.preventDefault();
  });
  addEventListener("pointerup", (event) => {
    const begin = from;
    from = null;
    if (!box) return;
    box.remove();
    box = null;
    const to = place(event);
    const next = new Map(state);
    next.delete("row");
    const time = (x) => Math.round(of("from") + ((x - of("left")) / (of("right") - of("left"))) * (of("to") - of("from")));
    next.set("time", [begin[0], to[0]].sort((a, b) => a - b).map(time).join("-"));
    if (area.dataset.low !== undefined) {
      const part = (y) => (of("bottom") - y) / (of("bottom") - of("top"));
      const ms = (y) => (of("low") * (of("high") / of("low")) ** part(y)).toFixed(1);
      next.set("silence", [begin[1], to[1]].sort((a, b) => b - a).map(ms).join("-"));
    }
    // The click that ends the drag is none.
    addEventListener("click", (click) => { click.stopPropagation(); click.preventDefault(); }, { capture: true, once: true });
    setTimeout(() => write(next), 0);
  });
  area.addEventListener("dragstart", (event) => event.preventDefault());
}
apply();
})();
