"""The leak wall: gold answers and exact labels never reach a search, nor the texts that the policy reads.

Reach is measured, not promised: every object that attributes, items, closures and classes lead to is walked, while a search
runs and after it. Gold answers here are canaries: words that the policy could write, but would never write by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import asdict
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch

import mcts
from models.local_policy import LocalPolicy
from models.steps.codec import WordCodec
from models.steps.evaluator import ModelEvaluator
from models.steps.rollout import rollouts
from models.trie.batch import NodeBatch, NodeRows
from selfplay.config import ActorConfig, LearnerConfig
from selfplay.learn.replay import Replay
from selfplay.teach.actor import Experience, act
from selfplay.teach.mixing import batch
from selfplay.teachers import TEACHERS
from selfplay.team import Team
from solve.search.enumeration import enumeration
from solve.types import Workbench
from tasks.base import NEWLINE, NEWLINE_ID, SPECIAL_TOKENS, AnswerKey, Problem, Task, Verdict
from tasks.numbers.countdown import Countdown
from tasks.numbers.countdown_space import reachable
from tasks.planning.sliding import Sliding
from tasks.planning.sliding_space import distance_table
from tests.models.fakes import SumTask, TableForward

ROOMS = {"kit", "mcts", "tasks", "models", "solve", "selfplay", "tests", __name__.partition(".")[0]}
MOST_OBJECTS = 1_000_000  # a walk that meets more has left the search
RULES = [mcts.BestFirst(), mcts.PUCT(), mcts.Gumbel(), mcts.Proportional()]


def reached_from(*roots: object) -> list[object]:
    """Every object that `roots` lead to by attributes, items, closures, default arguments and classes of ours.

    Modules and code are where the walk ends: what a module keeps for itself is not in a search's hands.
    """
    found: dict[int, object] = {}
    queue = list(roots)
    while queue:
        thing = queue.pop()
        if id(thing) in found or isinstance(thing, ModuleType):
            continue
        found[id(thing)] = thing
        assert len(found) < MOST_OBJECTS
        if isinstance(thing, type):
            queue += vars(thing).values() if thing.__module__.partition(".")[0] in ROOMS else ()
        elif isinstance(thing, FunctionType):
            queue += (thing.__closure__, thing.__defaults__, thing.__kwdefaults__, vars(thing))
        elif isinstance(thing, np.ndarray):  # arrays do not tell the garbage collector what they hold
            queue += (thing.base, *(thing.ravel().tolist() if thing.dtype.hasobject else ()))
        else:
            queue += gc.get_referents(thing)
    return list(found.values())


# ---------------------------------------------------------------------------------------------- gold answers

CANARY = ("oriole", "heron", "wagtail")  # a gold answer is these words, in this order
GUESSES = ("red", "green", "blue", "round", "square")


class Riddles(SumTask):
    """Three words answer a riddle, and only a scorer with the key knows which. `shown`: all that the policy read."""

    name = "riddles"
    vocabulary = (*SPECIAL_TOKENS, "riddle", *"0123456789", *CANARY, *GUESSES)
    self_verifying = False

    def __init__(self):
        super().__init__(max_steps=len(CANARY))
        self.shown: list[str] = []

    def problems(self, split, n=None, seed=0):
        return [Problem(f"riddles:{i}", self.name, (i,)) for i in range(n or 6)]

    def count(self, split):
        return 6

    def context(self, problem, steps):
        self.shown.append(f"riddle {problem.data[0]}{NEWLINE}" + "".join(steps))
        return self.shown[-1]

    def initial_state(self, problem):
        return ()

    def state_key(self, problem, state):
        return " ".join(state).encode()

    def advance(self, problem, state, step):
        word = step.removesuffix(NEWLINE)
        if word not in CANARY + GUESSES:
            return Verdict(0.0, True, False, "not one word"), None
        return Verdict(0.0, False, True, "to be judged when the search has ended"), (*state, word)

    def parse_step(self, problem, steps, step):
        return "propose", ""


def riddles() -> tuple[Riddles, AnswerKey]:
    """A task that cannot judge, and apart from it the key that can."""
    task = Riddles()
    return task, AnswerKey({problem.id: " ".join(CANARY) for problem in task.problems("train")})


def guesser() -> TableForward:
    """A policy that writes any guess and no word of a gold answer."""
    tokens = [NEWLINE_ID, *(Riddles.vocabulary.index(word) for word in GUESSES)]
    return TableForward(len(Riddles.vocabulary), newline_bonus=2.5, logits=dict.fromkeys(tokens, 0.0))


def is_gold(thing: object) -> bool:
    """Whether an object is a gold answer, a word of one, or a key; the task's own list of words is not."""
    if isinstance(thing, str):
        return " ".join(CANARY) in thing or thing.split() == [*CANARY]
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "SU":
        return any(is_gold(text if isinstance(text, str) else text.decode()) for text in thing.ravel().tolist())
    if isinstance(thing, bytes | bytearray):
        return " ".join(CANARY).encode() in thing
    return isinstance(thing, AnswerKey)


