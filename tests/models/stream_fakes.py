"""A task whose streams are short enough to be decoded by hand, table nets that write them, and a slow decoder of 40 lines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from models.local_policy import LocalPolicy
from models.steps.stream_decoder import StreamWave
from models.steps.stream_types import Planted, Rules, Stream
from models.steps.stream_words import StreamWords
from models.trie.batch import NEVER_SAMPLED, NodeBatch, NodeRows
from models.trie.trie import TokenTrie
from tasks.base import NEWLINE_ID, NO_STEP, SPECIAL_TOKENS, Problem, Verdict
from tasks.registry import streamed
from tasks.streams import UNDOS, StreamForm
from tests.models.fakes import SumTask, TableForward

PRUNE = -12.0  # log-probability below which `StepSampler` draws nothing


class Letters(SumTask):
    """Up to two steps of letters; a step that opens with z ends the chain, rightly with a b in it."""

    name = "letters"
    vocabulary = (*SPECIAL_TOKENS, "=", *"abz")
    max_step_tokens = 3
    max_context_tokens = 12
    stream = StreamForm(mark="=", follows="=", answer="z")

    def __init__(self):
        super().__init__(max_steps=2)

    def problems(self, split, n=None, seed=0):
        return [
            Problem(f"letters:{i}", self.name, tuple(f"{i:06b}".translate({48: "a", 49: "b"}))) for i in range(n or 4)
        ]

    def advance(self, problem, state, step):
        words = step.split()
        if not words or not set(words) <= {"a", "b", "z"}:
            return Verdict(0.0, True, False, "no letters"), None
        over = words[0] == "z"
        return Verdict(float(over and "b" in words), over, True, ""), None if over else (*state, len(words))

    def verdict(self, problem, steps):
        verdict, state = NO_STEP, self.initial_state(problem)
        for step in steps:
            if state is not None:
                verdict, state = self.advance(problem, state, step)
        return verdict

    def context(self, problem, steps):
        *first, last = problem.data
        return f"{' '.join(first)} = {last}\n" + "".join(steps)


class CheckedLetters(Letters):
    """The same, with steps like `a = b`, whose b can be checked; a chain ends after its second step."""

    max_step_tokens = 4
    stream = StreamForm(mark="=", follows="=", checks=1)


LETTERS, CHECKED_LETTERS = streamed(Letters()), streamed(CheckedLetters())
IDS = CHECKED_LETTERS.token_ids  # of both: checks come last


class Written(TableForward):
    """A table net whose logits are `logits(path)`; None: random ones of the path, under which streams go back now and then."""

    def __init__(self, logits: Callable[[tuple[int, ...]], dict[int, float]] | None = None, task: Letters = LETTERS):
        super().__init__(len(task.vocabulary))
        self.of, self.task = logits, task
        self._rows: dict[tuple[int, ...], np.ndarray] = {}

    def row(self, path: tuple[int, ...]) -> np.ndarray:
        """float32 [V]: log-probabilities after a path."""
        if path not in self._rows:
            self._rows[path] = self._row(path)
        return self._rows[path]

    def _row(self, path: tuple[int, ...]) -> np.ndarray:
        if self.of is None:
            logits = np.random.default_rng(path).normal(size=self.vocabulary_size) * 1.5
            logits[NEWLINE_ID] += 2.0 if path[-1] != NEWLINE_ID else -3.0
            ids = self.task.token_ids
            logits[ids["no"]] += 1.0 if path.count(NEWLINE_ID) > 1 and path[-1] == NEWLINE_ID else -3.0
            logits[[ids["yes"], ids["stop"]]] -= 2.0
        else:
            known = self.of(path)
            logits = np.array([known.get(token, -np.inf) for token in range(self.vocabulary_size)])
        logits[[*NEVER_SAMPLED, *(IDS[f"e{effort}"] for effort in range(1, 5))]] = -np.inf
        return (logits - np.logaddexp.reduce(logits)).astype(np.float32)

    def __call__(self, batch: NodeBatch) -> NodeRows:
        assert batch.prefixes is not None
        rows = [self.row(tuple(p[: at + 1].tolist())) for p, at in zip(batch.prefixes, batch.positions, strict=True)]
        return NodeRows(slice(None), np.array(rows), None, np.full(len(rows), 0.5, np.float32))


def decoded(forward: Written, problems: list[Problem], effort: int, rules: Rules, **more):
    return LocalPolicy(None, forward=forward).streams(forward.task, problems, effort, rules, **more)


def together(trie: TokenTrie, words: StreamWords, problems: list[Problem], effort: int, rules: Rules) -> list[Stream]:
    """One stream of each problem in a trie of the caller's own."""
    wave = StreamWave(trie, words, effort, rules, 0)
    wave.join([(problem, 0, Planted()) for problem in problems])
    return wave.played()


