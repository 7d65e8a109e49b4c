"use strict";
// What is known of a search tree. Nodes and edges have the places in which they came; node 0 is the root. The first edge into a
// node is its place in the drawing, later ones are merged states.
class Growth {
  constructor() {
    this.depth = []; this.value = []; this.marks = []; this.into = []; this.children = []; this.opened = new Map();
    this.from = []; this.to = []; this.prior = []; this.step = []; this.visits = []; this.merged = [];
    this.last = { seconds: 0, tokens: 0, simulations: 0, limit: 0 };
  }

  get size() { return this.depth.length; }

  apply(update) {
    for (const [depth] of update.nodes || []) {
      this.depth.push(depth); this.value.push(0.5); this.marks.push([false, false, false]); this.into.push(-1); this.children.push([]);
    }
    for (const [from, to, prior, step] of update.edges || []) {
      const edge = this.from.length;
      this.from.push(from); this.to.push(to); this.prior.push(prior); this.step.push(step); this.visits.push(0);
      if (to !== 0 && this.into[to] < 0) { this.into[to] = edge; this.children[from].push(to); } else this.merged.push(edge);
    }
    for (const [edge, visits] of update.visits || []) this.visits[edge] = visits;
    for (const [node, value] of update.values || []) this.value[node] = value;
    for (const [node, ...marks] of update.marks || []) this.marks[node] = marks;
    this.last = { seconds: update.seconds, tokens: update.tokens, simulations: update.simulations, limit: update.limit };
    return this;
  }

  visitsOf(node) { return this.into[node] < 0 ? Infinity : this.visits[this.into[node]]; }
  stepOf(node) { return this.into[node] < 0 ? "the problem" : this.step[this.into[node]] || "a step"; }
  parentOf(node) { return this.into[node] < 0 ? -1 : this.from[this.into[node]]; }

  // Children as they are drawn: the most visited first.
  ranked(node) {
    return this.children[node].slice().sort((a, b) => this.visitsOf(b) - this.visitsOf(a) || this.prior[this.into[b]] - this.prior[this.into[a]] || a - b);
  }

  // The `most` nodes to draw: from the root down the most visited first. What was never visited and leads nowhere is drawn where a
  // person has opened the state before it; `opened` holds what people said.
  shown(most) {
    const shown = new Set(this.size ? [0] : []), waiting = this.size ? [0] : [];
    const later = [];
    while (shown.size < most && (waiting.length || later.length)) {
      if (!waiting.length) { later.sort((a, b) => this.visitsOf(b) - this.visitsOf(a)); waiting.push(...later.splice(0, Math.max(64, later.length >> 1))); }
      const node = waiting.shift();
      if (this.opened.get(node) === false) continue;
      for (const child of this.ranked(node)) {
        if (shown.size >= most) break;
        if (this.visitsOf(child) < 1 && this.marks[child][2] && !this.opened.get(node)) continue;
        shown.add(child);
        (this.visitsOf(child) > 1 || this.opened.get(child) ? waiting : later).push(child);
      }
    }
    if (shown.size === 1 && this.opened.get(0) !== false) for (const child of this.ranked(0).slice(0, 12)) shown.add(child); // all lead nowhere
    return shown;
  }

  // From the root to the state that was solved, else along the most visited steps.
  best() {
    const solved = this.marks.findIndex((marks) => marks[1]);
    if (solved >= 0) return this.path(solved);
    const path = this.size ? [0] : [];
    for (let node = 0; path.length && this.children[node].length;) {
      node = this.ranked(node)[0];
      if (this.visitsOf(node) <= 0) break;
      path.push(node);
    }
    return path;
  }

  path(node) {
    const path = [];
    for (let at = node; at >= 0; at = this.parentOf(at)) path.push(at);
    return path.reverse();
  }
}

// Updates as they came, and the tree at any of them.
class Film {
  constructor() { this.updates = []; this.now = new Growth(); }
  add(update) { this.updates.push(update); this.now.apply(update); }
  at(k) {
    const growth = new Growth();
    for (const update of this.updates.slice(0, k + 1)) growth.apply(update);
    growth.opened = this.now.opened;
    return growth;
  }
}

// A tree that `solve tree=FILE.json` has saved, as one update.
function saved(tree) {
  return {
    seconds: 0, tokens: tree.generated_tokens || 0, simulations: tree.simulations || 0, limit: tree.generated_tokens || 0,
    nodes: tree.nodes.map((node) => [node.depth]), edges: tree.edges.map((edge) => [edge.from, edge.to, edge.prior, edge.step]),
    visits: tree.edges.map((edge, k) => [k, edge.visits]), values: tree.nodes.map((node, k) => [k, node.value]),
    marks: tree.nodes.map((node, k) => [k, node.terminal, node.solved, node.dead]),
  };
}

// The lines of one stream as a tree: what it went back from stands beside what it tried next.
function streamed(thoughts, accepted) {
  const nodes = [[0]], edges = [], marks = [], stack = [0];
  for (const thought of thoughts) {
    if (thought.kind === "undo") { marks.push([stack[thought.depth] ?? 0, true, false, true]); stack.length = (thought.back ?? 0) + 1; continue; }
    if (thought.text === "yes") continue;
    const parent = stack[Math.min(thought.depth, stack.length - 1)], node = nodes.length;
    nodes.push([thought.depth + 1]); edges.push([parent, node, 1, thought.text]);
    stack.length = thought.depth + 1; stack.push(node);
  }
  if (accepted) marks.push([stack[stack.length - 1], true, true, false]);
  return { nodes, edges, marks, visits: edges.map((_, k) => [k, 1]), values: [] };
}

// Server-sent events out of the text that has come so far; what is not whole yet stays.
function events(text) {
  const parts = text.split("\n\n"), rest = parts.pop(), found = [];
  for (const part of parts) {
    const fields = Object.fromEntries(part.split("\n").filter((line) => !line.startsWith(":")).map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trimStart()]));
    if (fields.data) found.push([fields.event || "message", JSON.parse(fields.data)]);
  }
  return [found, rest];
}

if (typeof module !== "undefined") module.exports = { Growth, Film, saved, streamed, events };
