"""A second derivation of a step: what follows from its choice, worked out where it does not stand, and the two compared.

Either a net was taught to write it, last word first; or it is a line of another question, which comes to the same thing.
"""

from __future__ import annotations

import math

import numpy as np

from models.abilities import Step
from models.steps.stream_path import Kept, Open
from models.steps.stream_types import Rules, Thought
from models.steps.stream_words import StreamWords
from models.trie.batch import NEVER_SAMPLED
from models.trie.trie import TokenTrie
from tasks.base import NEWLINE_ID
from tasks.streams import CHECK, KEPT, YES, Derivation, Found

LEAST = 1e-9  # of what a check left of a step: where nothing else stands, the most probable does


def check(trie: TokenTrie, words: StreamWords, rules: Rules, asked: list[Open]) -> None:
    """Check the last step of each stream, greedily, and mark those that the check refuses."""
    if asked:
        (_another_way if words.form.derive else _last_word_first)(trie, words, rules, asked)


def _last_word_first(trie: TokenTrie, words: StreamWords, rules: Rules, asked: list[Open]) -> None:
    form = words.form
    steps = [stream.path[-1].step or Step("") for stream in asked]
    chosen = [form.choice(step.text) for step in steps]
    paths = [trie.path(stream.path[-1].node) for stream in asked]
    opened = [int(p[k - 1 - len(s.tokens or ())]) for p, k, s in zip(paths, chosen, steps, strict=True)]
    nodes = extended(trie, opened, [words.check] * len(asked))
    lengths = [form.checks * (len(step.tokens or ()) - 1 - k) for step, k in zip(steps, chosen, strict=True)]
    plain = np.arange(words.vocabulary_size) < words.vocabulary_size - len(words.task.stream_words)
    plain[[*NEVER_SAMPLED, NEWLINE_ID]] = False
    lines: list[list[int]] = [[] for _ in asked]
    logprobs = [0.0] * len(asked)
    for place in range(max(lengths)):
        going = [k for k, length in enumerate(lengths) if length > place]
        rows = np.where(plain, trie.logprobs[[nodes[k] for k in going]], -np.inf)
        for k, token, row in zip(going, rows.argmax(1).tolist(), rows, strict=True):
            lines[k].append(token)
            logprobs[k] += float(row[token])
        on = [k for k in going if lengths[k] > place + 1]
        for k, node in zip(on, extended(trie, [nodes[k] for k in on], [lines[k][-1] for k in on]), strict=True):
            nodes[k] = node
    for stream, step, kept, line, logprob in zip(asked, steps, chosen, lines, logprobs, strict=True):
        told = tuple(line[form.checks - 1 :: form.checks][::-1])
        tokens = step.tokens or ()
        mended = (*tokens[:kept], *told, *tokens[-1:])
        same = told == tokens[kept:-1]
        _compare(rules, stream, same, math.exp(logprob), Step(words.codec.step(mended, True), mended))
        written = (words.check, *line) if stream.path[-1].doubtful else (words.check, *line, words.yes)
        stream.note(Thought("check", f"{words.task.decode(written)}\n", written, stream.depth))


def _another_way(trie: TokenTrie, words: StreamWords, rules: Rules, asked: list[Open]) -> None:
    """Each step by questions of its own; of what is written for it questions and lines are counted."""
    assert words.form.derive is not None, "these steps have another way"
    ways = [_Way(s, way) for s in asked if s.path[-1].step and (way := words.form.derive(s.path[-1].step.text))]
    while going := [way for way in ways if way.found is None]:
        _answer(trie, words, going)
    for way in ways:
        assert way.found is not None, "every way came to its end"
        made, last = way.found.step, way.stream.path[-1]
        step = Step(made, tuple(words.codec.tokens(made))) if made else None
        _compare(rules, way.stream, way.found.agrees, math.exp(way.logprob), step)
        verdict = "" if last.doubtful else f" {YES if way.found.agrees else KEPT}"
        way.stream.note(
            Thought("check", f"{CHECK} {'; '.join(way.texts)}{verdict}\n", tuple(way.written), way.stream.depth)
        )