def slow_stream(forward: Written, problem: Problem, effort: int, rules: Rules) -> tuple[list[str], str]:
    """Lines of the greedy stream of a problem and how it ends, by enumeration of every step at every state."""
    words = StreamWords.of(LETTERS)
    prompt = tuple(words.context(problem, effort))
    path: list[tuple[tuple[int, ...], set, dict, bool]] = [
        (prompt, set(), {}, False)
    ]  # context, tried, refused, doubtful
    lines: list[str] = []
    undos, most = 0, UNDOS[[*UNDOS][effort]]
    while True:
        context, tried, refused, doubtful = path[-1]
        row, depth = np.exp(forward.row(context).astype(float)), len(path) - 1
        over = depth == 2 or (depth > 0 and context[len(path[-2][0])] == IDS["z"])
        sure = row[words.yes] / (row[words.no] + row[words.yes]) > rules.threshold
        if doubtful or (over and not sure) or (not over and rules.early and row[words.no] > rules.threshold):
            if undos == most:
                return [*lines, "no\n"], "no"
            choices = [*words.back[:depth].tolist(), words.stop]
            word = max(choices, key=lambda w: forward.row((*context, words.no))[w])
            lines.append(f"no {LETTERS.vocabulary[word]}\n")
            if word == words.stop and not doubtful:
                return lines, "stop"
            undos += 1
            meant = depth - 1 if doubtful else choices.index(word)
            depth = {"net": meant, "root": 0, "last": depth - 1}[rules.back]
            lines[-1] = f"no b{depth}\n"
            del path[depth + 1 :]
            continue
        step = (words.yes,) if over else best_untried(forward, context, tried if rules.distinct else set(), words)
        text = " ".join(LETTERS.vocabulary[t] for t in step)
        if step == (words.yes,):
            return [*lines, "yes\n"], "yes"
        if step[-1] != NEWLINE_ID:
            return [*lines, text], "broken"
        tried.add(step)
        lines.append(text.replace(" \n", "\n"))
        chosen = step.index(IDS["="]) + 1 if IDS["="] in step[:-2] else len(step)
        follows = np.prod([np.exp(forward.row((*context, *step[:k]))[step[k]]) for k in range(chosen, len(step))])
        gone = refused.get(step[:chosen], 0.0)
        doubted = bool(rules.doubted and follows < rules.doubted * (1 - gone))
        refused[step[:chosen]] = gone + follows * doubted
        path.append(((*context, *step), set(), {}, doubted))


def best_untried(forward: Written, context: tuple, tried: set, words: StreamWords) -> tuple[int, ...]:
    """The most probable prefix that no tried step has, completed greedily; `no` opens none."""
    left = untaken(forward, context, tried, (words.no,))
    return completed(forward, context, max(left, key=lambda prefix: left[prefix]))


def untaken(forward: Written, context: tuple, tried: set, aside: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Log-probability of every shortest prefix that no tried step has and that no word `aside` opens."""
    prefixes = {step[:n] for step in tried for n in range(len(step))} | {()}
    return {
        (*prefix, token): float(sum(forward.row((*context, *prefix[:k]))[t] for k, t in enumerate((*prefix, token))))
        for prefix in prefixes
        for token in range(forward.vocabulary_size)
        if forward.row((*context, *prefix))[token] >= PRUNE
        and (*prefix, token) not in {step[: len(prefix) + 1] for step in tried}
        and not (prefix == () and token in aside)
    }


def completed(forward: Written, context: tuple, step: tuple[int, ...]) -> tuple[int, ...]:
    """A prefix gone on with greedily to the end of its step."""
    ids = forward.task.token_ids
    ends = (NEWLINE_ID, *(ids[word] for word in ("yes", "no", "on") if word in ids))
    while len(step) < LETTERS.max_step_tokens and step[-1] not in ends:
        step = (*step, int(forward.row((*context, *step)).argmax()))
    return step


class Script:
    """A forward that knows what may be written behind some token paths, and how much each is liked; nothing else.

    It keeps the few most probable tokens of a row, as is done of a large vocabulary.
    """

    keeps_some, row_width = True, 4
    kv_shape, kv_dtype, device = (0, 0), torch.float32, torch.device("cpu")
    max_positions, batch_rows = 256, 64

    def __init__(self, vocabulary_size: int):
        self.vocabulary_size = vocabulary_size
        self._liked: dict[tuple[int, ...], dict[int, float]] = {}

    def add(self, path: list[int], line: list[int], liked: float) -> None:
        for k, token in enumerate(line):
            row = self._liked.setdefault((*path, *line[:k]), {})
            row[token] = max(row.get(token, 0.0), liked)

    def refresh(self) -> None:
        """A script does not change."""

    def __call__(self, batch: NodeBatch) -> NodeRows:
        rows = np.full((len(batch.nodes), self.row_width), -np.inf, np.float32)
        choices = np.zeros((len(batch.nodes), self.row_width), np.int32)
        for i, (prefix, at) in enumerate(zip(batch.prefixes, batch.positions, strict=True)):
            liked = self._liked.get(tuple(prefix[: at + 1].tolist()), {0: 1.0})
            best = sorted(liked, key=lambda token: -liked[token])
            choices[i, : len(best)] = best
            rows[i, : len(best)] = np.log([liked[token] / sum(liked.values()) for token in best])
        return NodeRows(slice(None), rows, choices, np.full(len(rows), 0.5, np.float32))
