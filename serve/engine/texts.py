"""Texts that the plain policy continues together, a token of each a turn, and what of them may be told before their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from models.trie.continuing import Continuations, Continued
from models.trie.trie import NotFiniteError, TrieError
from serve.engine.ticket import Answered, Continue, Piece, Ticket, Written
from solve.lanes import FULL
from solve.solver import Solver

HALF = "\N{REPLACEMENT CHARACTER}"  # a letter of which some bytes are still to come


@dataclass(slots=True)
class _Text:
    """A prompt, what is written behind it, and how much of that has been told."""

    prompt: tuple[int, ...]
    made: Continued
    offsets: list[int] = field(default_factory=list)  # characters before each token
    length: int = 0  # of all that is written
    tokens: int = 0
    told: str = ""


class TextGroup:
    """Prompts that the plain policy continues."""

    def __init__(self, solver: Solver):
        """Raises PolicyError: the policy is on a server."""
        self.tickets: dict[int, Ticket] = {}
        self._texts: dict[int, _Text] = {}
        self._made: Continuations = solver.shelved.policy.continuations(solver.shelved.task)
        self._next = 0

    def takes(self, ticket: Ticket) -> bool:
        return isinstance(ticket.asked, Continue) and self._made.trie.n_nodes <= FULL

    def join(self, ticket: Ticket) -> None:
        asked = cast(Continue, ticket.asked)
        prompt = self._made.encode(asked.prompt) if isinstance(asked.prompt, str) else list(asked.prompt)
        made = self._made.join(prompt, temperature=asked.temperature, seed=asked.seed, top=asked.top)
        place, self._next = self._next, self._next + 1
        self.tickets[place], self._texts[place] = ticket, _Text(tuple(prompt), made)

    def leave(self, place: int) -> None:
        del self.tickets[place], self._texts[place]

    def turn(self, over: Callable[[], bool]) -> int:
        """One token of each. Where one of them outgrows the model's positions they go on one by one, and that one fails."""
        try:
            self._made.turn([text.made for text in self._texts.values()])
        except (TrieError, NotFiniteError):
            for place, text in list(self._texts.items()):
                try:
                    self._made.turn([text.made])
                except (TrieError, NotFiniteError) as error:
                    ticket = self.tickets[place]
                    self.leave(place)
                    if ticket.future.set_running_or_notify_cancel():
                        ticket.future.set_exception(error)
        return len(self._texts)

    def results(self) -> list[tuple[Ticket, Answered | Written]]:
        found: list[tuple[Ticket, Answered | Written]] = []
        for place, ticket in list(self.tickets.items()):
            text, asked = self._texts[place], cast(Continue, ticket.asked)
            written = self._written(text, asked, late=ticket.late)
            if written is not None:
                found.append((ticket, written))
                self.leave(place)
            elif ticket.heard is not None and (piece := self._piece(text, asked.stops)) is not None:
                ticket.heard(piece)
        return found

    def _written(self, text: _Text, asked: Continue, *, late: bool) -> Written | None:
        """What has been written, if that is all; a token that closes the text is not shown. Asked once a token."""
        tokens, decode = text.made.tokens, self._made.decode
        closed = tokens[-1] in self._made.ends
        kept = len(tokens) - closed
        whole = decode(tokens[:kept])
        text.offsets.append(text.length)
        text.length = len(whole)
        stop = min((at for word in asked.stops if (at := whole.find(word)) >= 0), default=-1)
        if not closed and stop < 0 and len(tokens) < asked.at_most and not late:
            return None
        return Written(
            whole[:stop] if stop >= 0 else whole,
            text.prompt,
            *self._told(text, 0, kept),
            ended=closed or stop >= 0,
        )

    def _piece(self, text: _Text, stops: Sequence[str]) -> Piece | None:
        """Whole tokens behind those that were told, whose text no stop and no further byte can change; None: there is none."""
        tokens, decode = text.made.tokens, self._made.decode
        whole = decode(tokens)
        safe = len(whole.rstrip(HALF)) - _begun(whole.rstrip(HALF), stops)
        last, told = text.tokens, text.told
        for end in range(text.tokens + 1, len(tokens) + 1):
            so_far = decode(tokens[:end])
            if len(so_far) > safe:
                break
            if whole.startswith(so_far) and so_far.startswith(told):
                last, told = end, so_far
        if last == text.tokens:
            return None
        first, before = text.tokens, text.told
        text.tokens, text.told = last, told
        return Piece(told[len(before) :], text.prompt, *self._told(text, first, last), ended=False)

    def _told(self, text: _Text, first: int, last: int) -> tuple:
        """(ids, log-probabilities, best ones, texts, places in the text) of tokens `first` to `last`."""
        decode, made, some = self._made.decode, text.made, slice(first, last)
        best = tuple(tuple((decode([token]), logprob) for token, logprob in place) for place in made.best[some])
        texts = tuple(decode([token]) for token in made.tokens[some])
        return tuple(made.tokens[some]), tuple(made.logprobs[some]), best, texts, tuple(text.offsets[some])


def _begun(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of a text with which one of `stops` begins."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
