const $ = (id) => document.getElementById(id);
const given = JSON.parse($("data").textContent);
const canvas = $("tree"), pen = canvas.getContext("2d");
const ROW = 14, COLUMN = 120, BINS = 8;
let film = new Film(), tree = film.now, places = [], placed = new Map(), selected = 0, hovered = -1;
let view = { x: 40, y: 0, kx: 1, ky: 1 }, fitted = true, dirty = true, laid = 0, asked = null;
let best = [], ink = {}, fills = [];

// The theme's colours, read once: a style that is asked for in every frame costs more than the drawing.
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ground", "ink", "edge", "accent", "solved", "dead", "path"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
  const mixed = (k) => `color-mix(in oklab, ${ink.accent} ${Math.round(15 + 85 * k)}%, ${ink.ground})`;
  fills = [...Array.from({ length: BINS }, (_, k) => mixed((k + 0.5) / BINS)), ink.solved, ink.dead];
  dirty = true;
}

function layOut() {
  laid = performance.now();
  const shown = tree.shown(Number($("most").value));
  places = []; placed = new Map();
  if (!shown.size) return;
  const root = d3.hierarchy(0, (node) => tree.ranked(node).filter((child) => shown.has(child)));
  d3.tree().nodeSize([ROW, COLUMN]).separation((a, b) => (a.parent === b.parent ? 1 : 1.4))(root);
  root.each((at) => {  // what a frame needs of a state, so that it has nothing to look up
    const node = at.data, [, solved, dead] = tree.marks[node], prior = at.parent ? tree.prior[tree.into[node]] : 0;
    const fill = solved ? BINS : dead ? BINS + 1 : Math.min(BINS - 1, Math.floor(tree.value[node] * BINS));
    const place = { node, x: at.y, y: at.x, sx: 0, sy: 0, up: at.parent ? placed.get(at.parent.data) : null, faint: prior < 0.05 ? 0 : prior < 0.4 ? 1 : 2, fill, r: radius(node) };
    places.push(place); placed.set(node, place);
  });
  best = tree.best();
  if (fitted) fit();
  dirty = true;
}

function fit() {
  if (!places.length) return;
  const { clientWidth: width, clientHeight: height } = canvas;
  let top = Infinity, bottom = -Infinity, right = 0;
  for (const at of places) { top = Math.min(top, at.y); bottom = Math.max(bottom, at.y); right = Math.max(right, at.x); }
  const kx = Math.min((width - 170) / (right || 1), 2), ky = Math.min((height - 40) / (bottom - top || 1), 2);  // wide trees are flat
  view = { kx, ky, x: 40, y: height / 2 - (ky * (top + bottom)) / 2 };
  fitted = true; dirty = true;
}

function radius(node) { return Math.min(2.5 + Math.log2(1 + Math.min(tree.visitsOf(node), 1e6)) * 0.8, 12); }

function draw() {
  const ratio = window.devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) { canvas.width = width * ratio; canvas.height = height * ratio; }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const dense = ROW * view.ky < 2, room = Math.max(1.3, ROW * view.ky * 0.48);
  const size = (at) => Math.min(at.r, Math.max(room, at.node ? 0 : 6));
  const curve = (a, b) => { const x = (a.sx + b.sx) / 2; pen.moveTo(a.sx, a.sy); if (dense) pen.lineTo(b.sx, b.sy); else pen.bezierCurveTo(x, a.sy, x, b.sy, b.sx, b.sy); };
  const away = (at) => at.sx < -20 || at.sx > width + 20 || at.sy < -20 || at.sy > height + 20;
  const outside = (a, b) => Math.max(a.sx, b.sx) < 0 || Math.min(a.sx, b.sx) > width || Math.max(a.sy, b.sy) < 0 || Math.min(a.sy, b.sy) > height;
  const lines = [[], [], []], dots = fills.map(() => []), taken = new Set();
  for (const at of places) {
    at.sx = view.x + at.x * view.kx; at.sy = view.y + at.y * view.ky;
    const pixel = Math.round(at.sx) * 8192 + Math.round(at.sy);
    if (dense && taken.has(pixel)) continue;  // one state a pixel
    taken.add(pixel);
    if (at.up && !outside(at, at.up)) lines[at.faint].push(at);
    if (!away(at)) dots[at.fill].push(at);
  }
  pen.strokeStyle = ink.edge; pen.lineWidth = 1;
  lines.forEach((some, k) => { pen.globalAlpha = [0.3, 0.55, 0.95][k]; pen.beginPath(); for (const at of some) curve(at.up, at); pen.stroke(); });
  if (!dense) {
    pen.globalAlpha = 0.6; pen.setLineDash([3, 3]); pen.beginPath();
    for (const edge of tree.merged) { const a = placed.get(tree.from[edge]), b = placed.get(tree.to[edge]); if (a && b && !outside(a, b)) curve(a, b); }
    pen.stroke(); pen.setLineDash([]);
  }
  pen.globalAlpha = 1; pen.strokeStyle = ink.path; pen.lineWidth = 2.5; pen.beginPath();
  for (let k = 1; k < best.length; k++) { const a = placed.get(best[k - 1]), b = placed.get(best[k]); if (a && b) curve(a, b); }
  pen.stroke();
  dots.forEach((some, k) => {
    pen.fillStyle = fills[k];
    if (dense) { for (const at of some) { const r = size(at); pen.fillRect(at.sx - r, at.sy - r, 2 * r, 2 * r); } return; }
    pen.beginPath();
    for (const at of some) { const r = size(at); pen.moveTo(at.sx + r, at.sy); pen.arc(at.sx, at.sy, r, 0, 7); }
    pen.fill();
  });
  pen.lineWidth = 2;
  for (const [node, name] of [[selected, "ink"], [hovered, "accent"]]) {
    const at = placed.get(node);
    if (at) { pen.strokeStyle = ink[name]; pen.beginPath(); pen.arc(at.sx, at.sy, size(at) + 3, 0, 7); pen.stroke(); }
  }
  const lettered = ROW * view.ky >= 11 ? places : best.map((node) => placed.get(node)).filter(Boolean);
  const longest = Math.max(6, Math.floor((COLUMN * view.kx - 16) / 6.2));
  pen.fillStyle = ink.ink; pen.font = "11px system-ui";
  for (const at of lettered) if (!away(at)) {
    const hidden = tree.children[at.node].filter((child) => !placed.has(child)).length;
    const text = (at.node ? tree.stepOf(at.node) : "") + (hidden ? `  +${hidden}` : "");
    pen.fillText(text.length > longest ? `${text.slice(0, longest - 1)}…` : text, at.sx + 7, at.sy - 4);
  }
  dirty = false;
}