class _Way:
    """Another way to the last step of a stream, on which a model answers one question after the other."""

    def __init__(self, stream: Open, way: Derivation):
        self.stream, self.texts, self.written, self.logprob = stream, list[str](), list[int](), 0.0
        self._way, self.question = way, next(way)
        self.found: Found | None = None  # once nothing more is asked

    def told(self, text: str) -> None:
        """Behind the lead of the question `text` was written."""
        try:
            self.question = self._way.send(text)
        except StopIteration as ended:
            self.found = ended.value


def _answer(trie: TokenTrie, words: StreamWords, ways: list[_Way]) -> None:
    """End the line that each way asks for, greedily."""
    codec, asked = words.codec, [way.question for way in ways]
    leads = [codec.tokens(question.lead) for question in asked]
    heads = [[*codec.context(question.asked), *lead] for question, lead in zip(asked, leads, strict=True)]
    nodes, lines = trie.prefill(heads).tolist(), [[] for _ in ways]
    going = list(range(len(ways)))
    for _ in range(codec.max_step_tokens):
        at = [nodes[k] for k in going]
        rows = trie.logprobs[at]
        best = rows.argmax(1)
        said = trie.choices[at, best] if trie.forward.keeps_some else best
        for k, token, gained in zip(going, said.tolist(), rows.max(1).tolist(), strict=True):
            lines[k].append(token)
            ways[k].logprob += gained
        going = [k for k in going if not words.whole[lines[k][-1]]]
        if not going:
            break
        for k, node in zip(
            going, extended(trie, [nodes[k] for k in going], [lines[k][-1] for k in going]), strict=True
        ):
            nodes[k] = node
    for way, question, lead, line in zip(ways, asked, leads, lines, strict=True):
        text = codec.step((*lead, *line), True).strip()
        way.texts.append(text)
        way.written += [*codec.tokens(question.asked), *lead, *line]
        way.told(text.removeprefix(question.lead).strip())


def _compare(rules: Rules, stream: Open, same: bool, worked: float, mended: Step | None) -> None:
    """Two derivations of one thing: where they differ, and the check is the surer by rule `threshold`, the step is refused.

    `worked`: how probable the check is to the net. `mended`: the step that it comes to; None: it says of none. Then what
    was refused is weighed against what is left: that has the check for it with `worked`, this with 1 - `worked`.
    """
    *_, before, last = stream.path
    if same:
        last.sure = 1.0 - (1.0 - last.sure) * (1.0 - worked)  # as if each slipped by itself
        return
    share = worked / max(worked + last.sure, 1e-30)
    last.doubtful = share > (0.5 if rules.threshold is None else rules.threshold)
    if last.doubtful and last.step is not None:
        against = share if mended is not None else 1.0 - (1.0 - worked) / max(worked, 1e-30)
        refused = Kept(last.sure * max(1.0 - against, LEAST), last.step)
        best = Kept(share, mended, now=True) if mended is not None and rules.mended else refused
        before.tried.best = max(before.tried.best, best, key=lambda kept: kept.sure)
    last.sure = 1.0 - share


def extended(trie: TokenTrie, nodes: list[int], tokens: list[int]) -> list[int]:
    """The nodes that `tokens` lead to from `nodes`, without values."""
    if not nodes:
        return []
    return trie.extend(np.array(nodes, np.int32), np.array(tokens, np.int32), with_values=False).tolist()


def doubt(trie: TokenTrie, words: StreamWords, rules: Rules, stream: Open) -> None:
    """Rule `doubted`: whether the last step is given up, since what follows in it from its choice was too improbable."""
    *_, before, last = stream.path
    assert last.step is not None, "a state below the prompt has its step"
    if words.form.checked or not rules.doubted:
        return
    tokens, chosen = last.step.tokens or (), words.chosen(last.step)
    if chosen >= len(tokens) - 1:  # its end alone
        return
    at = trie.path(last.behind)[-1 - len(tokens) + chosen : -1]
    gained = math.exp(float(trie.logprobs_of(at, np.array(tokens[chosen:])[:, None]).sum()))
    gone = before.tried.refused.get(tokens[:chosen], 0.0)
    last.doubtful = gained < rules.doubted * (1.0 - gone)
    if last.doubtful:
        before.tried.refused[tokens[:chosen]] = gone + gained