def says_gold(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if any(word in text for word in CANARY)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_no_gold_answer_is_in_reach_of_a_search(rule):
    task, key = riddles()
    problems = task.problems("train", 4)
    evaluator = ModelEvaluator(None, task, forward=guesser())
    gold_seen: list[object] = []

    def walk(store: mcts.Store, leaves: mcts.Leaves, expansion: mcts.Expansion) -> None:
        if store.n_nodes < 100:
            things = reached_from(problems, task, evaluator, rule, store, leaves, expansion)
            gold_seen.extend(filter(is_gold, things))

    roots = evaluator.begin(problems)
    result = mcts.search(roots, evaluator, rule, mcts.Budget(simulations=40), wave_size=2, on_wave=walk)
    things = reached_from(problems, task, evaluator, rule, roots, result)
    assert any(thing is evaluator.trie.forward for thing in things)
    assert list(filter(is_gold, things)) == gold_seen == []
    steps = [evaluator.step(int(handle)).text for handle in result.store.edge_handles[: result.store.n_edges]]
    assert len(steps) > 100
    assert says_gold(steps) == says_gold(task.shown) == []
    tokens = evaluator.trie.tokens[: evaluator.trie.n_nodes]
    assert not np.isin(tokens, [task.vocabulary.index(word) for word in CANARY]).any()
    assert key.answers.keys() >= {problem.id for problem in problems}  # the scorer still has what it needs


def leak_by_attribute(task: Riddles, key: AnswerKey) -> object:
    task.hint = key
    return task


def leak_by_closure(task: Riddles, key: AnswerKey) -> object:
    task.verdict = lambda problem, steps: Verdict(float(steps == key.answers[problem.id]), True, True, "")
    return task


def leak_by_default(task: Riddles, key: AnswerKey) -> object:
    task.verdict = lambda problem, steps, answers=key.answers: answers
    return task


def leak_by_problem(task: Riddles, key: AnswerKey) -> object:
    return [Problem(name, task.name, (name, answer)) for name, answer in key.answers.items()]


def leak_by_class(task: Riddles, key: AnswerKey) -> object:
    return type("Told", (Riddles,), {"answers": key.answers, "__module__": __name__})()


def leak_by_array(task: Riddles, key: AnswerKey) -> object:
    return {"answers": np.array([[*key.answers.values()]], object)}


def leak_by_text_array(task: Riddles, key: AnswerKey) -> object:
    return np.array([*key.answers.values()])[:2]


def leak_by_bytes(task: Riddles, key: AnswerKey) -> object:
    evaluator = ModelEvaluator(None, task, forward=guesser())
    evaluator.trie.forward.hint = repr(key.answers).encode()
    return evaluator


@pytest.mark.parametrize(
    "leak",
    [
        leak_by_attribute, leak_by_closure, leak_by_default, leak_by_problem, leak_by_class, leak_by_array,
        leak_by_text_array, leak_by_bytes,
    ],
)  # fmt: skip
def test_the_walk_finds_a_planted_leak(leak):
    task, key = riddles()
    assert not any(map(is_gold, reached_from(task)))
    assert any(map(is_gold, reached_from(leak(task, key))))


@pytest.mark.parametrize("teacher", ["search", "star"])
def test_no_trace_and_no_row_tells_a_gold_answer(teacher, monkeypatch):
    task, _ = riddles()
    monkeypatch.setattr(task, "self_verifying", True, raising=False)  # as a task that claims too much
    experience = played(task, teacher, guesser())
    assert experience.traces
    fields = [str(value) for trace in experience.traces for value in asdict(trace).values()]
    assert says_gold(fields) == says_gold(task.shown) == []
    assert not np.isin(experience.rows.tokens, [task.vocabulary.index(word) for word in CANARY]).any()


@pytest.mark.parametrize("teacher", ["search", "star"])
def test_self_play_refuses_a_task_that_needs_gold(teacher):
    task, _ = riddles()
    with pytest.raises(ValueError, match="task riddles needs gold answers"):
        played(task, teacher, guesser())


@pytest.mark.parametrize(
    "strategy",
    [
        lambda task, problems: Workbench(None, task, "task", trust_value=True),
        lambda task, problems: enumeration(task, problems, 100),
    ],
    ids=["any search", "enumeration"],
)
def test_strategies_with_the_verifier_in_the_loop_refuse_a_task_that_needs_gold(strategy):
    task, _ = riddles()
    with pytest.raises(ValueError, match="task riddles needs gold answers"):
        strategy(task, task.problems("train", 2))
    assert task.shown == []


# ---------------------------------------------------------------------------------------------- exact labels

TASKS_WITH_LABELS: dict[str, Callable[[], Task]] = {
    "countdown": lambda: Countdown(number_max=6, target_max=30),
    "sliding": lambda: Sliding(distance_min=1, distance_max=3),
}


class LabelAskedError(AssertionError):
    """Somebody asked for an exact label where none may be known."""


class LegalPlayer:
    """A policy that writes every legal step with the same chance. It was given the rules before the labels were locked."""

    keeps_some = False
    kv_shape = (0, 0)
    kv_dtype = torch.float32
    device = torch.device("cpu")
    max_positions = 256
    batch_rows = 64

    def __init__(self, task: Task):
        self.vocabulary_size = self.row_width = len(task.vocabulary)
        self._decode, self._encode, self._legal_steps = task.decode, task.encode, task.legal_steps

    def refresh(self) -> None:
        """Rules have no weights to take."""

    def __call__(self, batch: NodeBatch) -> NodeRows:
        logprobs = np.full((len(batch.nodes), self.vocabulary_size), -np.inf, np.float32)
        for row, prefix, position in zip(logprobs, batch.prefixes, batch.positions, strict=True):
            *lines, begun = self._decode(prefix[1 : position + 1].tolist()).split(NEWLINE)
            following = self._following(lines[-1], self._encode(begun)) if lines else {NEWLINE_ID}
            row[list(following)] = -np.log(len(following))
        return NodeRows(slice(None), logprobs, None, np.full(len(logprobs), 0.5, np.float32))

    def _following(self, line: str, begun: list[int]) -> set[int]:
        """Tokens that go on with a legal step in the state that `line` ends with."""
        state = line.partition(" = ")[0] if "|" not in line else line.partition("|")[2]
        steps = map(self._encode, self._legal_steps(Problem("", "", ()), tuple(map(int, state.split()))))
        return {step[len(begun)] for step in steps if step[: len(begun)] == begun} or {NEWLINE_ID}


@pytest.fixture(params=TASKS_WITH_LABELS)
def task(request) -> Task:
    """A task whose problems have been drawn once, so that what deals them out is made."""
    task = TASKS_WITH_LABELS[request.param]()
    assert task.problems("train")
    return task


@pytest.fixture
def player(task) -> LegalPlayer:
    return LegalPlayer(task)


@pytest.fixture
def locked(task, player, monkeypatch) -> Task:
    """The task, its problems listed and every way to an exact label barred."""
    task.practice(9, np.random.default_rng(0))

    def refuse(*_arguments):
        raise LabelAskedError

    for label in ("solvable", "distance", "legal_steps"):
        monkeypatch.setattr(type(task), label, refuse)
    for solver in ("countdown.reachable", "countdown_space.reachable", "countdown_space._reach_table"):
        monkeypatch.setattr(f"tasks.numbers.{solver}", refuse)
    for module in ("sliding", "sliding_space"):
        for solver in ("distance", "distance_table"):
            monkeypatch.setattr(f"tasks.planning.{module}.{solver}", refuse)
    return task


def played(task: Task, teacher: str, forward) -> Experience:
    """What self-play makes of a few problems when `forward` is the policy."""
    config = ActorConfig(problems=6, tokens=400, discount=0.9, mine=teacher == "search")
    return act(LocalPolicy(None, version="none", forward=forward), task, teacher, config, Team(), seed=0, iteration=1)


def test_the_lock_bars_every_label(locked):
    problem = locked.problems("train", 1)[0]
    for ask in (locked.solvable, locked.distance, locked.legal_steps):
        with pytest.raises(LabelAskedError):
            ask(problem, locked.initial_state(problem))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_search_that_finds_solutions_asks_for_no_label(locked, player, rule):
    problems = locked.problems("train", 8)
    evaluator = ModelEvaluator(None, locked, forward=player)
    result = mcts.search(evaluator.begin(problems), evaluator, rule, mcts.Budget(simulations=60), wave_size=2)
    assert result.solved.any()


@pytest.mark.parametrize("no_reentry", [False, True])
def test_chains_ask_for_no_label(locked, player, no_reentry):
    chains = rollouts(None, locked, locked.problems("train", 8), 8, no_reentry=no_reentry, forward=player)
    assert any(chain.verdict.reward == 1.0 for of_problem in chains for chain in of_problem)


@pytest.mark.parametrize("teacher", ["search", "star"])
def test_self_play_asks_for_no_label(locked, player, teacher):
    experience = played(locked, teacher, player)
    assert experience.solved > 0
    assert (experience.rows.weight > 0).any()
    assert len(experience.traces) == experience.problems


@pytest.mark.parametrize("fill", ["random", "hindsight", "rules"])
@pytest.mark.parametrize("teacher", sorted({*TEACHERS} - {"given", "checks"}))  # no rows of these tasks
def test_a_batch_to_learn_from_asks_for_no_label(locked, teacher, fill, rng):
    assert len(batch(locked, WordCodec(locked), teacher, 40, Replay(1), LearnerConfig(fill=fill), rng)) == 40


def label_tables(task: Task, problems: list[Problem]) -> set[bytes]:
    """What a solver knows of these problems, as it lies in memory."""
    if isinstance(task, Sliding):
        return {distance_table(task.rows, task.cols, blank).tobytes() for blank in range(task.squares)}
    assert isinstance(task, Countdown)
    return {reachable(tuple(sorted(task.initial_state(problem))), task.cap) for problem in problems}


def is_label(thing: object, tables: set[bytes]) -> bool:
    if isinstance(thing, np.ndarray) and thing.nbytes <= max(map(len, tables)):
        thing = thing.tobytes()
    return isinstance(thing, bytes) and thing in tables


def test_no_label_is_in_reach_of_a_search(task):
    problems = task.problems("train", 4)
    tables = label_tables(task, problems)
    evaluator = ModelEvaluator(None, task, forward=TableForward(len(task.vocabulary), newline_bonus=2.5))
    evaluator.trie.forward.max_positions = 256
    labels_seen: list[object] = []

    def walk(store: mcts.Store, leaves: mcts.Leaves, expansion: mcts.Expansion) -> None:
        things = reached_from(problems, task, evaluator, store, leaves, expansion)
        labels_seen.extend(thing for thing in things if is_label(thing, tables))

    roots = evaluator.begin(problems)
    result = mcts.search(roots, evaluator, mcts.PUCT(), mcts.Budget(simulations=5), on_wave=walk)
    things = reached_from(problems, task, evaluator, roots, result)
    assert [thing for thing in things if is_label(thing, tables)] == labels_seen == []
    planted = [problems, {"deep": [np.frombuffer(next(iter(tables)), np.uint8)]}]
    assert any(is_label(thing, tables) for thing in reached_from(planted))


def test_a_problem_holds_what_its_prompt_shows_and_no_more(task):
    for problem in task.problems("train", 20):
        shown = {int(word) for word in task.prompt(problem).split() if word.isdigit()}
        held = [thing for thing in reached_from(problem.data) if not isinstance(thing, tuple)]
        assert {type(thing) for thing in held} == {int}
        assert set(held) <= shown
