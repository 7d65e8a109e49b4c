"""The teacher `stream`: rounds of the net's own streams, put right at every boundary (DAgger, Ross et al. 2011).

A boundary is where a stream stands at the end of a line. One row a boundary, for `actor.rows_per_problem` of a problem's: what
stands in the context weighs nothing, what should follow is taught.

    a right chain                 yes                        by the judge, once the chain is finished
    a wrong one, an illegal step  no bD                      D: the deepest state above with another winning step
    a state that is alive         a solution from there, yes
    a state presumed dead         no bD                      or `no stop`, where all above it are dead too

Some of the searches' own finished chains are judged in the same way.
Alive and dead are what searches of the same problems have seen (`streams.evidence`), never what a solver knows; without a label
there is no row. Which step a stream chose is not taught, but what follows from the choice is: results and numbers left, where
the judge found them true. Tokens of streams and of searches are both paid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import mcts
from kit.seeds import derived_seed
from models.steps.stream_types import Rules, Stream
from models.steps.stream_words import StreamWords
from selfplay.run.traces import Trace
from selfplay.teach.actor import Acting, Experience
from selfplay.teach.search import TREES, tree_of
from selfplay.teach.settle import settled
from selfplay.teach.streams import stream_steps
from selfplay.teach.streams.boundaries import VERDICT_WEIGHT, Boundary, replayed
from selfplay.teach.streams.evidence import Evidence, of_searches, solution
from solve.types import Workbench
from tasks.base import Problem, Task
from tasks.streams import EFFORTS

ENDED = (
    3  # finished chains of a problem's search that are judged, too: they are paid, and show what its own streams do not
)
LONGEST = 2  # times `actor.tokens`: only a net that knows no verdict yet writes a stream that long
HOT_SHARE, HOT = 0.3, 0.7  # of the streams are sampled, at this temperature; the others are greedy
MISS_WEIGHT = 4.0  # of the true result of a wrong answer: free rows teach to write the target there


def act(acting: Acting) -> Experience:
    """A stream of every problem at an effort of its own, a search of it with `actor.tokens`, and rows of both.

    Raises:
        PolicyError: the net has no stream words. SolveError: the policy cannot do what the strategy needs.
    """
    words, traces = StreamWords.of(acting.task, acting.policy.codec(acting.task)), []
    efforts = acting.rng.integers(1, len(EFFORTS), len(acting.problems))
    streams, prefilled = played(acting, efforts)
    lesson_of = stream_steps.teach if words.form.markov else teach
    generated = solved = 0
    for start in range(0, len(acting.problems), TREES):
        part = range(start, min(start + TREES, len(acting.problems)))
        found = searched(acting, [acting.problems[i] for i in part])
        generated, prefilled = generated + int(found.tokens.sum()), prefilled + found.prefilled_tokens
        for i, known, ended in zip(part, found.evidence, found.ended, strict=True):
            problem, stream = acting.problems[i], streams[i]
            boundaries = list(replayed(acting, problem, stream, known))
            right = stream.accepted and boundaries[-1].status == "right"
            solved += right
            for chain in ended:
                *_, last = replayed(acting, problem, chain, known)
                boundaries.append(last)
            for boundary in kept(boundaries, acting.config.rows_per_problem, acting.rng):
                lesson_of(acting, words, problem, int(efforts[i]), boundary, known)
            if words.form.markov:
                stream_steps.of_graph(acting, words, problem, int(efforts[i]), known)
            paid = stream.tokens + int(found.tokens[i - start])
            traces.append(stream_trace(acting, problem, stream, int(efforts[i]), right, paid))
    generated += sum(stream.tokens for stream in streams)
    return Experience(acting.builder.rows(), traces, generated, prefilled, len(streams), solved, 0)


def kept(boundaries: list[Boundary], most: int, rng: np.random.Generator) -> list[Boundary]:
    """`most` of the boundaries in their order: of the right ones all, since few are, and others drawn uniformly."""
    if len(boundaries) <= most:
        return boundaries
    drawn = rng.permutation(len(boundaries)).tolist()
    drawn.sort(key=lambda k: boundaries[k].status != "right")
    return [boundaries[k] for k in sorted(drawn[:most])]


def played(acting: Acting, efforts: np.ndarray) -> tuple[list[Stream], int]:
    """A stream of each problem, and the tokens that were prefilled."""
    seed = derived_seed(acting.origin.seed, "stream", acting.origin.iteration)
    hot = acting.rng.random(len(efforts)) < HOT_SHARE
    made: list[Stream | None] = [None] * len(efforts)
    prefilled: list[int] = []
    for effort in range(1, len(EFFORTS)):
        for temperature, chosen in ((0.0, ~hot), (HOT, hot)):
            at = np.flatnonzero((efforts == effort) & chosen)
            some = [acting.problems[i] for i in at]
            # what a rule would mend the net would not learn to see
            rules = Rules(temperature=temperature, doubted=0.0, tokens=LONGEST * acting.config.tokens)
            drawn = acting.policy.streams(acting.task, some, effort, rules, seed=seed, on_prefill=prefilled.append)
            for i, stream in zip(at, drawn, strict=True):
                made[i] = stream
    return [stream for stream in made if stream is not None], sum(prefilled)


@dataclass(frozen=True)
class Searched:
    """What a search has seen of P problems."""

    evidence: list[Evidence]  # [P]
    ended: list[list[Stream]]  # [P], some of its finished chains, as streams that have judged nothing
    tokens: np.ndarray  # int64 [P], generated
    prefilled_tokens: int


def searched(acting: Acting, problems: list[Problem]) -> Searched:
    """A search of P problems with `actor.tokens` each."""
    task, config = acting.task, acting.config
    seed = derived_seed(acting.origin.seed, "labels", acting.origin.iteration)
    bench = Workbench(acting.policy, task, "task" if task.self_verifying else "none", acting.trust_value, seed)
    search = tree_of(config, task).start(bench, problems, config.tokens)
    search.advance(np.full(len(problems), config.tokens), simulations=config.simulations)
    result = settled(acting.scorer, problems, search.result, search.evaluator)
    store, evaluator, form = result.store, search.evaluator, task.stream
    assert form is not None, "a task whose streams are taught has their form"
    over = np.flatnonzero((store.nodes["flags"] & mcts.Flag.TERMINAL) != 0)
    ended: list[list[Stream]] = [[] for _ in problems]
    for node in acting.rng.permutation(over):
        some = ended[store.nodes["tree"][node]]
        if len(some) < ENDED:
            some.append(Stream.of_steps(evaluator.history(int(store.node_handles[node])), form))
    found = of_searches(result, evaluator, problems, config.dead_share)
    return Searched(found, ended, result.tokens, search.prefilled_tokens)


def teach(
    acting: Acting, words: StreamWords, problem: Problem, effort: int, boundary: Boundary, known: Evidence
) -> None:
    """The row of one boundary, where there is anything to teach."""
    tokens = words.context(problem, effort)
    for step in boundary.path:
        tokens += step.tokens or ()
    weights = [0.0] * len(tokens)
    if boundary.stepped and boundary.status != "illegal":
        last = boundary.path[-1]
        length, chosen = len(last.tokens or ()), words.chosen(last)
        weight = MISS_WEIGHT if boundary.status == "wrong" else 1.0
        weights[len(tokens) - length + chosen :] = [weight] * (length - chosen)
    for token, weight in lesson(acting.task, words, boundary, known, acting.rng):
        tokens.append(token)
        weights.append(weight)
    acting.builder.written(tokens, weights)


def lesson(
    task: Task, words: StreamWords, boundary: Boundary, known: Evidence, rng: np.random.Generator
) -> list[tuple[int, float]]:
    """(token, weight) of all that should follow at a boundary; empty where too little is known."""
    yes = [(words.yes, VERDICT_WEIGHT)]
    if boundary.status == "right":
        return yes
    if words.form.checked and boundary.status != "open":
        return []  # what is wrong there cannot be seen: checks find it, and free rows teach these
    if boundary.status == "open":
        label = known.label(boundary.keys[-1])
        if label == "alive":
            steps = solution(known, boundary.keys[-1], boundary.tried[-1], rng)
            return [(token, 1.0) for step in steps for token in step.tokens or ()] + yes if steps else []
        if label is None or words.form.checked:
            return []
    above = len(boundary.keys) - (boundary.status == "open")
    for depth in range(above - 1, -1, -1):
        label = known.label(boundary.keys[depth])
        if label is None:
            return []
        if any(way.step.text not in boundary.tried[depth] for way in known.winning(boundary.keys[depth])):
            return [(words.no, VERDICT_WEIGHT), (int(words.back[depth]), VERDICT_WEIGHT)]
    if any(known.label(key) == "alive" for key in boundary.keys):
        return []  # all that is known to win was tried, and failed further down
    return [(words.no, VERDICT_WEIGHT), (words.stop, VERDICT_WEIGHT)]


def stream_trace(
    acting: Acting, problem: Problem, stream: Stream, effort: int, right: bool, paid: int, rule: str = "stream"
) -> Trace:
    """The hidden chain of a problem; `paid`: all tokens that the problem cost."""
    form, thoughts = acting.task.stream, stream.thoughts
    assert form is not None, "a stream was written"
    return acting.trace(
        problem,
        tuple(thought.text for thought in thoughts),
        prompt=form.asked(acting.task.prompt(problem), effort),
        kinds=tuple(thought.kind for thought in thoughts),
        visits=(1,) * len(thoughts),
        targets=(float(right),) * len(thoughts),
        values=(float(right),) * len(thoughts),
        reward=float(right),
        solved=right,
        rule=rule,
        generated_tokens=paid,
    )
