"""Streams, many at once: chains that judge themselves, go back and try again, decoded over one token trie.

Going back sets a pointer: the stream stands at the trie node of the state that it returns to, and nothing of what was given up
is left in its context. What is left at `yes` is therefore the visible chain. The memory of what was tried is the account that
`StepSampler` keeps at each state of the path: a step is drawn from the policy restricted to what was not drawn there before,
exactly (rule `distinct`). A verdict is written where the net is sure of it (rule `threshold`). No verifier is asked.

Much of a step follows from what is chosen in it: results, new states. Where the net itself gave that little probability, the
step is given up at once (rule `doubted`), and the next one drawn behind the same steps. Of what follows from a choice that was
refused before, the probability is that among what was not. This costs no forward, and sees what a verdict on meaning does not.

Of a task whose steps have checks, what follows in a step of low probability (rule `checked`) is worked out once more, its last
word first, or another way, in a context in which it does not stand. Where the two differ the step is given up, if the check is
the surer by far (rule `threshold`), and what the check came to is written in its stead (rule `mended`; without it, or where it
only confirms, the next most probable step, until one that was refused is the more probable). The check leaves nothing in the
context; its tokens are counted. Where no undo is left nothing is checked.

Where the last step says itself that it is not what the prompt asks, it is given up alike, and nothing is asked of the net: of
untaught nets this is the only verdict on an end, and it takes the step's word for its truth.

Of a task whose context shows the present state alone, a verdict is read behind the step that led to it, in the context that
the step was drawn in, and going back is the decoder's: to the state above with the most probable step not yet tried. A state
that stands in the path already leads nowhere new, and so does one that has nothing left, or a step that does not end; equal
states are one, and keep what was tried at them. Where no undo is left such a stream goes on as it can.

A round writes one line of every stream that goes on. Noise is keyed by (seed, problem id, sample, lines so far): a stream does
not depend on the others. Every token that stands in a stream is counted, whether or not the trie knew it.

Legend: A streams that go on, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.abilities import Step
from models.steps.history import digest
from models.steps.stream_checks import check, doubt, extended
from models.steps.stream_path import NO_SLOT, NOTHING, Open, State, Tried
from models.steps.stream_types import Planted, Rules, Stream, Thought
from models.steps.stream_words import StreamWords
from models.trie import sampling_kernels as kernels
from models.trie.sampling import StepSampler
from models.trie.trie import TokenTrie
from tasks.base import Problem
from tasks.streams import CHECKED, EFFORTS, UNDOS

AT_ONCE = 512  # streams that share a trie
LEAST = np.float32(-1e3)  # log-probability of a word that is allowed where the net would write none that is
VERDICT, DEPTH = range(2)  # what a line's own noise is for


def streams_at_once(words: StreamWords) -> int:
    """Streams that share a trie."""
    return AT_ONCE // 4 if words.form.markov else AT_ONCE


class StreamWave:
    """Streams that are decoded together, a line of each a round. Others may join between rounds: none depends on another."""

    def __init__(self, trie: TokenTrie, words: StreamWords, effort: int, rules: Rules, seed: int):
        """`trie`: nobody else's while the wave is used; it is cleared."""
        self._trie, self._words, self._rules, self._effort, self._seed = trie, words, rules, effort, seed
        self._most_undos = UNDOS[EFFORTS[effort]] if rules.undos is None else rules.undos
        self._checked = CHECKED[EFFORTS[effort]] if rules.checked is None else rules.checked
        trie.clear()
        self._sampler = StepSampler(
            trie,
            max_step_tokens=words.codec.max_step_tokens,
            temperature=rules.temperature or 1.0,
            ends=words.ends,
        )
        self._streams: list[Open] = []
        self._active: list[Open] = []

    @property
    def size(self) -> int:
        """Streams that have joined."""
        return len(self._streams)

    @property
    def room(self) -> int:
        """Streams that may still join."""
        return streams_at_once(self._words) - self.size

    @property
    def going(self) -> bool:
        """Whether a stream has not come to its end."""
        return bool(self._active)

    @property
    def prefilled_tokens(self) -> int:
        """Prompt tokens computed."""
        return self._trie.prefilled_tokens

    def join(self, jobs: Sequence[tuple[Problem, int, Planted]]) -> None:
        """Open the stream of each (problem, number of its sample, what it begins with).

        Raises:
            TrieError: a prompt does not fit the model's positions. Nothing has changed.
        """
        roots = self._trie.prefill([self._words.context(problem, self._effort) for problem, _, _ in jobs]).tolist()
        seeds = [digest(f"{self._seed}\0{problem.id}\0{sample}".encode()) for problem, sample, _ in jobs]
        made = [
            Open(problem, seed, [State(node, node, tried)], {node: tried})
            for (problem, _, _), seed, node, tried in zip(jobs, seeds, roots, [Tried() for _ in jobs], strict=True)
        ]
        self._streams += made
        self._active += made
        self._plant(made, [planted for _, _, planted in jobs])

    def stream(self, k: int) -> Stream | None:
        """The k-th stream that has joined; None: it goes on."""
        made = self._streams[k]
        return None if made.end is None else made.closed(checks=self._words.form.checked)

    def drop(self, k: int) -> None:
        """Write no more of the k-th stream that has joined: nobody waits for it."""
        self._streams[k].end = "tokens"
        self._active = [stream for stream in self._active if stream.end is None]

    def played(self) -> list[Stream]:
        """All of them, to their ends."""
        while self.going:
            self.round()
        return [made.closed(checks=self._words.form.checked) for made in self._streams]

    def tokens(self, k: int) -> int:
        """Written so far in the k-th stream that has joined."""
        return self._streams[k].tokens

    def _plant(self, made: list[Open], planted: Sequence[Planted]) -> None:
        """Bring each stream to where it is made to begin."""
        lines = [(*begun.steps, *((begun.tried,) if begun.tried else ())) for begun in planted]
        for depth in range(max(map(len, lines), default=0)):
            some = [i for i, line in enumerate(lines) if len(line) > depth]
            if self._rules.distinct:
                self._open_slots([made[i] for i in some])
                slots = np.array([made[i].path[-1].tried.slot for i in some], np.int32)
                self._sampler.leave_out(slots, [lines[i][depth].tokens or () for i in some])
            standing = [i for i in some if len(planted[i].steps) > depth]
            self._stand([made[i] for i in standing], [lines[i][depth] for i in standing])
        if self._words.form.checked:
            self._check([stream for stream in made if stream.depth])

    def _stand(self, made: list[Open], steps: list[Step]) -> None:
        """Put a step behind what stands in each stream."""
        nodes, logprobs = [stream.path[-1].node for stream in made], [0.0] * len(made)
        tokens = [step.tokens or () for step in steps]
        for k in range(max(map(len, tokens), default=0)):
            going = [i for i, line in enumerate(tokens) if len(line) > k]
            at, next_ones = [nodes[i] for i in going], [tokens[i][k] for i in going]
            gained = self._trie.logprobs_of(at, np.array(next_ones)[:, None])[:, 0].tolist()
            for i, node, logprob in zip(going, self._extended(at, next_ones), gained, strict=True):
                nodes[i] = node
                logprobs[i] += logprob
        self._arrive(made, nodes, steps, logprobs)

    def _arrive(self, made: list[Open], behind: list[int], steps: list[Step], logprobs: list[float]) -> None:
        """A step stands at the end of each path, read up to the nodes `behind`."""
        nodes, alone = behind, self._words.form.markov
        if alone:
            contexts = [
                self._words.context(stream.problem, self._effort, [*stream.steps, step.text])
                for stream, step in zip(made, steps, strict=True)
            ]
            nodes = self._trie.prefill(contexts).tolist()
        for stream, node, at, step, logprob in zip(made, nodes, behind, steps, logprobs, strict=True):
            tried = stream.seen.setdefault(node, Tried()) if alone else Tried()
            stream.path.append(State(node, at, tried, step, math.exp(logprob)))
            doubt(self._trie, self._words, self._rules, stream)
            meets = self._words.form.meets
            if meets and self._over(stream) and not meets(self._words.task.prompt(stream.problem), step.text):
                stream.path[-1].doubtful = True
            nowhere = tried.bound <= 0.0 or any(state.tried is tried for state in stream.path[:-1])
            if alone and nowhere and self._rules.distinct and stream.undos < self._most_undos:
                stream.path[-1].doubtful = True

    def round(self) -> None:
        """One more line of every stream that goes on."""
        active = self._active
        over = np.array([self._over(stream) for stream in active])
        if self._words.form.markov:
            accepted, refused = self._of_steps(active, over)
        else:
            refused = self._refused(active, over)
            accepted = over & ~refused
        self._go_back([stream for stream, no in zip(active, refused, strict=True) if no])
        self._accept([stream for stream, yes in zip(active, accepted, strict=True) if yes])
        self._step([s for s, yes, no in zip(active, accepted, refused, strict=True) if not yes and not no])
        for stream in active:
            if stream.end is None and self._rules.tokens is not None and stream.tokens >= self._rules.tokens:
                stream.end = "tokens"
        self._active = [stream for stream in active if stream.end is None]

    # ---- the verdict

    def _over(self, stream: Open) -> bool:
        """Whether nothing but a verdict can follow: the form of the last step says so, or the number of steps."""
        last = stream.path[-1].step
        return stream.depth == len(self._words.back) or (last is not None and self._words.form.ends(last.text))

    def _refused(self, active: list[Open], over: np.ndarray) -> np.ndarray:
        """bool [A]: whether each stream gives up what it stands at; where it is `over` bool [A], it writes `yes` otherwise."""
        words = self._words
        doubtful = np.array([stream.path[-1].doubtful for stream in active])
        if words.form.checked or words.form.wordless:
            return doubtful
        nodes = np.array([stream.path[-1].node for stream in active])
        if self._rules.threshold is None:
            said = self._written(active, nodes, [words.yes, words.no], VERDICT)
            if self._rules.early and not over.all():
                said = np.where(over, said, self._any_word(active, nodes))
            return doubtful | ((said == words.no) & (over | self._rules.early))
        yes, no = np.exp(self._trie.logprobs_of(nodes, np.array([words.yes, words.no])).astype(np.float64)).T
        sure = yes / np.maximum(no + yes, 1e-30)
        for stream, share in zip(active, sure.tolist(), strict=True):
            stream.sure = share
        refused = np.where(over, sure <= self._rules.threshold, (no > self._rules.threshold) & self._rules.early)
        return doubtful | refused

    def _of_steps(self, active: list[Open], over: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """bool [A] each: which streams write `yes`, and which give up what they stand at, said of the last step behind it."""
        words, threshold = self._words, self._rules.threshold
        nodes = [stream.path[-1].behind for stream in active]
        if threshold is None:
            said = self._written(active, nodes, [words.yes, words.no, words.on], VERDICT)
            yes, no = said == words.yes, said == words.no
        else:
            three = np.array([words.yes, words.no, words.on])
            rows = np.exp(self._trie.logprobs_of(nodes, three).astype(np.float64))
            shares = rows / np.maximum(rows.sum(1, keepdims=True), 1e-30)
            for stream, share in zip(active, shares[:, 0].tolist(), strict=True):
                stream.sure = share
            yes, no = (shares[:, :2] > threshold).T
        stepped = np.array([stream.depth > 0 for stream in active])
        doubtful = np.array([stream.path[-1].doubtful for stream in active])
        spare = np.array([stream.undos < self._most_undos for stream in active]) | (self._most_undos == 0)
        accepted = yes & stepped & ~doubtful
        return accepted, ~accepted & (doubtful | over | (no & stepped & spare & self._rules.early))

    def _go_back(self, refused: list[Open]) -> None:
        words, form = self._words, self._words.form
        for stream in refused:
            if stream.undos >= self._most_undos:
                stream.end = "no"
                stream.note(Thought("undo", "no\n", (words.no,), stream.depth))
        going = [stream for stream in refused if stream.end is None]
        if form.markov or form.wordless:
            self._go_up(going)
        elif going:
            self._go_as_written(going)

    def _go_as_written(self, going: list[Open]) -> None:
        """Back to where the net says."""
        words = self._words
        nodes = self._extended([stream.path[-1].node for stream in going], [words.no] * len(going))
        depths = np.arange(-1, len(words.back))  # -1: `stop`
        allowed = depths < np.array([stream.depth for stream in going])[:, None]
        written = self._written(going, nodes, [words.stop, *words.back.tolist()], DEPTH, allowed)
        for stream, word in zip(going, written.tolist(), strict=True):
            back = None if word == words.stop else int(np.flatnonzero(words.back == word)[0])
            if stream.path[-1].doubtful or (back is not None and self._rules.back != "net"):
                back = 0 if self._rules.back == "root" else stream.depth - 1
            if back is None:
                stream.note(Thought("undo", words.form.back(None), (words.no, word), stream.depth))
                stream.end = "stop"
            else:
                self._undo(stream, back)

    def _go_up(self, going: list[Open]) -> None:
        """Back where the net says not how far: to the most probable step left untried, or to the one worked out anew."""
        for stream in going:
            last, checked = stream.depth - 1, self._words.form.checked
            above = {"net": last if checked else stream.most_probable(), "last": last, "root": 0}[self._rules.back]
            if above is None or (self._words.form.markov and above == 0 and stream.path[0].tried.bound <= 0.0):
                stream.end = "exhausted"
                continue
            self._undo(stream, above)
            if self._rules.back == "root":
                stream.seen = {stream.path[0].node: stream.path[0].tried}

    def _undo(self, stream: Open, back: int, depth: int | None = None) -> None:
        """Write that a stream goes back from `depth` (None: from where it stands), and do it."""
        line, depth = (self._words.no, int(self._words.back[back])), stream.depth if depth is None else depth
        stream.note(Thought("undo", self._words.form.back(back), line, depth, back))
        stream.undos += 1
        del stream.path[back + 1 :]

    def _accept(self, accepted: list[Open]) -> None:
        for stream in accepted:
            stream.note(Thought("check", "yes\n", (self._words.yes,), stream.depth))
            stream.end = "yes"

    def _written(
        self,
        active: list[Open],
        nodes: Sequence[int] | np.ndarray,
        words: list[int],
        noise: int,
        allowed: np.ndarray | None = None,
    ) -> np.ndarray:
        """int32 [A]: one of `words` [K] after each of `nodes`; `allowed`: bool [A, K], None: any."""
        order = np.argsort(words)
        some = np.array(words)[order]
        rows = np.maximum(self._trie.logprobs_of(nodes, some), LEAST)
        if allowed is not None:
            rows[~allowed[:, order]] = -np.inf
        return self._sampled(active, rows, some[None].astype(np.int32), noise)

    def _any_word(self, active: list[Open], nodes: np.ndarray) -> np.ndarray:
        """int32 [A]: one word after each of `nodes`, whatever it is."""
        choices = self._trie.choices[nodes] if self._trie.forward.keeps_some else self._trie.choices
        return self._sampled(active, self._trie.logprobs[nodes], choices, VERDICT)

    def _sampled(self, active: list[Open], rows: np.ndarray, choices: np.ndarray, noise: int) -> np.ndarray:
        tokens, gained = np.empty(len(active), np.int32), np.empty(len(active))
        seeds = np.array([stream.noise for stream in active], np.uint64)
        places, at = np.arange(len(active), dtype=np.int32), np.full(len(active), noise, np.int64)
        kernels.sample_tokens(rows, choices, places, seeds, at, self._rules.temperature, tokens, gained)
        return tokens

    # ---- a step

    def _step(self, going: list[Open]) -> None:
        going = self._unsettled(going)
        if not going:
            return
        self._open_slots([s for s in going if s.path[-1].tried.slot == NO_SLOT or not self._rules.distinct])
        slots = np.array([stream.path[-1].tried.slot for stream in going], np.int32)
        drawn = self._sampler.draw(slots, 1, "sample" if self._rules.temperature else "best")
        moved, steps, parents, lasts, logprobs = [], [], [], [], []
        markov = self._words.form.markov
        bounds = np.exp(drawn.best_unseen_logprob).tolist()
        for stream, first, last, bound in zip(
            going, drawn.offsets[:-1].tolist(), drawn.offsets[1:].tolist(), bounds, strict=True
        ):
            stream.path[-1].tried.bound = bound
            if first == last:
                stream.path[-1].doubtful = markov and stream.depth > 0
                stream.end = None if stream.path[-1].doubtful else "exhausted"
                continue
            tokens = tuple(drawn.tokens[first, : drawn.lengths[first]].tolist())
            if tokens == (self._words.yes,):
                self._accept([stream])
                continue
            finished = bool(drawn.finished[first] and self._words.whole[tokens[-1]])  # not a verdict in a step
            text = self._words.codec.step(tokens, finished)
            stream.note(Thought(self._words.form.kind(text), text, tokens, stream.depth))
            if not finished:
                if markov and stream.undos < self._most_undos:
                    self._undo(stream, stream.depth, stream.depth + 1)
                else:
                    stream.end = "broken"
                continue
            moved.append(stream)
            steps.append(Step(text, tokens))
            parents.append(int(drawn.parent_nodes[first]))
            lasts.append(tokens[-1])
            logprobs.append(float(drawn.logprobs[first]))
        self._arrive(moved, self._extended(parents, lasts), steps, logprobs)
        if self._words.form.checked:
            self._check(moved)

    def _unsettled(self, going: list[Open]) -> list[Open]:
        """Those that draw a step. The others take what a check came to, or one that it refused and that nothing left beats."""
        settled, rest = [], []
        for stream in going:
            best = stream.path[-1].tried.best
            (settled if best.sure > (0.0 if best.now else stream.path[-1].tried.bound) else rest).append(stream)
        kept = [stream.path[-1].tried.best for stream in settled]
        steps = [best.step for best in kept]
        for stream, step in zip(settled, steps, strict=True):
            stream.path[-1].tried.best = NOTHING
            stream.note(Thought(self._words.form.kind(step.text), step.text, step.tokens or (), stream.depth))
        self._stand(settled, steps)
        for stream, best in zip(settled, kept, strict=True):
            stream.path[-1].sure = best.sure
        return rest

    def _check(self, made: list[Open]) -> None:
        """Work out once more what follows in the last step of each stream that is not sure of it."""
        spare = [s for s in made if s.undos < self._most_undos or self._most_undos == 0]
        check(self._trie, self._words, self._rules, [s for s in spare if s.path[-1].sure < self._checked])

    def _open_slots(self, fresh: list[Open]) -> None:
        """An account at the present state of each stream: of what a step may be, `no` is none."""
        if fresh:
            starts = np.array([stream.path[-1].node for stream in fresh], np.int32)
            slots = self._sampler.open(starts, np.array([stream.noise for stream in fresh], np.uint64))
            for word in self._words.aside:
                self._sampler.leave_out(slots, [(word,)] * len(fresh))
            for stream, slot in zip(fresh, slots.tolist(), strict=True):
                stream.path[-1].tried.slot = slot

    def _extended(self, nodes: list[int], tokens: list[int]) -> list[int]:
        return extended(self._trie, nodes, tokens)
