"""A second derivation of a step: what follows from its choice, worked out where it does not stand, and the two compared."""

from __future__ import annotations

import math

import numpy as np

from models.abilities import Step
from models.steps.stream_path import Open
from models.steps.stream_types import Rules, Thought
from models.steps.stream_words import StreamWords
from models.trie.batch import NEVER_SAMPLED
from models.trie.trie import TokenTrie
from tasks.base import NEWLINE_ID


def check(trie: TokenTrie, words: StreamWords, rules: Rules, asked: list[Open]) -> None:
    """Check the last step of each stream, greedily, and mark those that the check refuses."""
    if not asked:
        return
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
        _compare(words, rules, stream, step, kept, line, math.exp(logprob))


def _compare(
    words: StreamWords, rules: Rules, stream: Open, step: Step, chosen: int, line: list[int], worked: float
) -> None:
    """Two derivations of one thing: where they differ, and the check is the surer by rule `threshold`, the step is refused."""
    *_, before, last = stream.path
    tokens = step.tokens or ()
    told = tuple(line[words.form.checks - 1 :: words.form.checks][::-1])
    if told == tokens[chosen:-1]:
        last.sure = 1.0 - (1.0 - last.sure) * (1.0 - worked)  # as if each slipped by itself
    else:
        share = worked / max(worked + last.sure, 1e-30)
        last.doubtful = share > (0.5 if rules.threshold is None else rules.threshold)
        if last.doubtful:
            mended = (*tokens[:chosen], *told, *tokens[-1:])
            best = (
                (share, Step(words.codec.step(mended, True), mended))
                if rules.mended
                else (last.sure * (1.0 - share), step)
            )
            before.tried.best = max(before.tried.best, best, key=lambda pair: pair[0])
        last.sure = 1.0 - share
    written = (words.check, *line) if last.doubtful else (words.check, *line, words.yes)
    stream.note(Thought("check", f"{words.task.decode(written)}\n", written, stream.depth))


def extended(trie: TokenTrie, nodes: list[int], tokens: list[int]) -> list[int]:
    """The nodes that `tokens` lead to from `nodes`, without values."""
    if not nodes:
        return []
    return trie.extend(np.array(nodes, np.int32), np.array(tokens, np.int32), with_values=False).tolist()


def doubt(trie: TokenTrie, words: StreamWords, rules: Rules, stream: Open) -> None:
    """Rule `doubted`: whether the last step is given up, since what follows in it from its choice was too improbable."""
    *_, before, last = stream.path
    assert last.step is not None, "a state below the prompt has its step"
    if words.form.checks or not rules.doubted:
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