function frame() { if (dirty) draw(); requestAnimationFrame(frame); }

function told(node) {
  const [ends, solved, dead] = tree.marks[node], mark = solved ? ", solved" : dead ? ", leads nowhere" : ends ? ", an end" : "";
  const visits = tree.visitsOf(node), prior = node ? `, prior ${tree.prior[tree.into[node]].toFixed(2)}` : "";
  return `${tree.stepOf(node)}: value ${tree.value[node].toFixed(2)}${prior}, ${visits === Infinity ? "root" : `${visits} visits`}${mark}`;
}

function select(node, follow = true) {
  if (!(node >= 0 && node < tree.size)) return;
  selected = node; dirty = true;
  const walk = $("walk"), rows = [];
  const row = (at, level, kind) => {
    const item = document.createElement("div");
    item.setAttribute("role", "treeitem"); item.setAttribute("aria-level", level + 1); item.setAttribute("aria-selected", at === node);
    if (tree.children[at].length) item.setAttribute("aria-expanded", kind !== "child");
    item.id = `state-${at}`; item.style.paddingLeft = `${4 + 10 * level}px`; item.textContent = told(at);
    item.addEventListener("click", () => select(at)); rows.push(item);
  };
  const path = tree.path(node);
  path.forEach((at, level) => row(at, level, "path"));
  tree.ranked(node).slice(0, 12).forEach((at) => row(at, path.length, "child"));
  walk.replaceChildren(...rows);
  walk.setAttribute("aria-activedescendant", `state-${node}`);
  const at = placed.get(node);
  if (follow && at && !fitted) { view.x = canvas.clientWidth / 2 - at.x * view.kx; view.y = canvas.clientHeight / 2 - at.y * view.ky; }
}

function near(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let found = -1, least = 14 ** 2;
  for (const at of places) { const d = (at.sx - x) ** 2 + (at.sy - y) ** 2; if (d < least) { least = d; found = at.node; } }
  return found;
}

function zoom(factor, x, y) {
  const ky = Math.max(0.001, Math.min(view.ky * factor, 4)), kx = Math.max(0.1, Math.min(view.kx * Math.sqrt(factor), 4));
  view = { kx, ky, x: x - ((x - view.x) * kx) / view.kx, y: y - ((y - view.y) * ky) / view.ky };
  fitted = false; dirty = true;
}

function open(node) { tree.opened.set(node, tree.opened.get(node) === false || !tree.children[node].some((child) => placed.has(child))); layOut(); select(node, false); }

function showNumbers() {
  const { seconds, tokens, simulations, limit } = tree.last, most = limit && limit < 1e8 ? limit : tokens || 1;
  $("budget").max = most; $("budget").value = Math.min(tokens, most);
  const speed = seconds > 0 ? `, ${Math.round(tokens / seconds).toLocaleString()} tokens/s` : "";
  $("numbers").textContent = `${(tokens || 0).toLocaleString()} tokens, ${(simulations || 0).toLocaleString()} simulations, ${tree.size.toLocaleString()} states${speed}`;
}

function show(at) {
  tree = at; if (selected >= tree.size) selected = 0;
  layOut(); showNumbers(); if (tree.size) select(selected, false);
}

function take(update) {
  film.add(update);
  const time = $("time"), last = Number(time.value) >= Number(time.max);
  time.max = film.updates.length - 1; time.disabled = film.updates.length < 2;
  if (!last) return;
  time.value = time.max; tree = film.now; showNumbers();
  if (performance.now() - laid > 200 + tree.size / 20) { layOut(); if (tree.size) select(Math.min(selected, tree.size - 1), false); }
}

