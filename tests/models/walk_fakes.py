"""A task whose context shows the present state alone, and a slow decoder of its streams."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.steps.stream_types import Rules
from models.steps.stream_words import StreamWords
from tasks.base import NEWLINE_ID, Problem
from tasks.registry import streamed
from tasks.streams import UNDOS, StreamForm
from tests.models.stream_fakes import Letters, Written, completed, untaken


class Places(Letters):
    """A step is letters, and the last one of it stands in the next context."""

    name = "places"
    reversible = True
    stream = StreamForm(mark="=", following=1, markov=True)

    def __init__(self):
        super().__init__()
        self.max_steps = 4

    def context(self, problem, steps):
        *first, last = problem.data
        return f"{' '.join(first)} = {(steps[-1].split() or [last])[-1] if steps else last}\n"


PLACES = streamed(Places())


@dataclass
class Place:
    """A state on the path."""

    context: tuple[int, ...]
    behind: tuple[int, ...]  # the context that the step to it was drawn in, and that step
    doubtful: bool = False


def slow_walk(forward: Written, problem: Problem, effort: int, rules: Rules) -> tuple[list[str], str]:
    """Lines of the greedy stream of a problem and how it ends, by enumeration of every step at every state."""
    words, most = StreamWords.of(PLACES), UNDOS[[*UNDOS][effort]] if rules.undos is None else rules.undos
    root, lines, undos = tuple(words.context(problem, effort)), [], 0
    path, tried = [Place(root, ())], {root: set()}
    bound = {root: 1.0}
    while True:
        last = path[-1]
        shares = np.zeros(2)
        if len(path) > 1:
            row = np.exp(forward.row(last.behind)[[words.yes, words.no, words.on]].astype(float))
            shares = row[:2] / row.sum()
        if shares[0] > rules.threshold and not last.doubtful:
            return [*lines, "yes\n"], "yes"
        gives_up = shares[1] > rules.threshold and rules.early and (undos < most or most == 0)
        if last.doubtful or len(path) > PLACES.max_steps or gives_up:
            if undos >= most:
                return [*lines, "no\n"], "no"
            best = max(range(len(path) - 1), key=lambda depth: (bound[path[depth].context], depth))
            above = {"net": best, "root": 0, "last": len(path) - 2}[rules.back]
            if bound[path[0 if above == 0 else best].context] == 0 and (above == 0 or rules.back == "net"):
                return lines, "exhausted"
            lines.append(f"no b{above}\n")
            undos, path = undos + 1, path[: above + 1]
            if rules.back == "root":
                tried = {root: tried[root]}
                bound = {root: bound[root]}
            continue
        left = untaken(forward, last.context, tried[last.context] if rules.distinct else set(), words.aside)
        if not left:
            bound[last.context], last.doubtful = 0.0, len(path) > 1
            if last.doubtful:
                continue
            return lines, "exhausted"
        step = completed(forward, last.context, max(left, key=lambda prefix: left[prefix]))
        tried[last.context].add(step)
        rest = untaken(forward, last.context, tried[last.context] if rules.distinct else {step}, words.aside)
        bound[last.context] = math.exp(max(rest.values(), default=-math.inf))
        text = " ".join(PLACES.vocabulary[token] for token in step)
        if step[-1] != NEWLINE_ID:
            lines.append(text)
            if undos >= most:
                return lines, "broken"
            lines.append(f"no b{len(path) - 1}\n")
            undos += 1
            continue
        lines.append(text.replace(" \n", "\n"))
        after = tuple(words.context(problem, effort, lines[-1:]))
        nowhere = bound.get(after) == 0.0 or after in [place.context for place in path]
        path.append(Place(after, (*last.context, *step), nowhere and rules.distinct and undos < most))
        tried.setdefault(after, set())
        bound.setdefault(after, 1.0)
