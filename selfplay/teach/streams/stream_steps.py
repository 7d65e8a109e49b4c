"""Rows of streams whose context shows the present state alone: a verdict is said of a step, behind it.

    the goal is reached                                  yes
    illegal, or not nearer to a solution than before     no     nearer: as far as searches and streams have seen
    nearer to a solution                                 on
    a state that is alive                                a step of a known shortest way, and its verdict

One row a step, as each context stands for itself. How near a state is to a solution is what `streams.evidence` knows of the
explored graph, never an exact distance. Steps of known ways are taught at the stream's effort and as plain chains by turns.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.abilities import Step
from models.steps.stream_words import StreamWords
from selfplay.teach.actor import Acting
from selfplay.teach.streams.boundaries import VERDICT_WEIGHT, Boundary
from selfplay.teach.streams.evidence import Evidence, solution
from tasks.base import Problem

MOST = {"solved": 4, "on": 12, "away": 6, "over": 6}  # steps of a problem's explored graph of which a verdict is taught


def teach(
    acting: Acting, words: StreamWords, problem: Problem, effort: int, boundary: Boundary, known: Evidence
) -> None:
    """The rows of one boundary, where there is anything to teach."""
    texts = [step.text for step in boundary.path]
    if boundary.stepped:
        said = verdict(words, boundary, known)
        _say(acting, words, problem, effort, texts[:-1], boundary.path[-1], said, boundary.status != "illegal")
    if boundary.status == "open":
        steps = solution(known, boundary.keys[-1], boundary.tried[-1], acting.rng)
        for k, step in enumerate(steps if not boundary.path else steps[:1]):
            last = k + 1 == len(steps)
            asked = effort if acting.rng.random() < 0.5 else 0
            before = [*texts, *(done.text for done in steps[:k])]
            tokens = [*words.context(problem, asked, before), *(step.tokens or ())]
            weights = [0.0] * (len(tokens) - len(step.tokens or ())) + [1.0] * len(step.tokens or ())
            if asked:
                tokens.append(words.yes if last else words.on)
                weights.append(VERDICT_WEIGHT)
            acting.builder.written(tokens, weights)


def verdict(words: StreamWords, boundary: Boundary, known: Evidence) -> int | None:
    """The word that should stand behind the last step; None: not enough is known."""
    if boundary.status in ("right", "illegal"):
        return words.yes if boundary.status == "right" else words.no
    if boundary.status == "wrong":
        return None  # too long, which cannot be seen
    nearer = known.nearer(boundary.keys[-2], boundary.keys[-1])
    return None if nearer is None else words.on if nearer else words.no


def of_graph(acting: Acting, words: StreamWords, problem: Problem, effort: int, known: Evidence) -> None:
    """Verdicts of steps that a search has taken, of each kind up to so many."""
    edges = known.edges()
    leads_to = {tried.after: tried.step for _, tried in edges if tried.after is not None}
    kinds: dict[str, list[tuple[bytes, Step]]] = {kind: [] for kind in MOST}
    for before, tried in edges:
        if before != known.root and before not in leads_to:
            continue
        if tried.after is None:
            kinds["solved" if tried.solved else "over"].append((before, tried.step))
        elif (nearer := known.nearer(before, tried.after)) is not None:
            kinds["on" if nearer else "away"].append((before, tried.step))
    for kind, most in MOST.items():
        said = {"solved": words.yes, "on": words.on}.get(kind, words.no)
        for k in acting.rng.permutation(len(kinds[kind]))[:most].tolist():
            before, step = kinds[kind][k]
            texts = [] if before == known.root else [leads_to[before].text]
            _say(acting, words, problem, effort, texts, step, said, kind != "over")


def _say(
    acting: Acting,
    words: StreamWords,
    problem: Problem,
    effort: int,
    before: Sequence[str],
    step: Step,
    said: int | None,
    true: bool,
) -> None:
    """A row that teaches what follows from the choice of a step, where it is `true`, and the verdict behind it."""
    chosen, written = words.chosen(step), list(step.tokens or ())
    tokens = [*words.context(problem, effort, before), *written]
    weights = [0.0] * len(tokens)
    if true:
        weights[len(tokens) - len(written) + chosen :] = [1.0] * (len(written) - chosen)
    if said is not None:
        tokens.append(said)
        weights.append(VERDICT_WEIGHT)
    acting.builder.written(tokens, weights)