function finish(answer) {
  const choice = answer.choices[0], used = answer.usage;
  if (answer.thoughts.length && !film.now.size) take({ ...film.now.last, ...streamed(answer.thoughts, choice.message.content !== "") });
  show(film.now);
  $("answer").hidden = false;
  $("content").textContent = choice.message.content || "none found";
  const sure = choice.search.solved === true ? "the verifier accepted it" : choice.search.solved === false ? "nothing was accepted" : `confidence ${choice.search.confidence.toFixed(2)}${choice.search.calibrated ? "" : ", not calibrated"}`;
  $("cost").textContent = `${sure}; ${used.completion_tokens_details.reasoning_tokens} hidden of ${used.completion_tokens} tokens; ${choice.search.strategy}, stopped: ${choice.search.stopped}`;
  const text = choice.message.reasoning || "";
  $("thoughts").hidden = !text; $("reasoning").textContent = text;
  $("said").textContent = choice.message.content ? `Answer: ${choice.message.content.split("\n").pop()}` : "No answer was found.";
}

async function ask(event) {
  event.preventDefault();
  if (asked) { asked.abort(); return; }
  asked = new AbortController();
  film = new Film(); selected = 0; fitted = true; show(film.now);
  $("time").max = $("time").value = 0; $("go").textContent = "Stop"; $("answer").hidden = true; $("said").textContent = "Thinking …";
  const body = { model: given.model, messages: [{ role: "user", content: $("problem").value }], reasoning_effort: $("effort").value, reasoning_visibility: "show" };
  if ($("strategy").value) body.search = { strategy: $("strategy").value };
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  try {
    const response = await fetch("/v1/watch", { method: "POST", headers, body: JSON.stringify(body), signal: asked.signal });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { done, value } = await reader.read();
      if (done) break;
      const [found, rest] = events(text + value);
      text = rest;
      for (const [kind, data] of found) {
        if (kind === "update") take(data); else if (kind === "answer") finish(data); else throw new Error(data.error.message);
      }
    }
  } catch (error) {
    show(film.now);
    $("said").textContent = error.name === "AbortError" ? "Stopped." : error.message;
  }
  asked = null; $("go").textContent = "Think";
}

$("ask").addEventListener("submit", ask);
$("problem").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("ask").requestSubmit(); } });
$("time").addEventListener("input", () => { const k = Number($("time").value); show(k === film.updates.length - 1 ? film.now : film.at(k)); });
$("most").addEventListener("change", layOut);
$("fit").addEventListener("click", fit);
$("walk").addEventListener("keydown", (event) => {
  const up = tree.parentOf(selected), beside = up >= 0 ? tree.ranked(up) : [0], at = beside.indexOf(selected);
  const moves = { ArrowLeft: () => select(up), ArrowRight: () => select(tree.ranked(selected)[0] ?? -1), ArrowUp: () => select(beside[at - 1] ?? -1),
    ArrowDown: () => select(beside[at + 1] ?? -1), Home: () => select(0), Enter: () => open(selected),
    "+": () => zoom(1.3, canvas.clientWidth / 2, canvas.clientHeight / 2), "-": () => zoom(1 / 1.3, canvas.clientWidth / 2, canvas.clientHeight / 2) };
  if (moves[event.key] && tree.size) { event.preventDefault(); moves[event.key](); }
});
let held = null;
canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX - view.x, y: event.clientY - view.y, moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (held) { held.moved = true; fitted = false; view.x = event.clientX - held.x; view.y = event.clientY - held.y; dirty = true; return; }
  const node = near(event);
  if (node !== hovered) { hovered = node; canvas.title = node >= 0 ? told(node) : ""; dirty = true; }
});
canvas.addEventListener("pointerup", (event) => { if (held && !held.moved) { const node = near(event); if (node >= 0) { select(node, false); open(node); } } held = null; });
canvas.addEventListener("wheel", (event) => { event.preventDefault(); const box = canvas.getBoundingClientRect(); zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.left, event.clientY - box.top); }, { passive: false });
new ResizeObserver(() => { if (fitted) fit(); dirty = true; }).observe(canvas);
readColours();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
for (const [colour, text] of [[fills[0], "value near 0"], [fills[BINS - 1], "value near 1"], [ink.solved, "solved"], [ink.dead, "leads nowhere"], [ink.path, "best path"]]) {
  const item = document.createElement("li"), dot = document.createElement("i");
  dot.style.background = colour; item.append(dot, text); $("legend").append(item);
}
if (given.tree) {
  $("model").textContent = given.tree.problem || "a saved tree"; $("ask").hidden = true; $("time-label").hidden = true;
  take(saved(given.tree)); show(film.now);
} else {
  $("model").textContent = given.model;
  for (const name of given.efforts) $("effort").append(new Option(name, name, name === given.effort, name === given.effort));
}
requestAnimationFrame(frame);
