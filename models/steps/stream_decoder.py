"""Streams, many at once: chains that judge themselves, go back and try again, decoded over one token trie.

Going back sets a pointer: the stream stands at the trie node of the state that it returns to, and nothing of what was given up
is left in its context. What is left at `yes` is therefore the visible chain. The memory of what was tried is the account that
`StepSampler` keeps at each state of the path: a step is drawn from the policy restricted to what was not drawn there before,
exactly (rule `distinct`). A verdict is written where the net is sure of it (rule `threshold`). No verifier is asked.

Much of a step follows from what is chosen in it: results, new states. Where the net itself gave that little probability, the
step is given up at once (rule `doubted`), and the next one drawn behind the same steps. Of what follows from a choice that was
refused before, the probability is that among what was not. This costs no forward, and sees what a verdict on meaning does not.

Of a task whose steps have checks, a step of low probability (rule `checked`) is read once more, its last word first, in a
context in which its result does not stand, and given up where that is improbable, too (rule `threshold`). The check leaves
nothing in the context; its tokens are counted. A right step may be given up: where no other one behind the same steps can be
as probable, by itself and by its check, as one that was refused, that one is taken again. Where no undo is left nothing is
checked.

A round writes one line of every stream that goes on. Noise is keyed by (seed, problem id, sample, lines so far): a stream does
not depend on the others. Every token that stands in a stream is counted, whether or not the trie knew it.

Legend: A streams that go on, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.abilities import Step
from models.steps.history import digest
from models.steps.stream_types import End, Planted, Rules, Stream, Thought
from models.steps.stream_words import StreamWords
from models.trie import sampling_kernels as kernels
from models.trie.batch import NEVER_SAMPLED
from models.trie.sampling import StepSampler
from models.trie.trie import TokenTrie
from tasks.base import NEWLINE_ID, Problem
from tasks.streams import CHECKED, EFFORTS, UNDOS

AT_ONCE = 512  # streams that share a trie
NO_SLOT = -1
LEAST = np.float32(-1e3)  # log-probability of a word that is allowed where the net would write none that is
NOTHING = (0.0, Step(""))
VERDICT, DEPTH = range(2)  # what a line's own noise is for


@dataclass(slots=True)
class _State:
    """A state on the path of a stream."""

    node: int  # of the trie, the last token of the context
    slot: int = NO_SLOT  # of the sampler: what was tried here
    step: Step | None = None  # that led here; None: the prompt
    sure: float = 1.0  # of that step: by its check, or by its own probability
    doubtful: bool = False  # by rule `doubted`, or by a check that differs
    bound: float = 1.0  # no step that was not drawn here is more probable
    best: tuple[float, Step] = (
        0.0,
        Step(""),
    )  # of the steps that a check refused here: probability by both, and the step
    refused: dict[tuple[int, ...], float] = field(
        default_factory=dict
    )  # by choice: mass of the consequences refused here


@dataclass(slots=True)
class _Open:
    """A stream in the making."""

    seed: int
    path: list[_State]
    thoughts: list[Thought] = field(default_factory=list)
    tokens: int = 0
    undos: int = 0
    sure: float = 0.5  # see `Stream`
    end: End | None = None

    @property
    def depth(self) -> int:
        return len(self.path) - 1

    @property
    def noise(self) -> int:
        """Differs from line to line."""
        return self.seed ^ (len(self.thoughts) << 32)

    def note(self, thought: Thought) -> None:
        self.thoughts.append(thought)
        self.tokens += len(thought.tokens)


def streams(
    trie: TokenTrie,
    words: StreamWords,
    problems: Sequence[Problem],
    effort: int,
    rules: Rules,
    *,
    seed: int = 0,
    first: Sequence[int] | None = None,
    planted: Sequence[Planted] | None = None,
) -> list[Stream]:
    """One stream of each problem at an effort of 1 or more.

    `first`: number of each problem's sample, 0 if None. `planted`: what each begins with; None: nothing but its prompt.

    Raises:
        TrieError: a stream does not fit the model's positions.
    """
    samples = [0] * len(problems) if first is None else first
    begun = [Planted()] * len(problems) if planted is None else planted
    jobs, done = list(zip(problems, samples, begun, strict=True)), []
    for start in range(0, len(jobs), AT_ONCE):
        done += _Wave(trie, words, jobs[start : start + AT_ONCE], effort, rules, seed).play()
    return done


class _Wave:
    """Streams that are decoded together."""

    def __init__(self, trie: TokenTrie, words: StreamWords, jobs: Sequence, effort: int, rules: Rules, seed: int):
        self._trie, self._words, self._rules = trie, words, rules
        self._most_undos = UNDOS[EFFORTS[effort]] if rules.undos is None else rules.undos
        self._checked = CHECKED[EFFORTS[effort]] if rules.checked is None else rules.checked
        self._plain = np.arange(words.vocabulary_size) < words.vocabulary_size - len(words.task.stream_words)
        self._plain[[*NEVER_SAMPLED, NEWLINE_ID]] = False  # what a check works out
        trie.clear()
        self._sampler = StepSampler(
            trie,
            max_step_tokens=words.codec.max_step_tokens,
            temperature=rules.temperature or 1.0,
            ends=words.ends,
        )
        roots = trie.prefill([words.context(problem, effort) for problem, _, _ in jobs]).tolist()
        seeds = [digest(f"{seed}\0{problem.id}\0{sample}".encode()) for problem, sample, _ in jobs]
        self._streams = [_Open(s, [_State(node)]) for s, node in zip(seeds, roots, strict=True)]
        self._plant([planted for _, _, planted in jobs])

    def _plant(self, planted: Sequence[Planted]) -> None:
        """Bring each stream to where it is made to begin."""
        lines = [(*begun.steps, *((begun.tried,) if begun.tried else ())) for begun in planted]
        for depth in range(max(map(len, lines), default=0)):
            some = [i for i, line in enumerate(lines) if len(line) > depth]
            if self._rules.distinct:
                self._open_slots([self._streams[i] for i in some])
                slots = np.array([self._streams[i].path[-1].slot for i in some], np.int32)
                self._sampler.leave_out(slots, [lines[i][depth].tokens or () for i in some])
            standing = [i for i in some if len(planted[i].steps) > depth]
            self._stand([self._streams[i] for i in standing], [lines[i][depth] for i in standing])
        if self._words.form.checks:
            self._check([stream for stream in self._streams if stream.depth])

    def _stand(self, made: list[_Open], steps: list[Step]) -> None:
        """Put a step behind what stands in each stream."""
        nodes, logprobs = [stream.path[-1].node for stream in made], [0.0] * len(made)
        tokens = [step.tokens or () for step in steps]
        for k in range(max(map(len, tokens), default=0)):
            going = [i for i, line in enumerate(tokens) if len(line) > k]
            for i in going:
                logprobs[i] += float(self._trie.logprobs[nodes[i], tokens[i][k]])
            for i, node in zip(
                going, self._extended([nodes[i] for i in going], [tokens[i][k] for i in going]), strict=True
            ):
                nodes[i] = node
        for stream, node, step, logprob in zip(made, nodes, steps, logprobs, strict=True):
            stream.path.append(_State(node, step=step, sure=math.exp(logprob)))
            self._doubt(stream)

    def play(self) -> list[Stream]:
        active = self._streams
        while active:
            for_verdict = np.array([self._over(stream) for stream in active])
            refused = self._refused(active, for_verdict)
            self._go_back([stream for stream, no in zip(active, refused, strict=True) if no])
            self._accept([s for s, no, over in zip(active, refused, for_verdict, strict=True) if over and not no])
            self._step([s for s, no, over in zip(active, refused, for_verdict, strict=True) if not over and not no])
            for stream in active:
                if stream.end is None and self._rules.tokens is not None and stream.tokens >= self._rules.tokens:
                    stream.end = "tokens"
            active = [stream for stream in active if stream.end is None]
        return [_closed(stream, self._words.form.checks) for stream in self._streams]

    # ---- the verdict

    def _over(self, stream: _Open) -> bool:
        """Whether nothing but a verdict can follow: the form of the last step says so, or the number of steps."""
        last = stream.path[-1].step
        return stream.depth == len(self._words.back) or (last is not None and self._words.form.ends(last.text))

    def _refused(self, active: list[_Open], over: np.ndarray) -> np.ndarray:
        """bool [A]: whether each stream gives up what it stands at; where it is `over` bool [A], it writes `yes` otherwise."""
        words = self._words
        doubtful = np.array([stream.path[-1].doubtful for stream in active])
        if words.form.checks:
            return doubtful
        if self._rules.threshold is None:
            allowed = np.ones((len(active), words.vocabulary_size), np.bool_)
            allowed[~over, words.no] = self._rules.early
            allowed[over] = np.isin(np.arange(words.vocabulary_size), [words.yes, words.no])
            nodes = [stream.path[-1].node for stream in active]
            return doubtful | (self._written(active, nodes, allowed, VERDICT) == words.no)
        rows = self._trie.logprobs[[stream.path[-1].node for stream in active]]
        no, yes = np.exp(rows[:, words.no].astype(np.float64)), np.exp(rows[:, words.yes].astype(np.float64))
        sure = yes / np.maximum(no + yes, 1e-30)
        for stream, share in zip(active, sure.tolist(), strict=True):
            stream.sure = share
        refused = np.where(over, sure <= self._rules.threshold, (no > self._rules.threshold) & self._rules.early)
        return doubtful | refused

    def _go_back(self, refused: list[_Open]) -> None:
        words, form = self._words, self._words.form
        for stream in refused:
            if stream.undos >= self._most_undos:
                stream.end = "no"
                stream.note(Thought("undo", "no\n", (words.no,), stream.depth))
        going = [stream for stream in refused if stream.end is None]
        if not going:
            return
        nodes = self._extended([stream.path[-1].node for stream in going], [words.no] * len(going))
        allowed = np.zeros((len(going), words.vocabulary_size), np.bool_)
        allowed[:, words.stop] = True
        for row, stream in zip(allowed, going, strict=True):
            row[words.back[: stream.depth]] = True
        for stream, word in zip(going, self._written(going, nodes, allowed, DEPTH).tolist(), strict=True):
            back = None if word == words.stop else int(np.flatnonzero(words.back == word)[0])
            if stream.path[-1].doubtful or (back is not None and self._rules.back != "net"):
                back = 0 if self._rules.back == "root" else stream.depth - 1
                word = int(words.back[back])
            stream.note(Thought("undo", form.back(back), (words.no, word), stream.depth, back))
            if back is None:
                stream.end = "stop"
            else:
                stream.undos += 1
                del stream.path[back + 1 :]

    def _accept(self, accepted: list[_Open]) -> None:
        for stream in accepted:
            stream.note(Thought("check", "yes\n", (self._words.yes,), stream.depth))
            stream.end = "yes"

    def _written(self, active: list[_Open], nodes: Sequence[int], allowed: np.ndarray, noise: int) -> np.ndarray:
        """int32 [A]: one word after each of `nodes`, of those `allowed` bool [A, V]."""
        rows = np.where(allowed, np.maximum(self._trie.logprobs[nodes], LEAST), np.float32(-np.inf))
        tokens, gained = np.empty(len(active), np.int32), np.empty(len(active))
        seeds = np.array([stream.noise for stream in active], np.uint64)
        places, at = np.arange(len(active), dtype=np.int32), np.full(len(active), noise, np.int64)
        kernels.sample_tokens(rows, self._trie.choices, places, seeds, at, self._rules.temperature, tokens, gained)
        return tokens

    # ---- a step

    def _step(self, going: list[_Open]) -> None:
        going = self._unsettled(going)
        if not going:
            return
        self._open_slots([s for s in going if s.path[-1].slot == NO_SLOT or not self._rules.distinct])
        slots = np.array([stream.path[-1].slot for stream in going], np.int32)
        drawn = self._sampler.draw(slots, 1, "sample" if self._rules.temperature else "best")
        moved, parents, lasts, logprobs = [], [], [], []
        bounds = np.exp(drawn.best_unseen_logprob).tolist()
        for stream, first, last, bound in zip(
            going, drawn.offsets[:-1].tolist(), drawn.offsets[1:].tolist(), bounds, strict=True
        ):
            stream.path[-1].bound = bound
            if first == last:
                stream.end = "exhausted"
                continue
            tokens = tuple(drawn.tokens[first, : drawn.lengths[first]].tolist())
            if tokens == (self._words.yes,):
                self._accept([stream])
                continue
            finished = bool(drawn.finished[first]) and tokens[-1] not in (self._words.yes, self._words.no)
            text = self._words.codec.step(tokens, finished)
            stream.note(Thought(self._words.form.kind(text), text, tokens, stream.depth))
            if not finished:
                stream.end = "broken"
                continue
            stream.path.append(_State(0, step=Step(text, tokens)))
            moved.append(stream)
            parents.append(int(drawn.parent_nodes[first]))
            lasts.append(tokens[-1])
            logprobs.append(float(drawn.logprobs[first]))
        for stream, node, logprob in zip(moved, self._extended(parents, lasts), logprobs, strict=True):
            stream.path[-1].node, stream.path[-1].sure = node, math.exp(logprob)
            self._doubt(stream)
        if self._words.form.checks:
            self._check(moved)

    def _unsettled(self, going: list[_Open]) -> list[_Open]:
        """Those that draw a step. The others take up one that was refused, and that nothing left can be more probable than."""
        settled, rest = [], []
        for stream in going:
            (settled if stream.path[-1].best[0] > stream.path[-1].bound else rest).append(stream)
        steps = [stream.path[-1].best[1] for stream in settled]
        for stream, step in zip(settled, steps, strict=True):
            stream.path[-1].best = NOTHING
            stream.note(Thought(self._words.form.kind(step.text), step.text, step.tokens or (), stream.depth))
        self._stand(settled, steps)
        return rest

    def _doubt(self, stream: _Open) -> None:
        """See rule `doubted`: of the last step."""
        *_, before, last = stream.path
        form, least = self._words.form, self._rules.doubted
        assert last.step is not None, "a state below the prompt has its step"
        tokens, chosen = last.step.tokens or (), form.choice(last.step.text)
        if form.checks or not least or chosen >= len(last.step.text.split()):
            return
        at = self._trie.path(last.node)[-1 - len(tokens) + chosen : -1]
        gained = math.exp(float(self._trie.logprobs[at, list(tokens[chosen:])].sum()))
        gone = before.refused.get(tokens[:chosen], 0.0)
        last.doubtful = gained < least * (1.0 - gone)
        if last.doubtful:
            before.refused[tokens[:chosen]] = gone + gained

    def _check(self, made: list[_Open]) -> None:
        """The last step of each stream that is not sure of it read once more behind its choice, the last word first."""
        words, form = self._words, self._words.form
        improbable = [s for s in made if s.path[-1].sure < self._checked and s.undos < self._most_undos]
        results, nodes = [], []
        for stream in improbable:
            step, path = stream.path[-1].step, self._trie.path(stream.path[-1].node)
            assert step is not None, "a state below the prompt has its step"
            tokens, chosen = step.tokens or (), form.choice(step.text)
            results.append(tokens[chosen:-1][::-1])
            nodes.append(int(path[chosen - 1 - len(tokens)]))
        nodes = self._extended(nodes, [words.check] * len(improbable))
        agreeing = [1.0] * len(improbable)
        for place in range(max(map(len, results), default=0)):
            going = [k for k, result in enumerate(results) if len(result) > place]
            for k in going:
                agreeing[k] *= math.exp(float(self._trie.logprobs[nodes[k], results[k][place]]))
            going = [k for k in going if len(results[k]) > place + 1]
            told = [results[k][place] for k in going]
            for k, node in zip(going, self._extended([nodes[k] for k in going], told), strict=True):
                nodes[k] = node
        threshold = 0.5 if self._rules.threshold is None else self._rules.threshold
        for stream, result, sure in zip(improbable, results, agreeing, strict=True):
            *_, before, last = stream.path
            last.doubtful = sure < 1.0 - threshold
            if last.doubtful and last.sure * sure > before.best[0]:
                before.best = last.sure * sure, last.step or Step("")
            last.sure = sure
            line = (words.check, *result) if last.doubtful else (words.check, *result, words.yes)
            stream.note(Thought("check", f"{words.task.decode(line)}\n", line, stream.depth))

    def _open_slots(self, fresh: list[_Open]) -> None:
        """An account at the present state of each stream: of what a step may be, `no` is none."""
        if fresh:
            starts = np.array([stream.path[-1].node for stream in fresh], np.int32)
            slots = self._sampler.open(starts, np.array([stream.noise for stream in fresh], np.uint64))
            self._sampler.leave_out(slots, [(self._words.no,)] * len(fresh))
            for stream, slot in zip(fresh, slots.tolist(), strict=True):
                stream.path[-1].slot = slot

    def _extended(self, nodes: list[int], tokens: list[int]) -> list[int]:
        if not nodes:
            return []
        return self._trie.extend(np.array(nodes, np.int32), np.array(tokens, np.int32), with_values=False).tolist()


def _closed(stream: _Open, checks: bool) -> Stream:
    assert stream.end is not None, "a stream that goes on is not closed"
    chain = tuple(state.step for state in stream.path[1:] if state.step is not None)
    sure = min((state.sure for state in stream.path[1:]), default=0.5) if checks else stream.sure
    return Stream(tuple(stream.thoughts), chain, stream.end, sure)
