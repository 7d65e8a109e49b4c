"""One answer out of many chains, without gold: votes, value, visits, or votes times value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from solve.types import Chain, Workbench

Choose = Literal["votes", "value", "visits", "product"]
CHOICES: tuple[Choose, ...] = ("votes", "value", "visits", "product")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The answer of a problem. `share`: of all scores, in [0, 1]; where values choose, the value; 1 where a judge accepted."""

    chain: Chain | None  # the best chain with this answer; None: no chain has ended with one
    share: float
    agreeing: int  # chains with this answer
    judged: bool  # a judge in the loop accepted it

    @property
    def answer(self) -> str | None:
        return None if self.chain is None else self.chain.answer


NOTHING = Chosen(None, 0.0, 0, False)


def chosen(chains: Sequence[Chain], choose: Choose) -> Chosen:
    """The answer of highest score; ties go to the one found first.

    A chain that a judge accepted wins, and one that it refused never does. Scores of an answer: the sum of its chains' votes,
    visits, or votes x value ("product"); its best chain's value ("value", as in best-of-N).
    """
    accepted = [chain for chain in chains if chain.reward is not None and chain.reward >= 1]
    if accepted:
        return Chosen(accepted[0], 1.0, len(accepted), True)
    scores: dict[str, float] = {}
    best: dict[str, Chain] = {}
    counts: dict[str, int] = {}
    for chain in chains:
        if chain.answer is None or chain.reward is not None:
            continue
        own = _score(chain, choose)
        answer = chain.answer
        scores[answer] = max(scores.get(answer, 0.0), own) if choose == "value" else scores.get(answer, 0.0) + own
        counts[answer] = counts.get(answer, 0) + 1
        if answer not in best or own > _score(best[answer], choose):
            best[answer] = chain
    if not scores:
        return NOTHING
    winner = max(scores, key=scores.__getitem__)
    total = 1.0 if choose == "value" else sum(scores.values())
    return Chosen(best[winner], scores[winner] / total if total > 0 else 0.0, counts[winner], False)


def sureness(pick: Chosen, bench: Workbench) -> float:
    """What a confidence is fitted on, in [0, 1]: P(right) of the chosen chain where that is known, else the answer's share."""
    return pick.chain.value if pick.chain is not None and bench.knows_chains else pick.share


def _score(chain: Chain, choose: Choose) -> float:
    if choose == "votes":
        return chain.votes
    if choose == "visits":
        return float(chain.visits)
    return chain.value if choose == "value" else chain.votes * chain.value
