"""The ways to answer a problem, by name: how chains are searched for, and how one answer is chosen among them.

A judge in the loop makes the choice; without one it is made by `choose`, see `solve.answers`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, get_args, get_type_hints

import mcts
from kit.command import settings
from models.policy import Policy
from solve.answers import Choose
from solve.search.beam import Beam
from solve.search.samples import Samples
from solve.search.think import Think, has_streams
from solve.search.tree import Tree
from solve.types import SolveError, Strategy
from tasks.base import Task


@dataclass(frozen=True, slots=True)
class Way:
    """A strategy under its name."""

    search: Strategy
    choose: Choose
    about: str  # one line
    needs: frozenset[str] = frozenset()  # fields of `models.abilities.Abilities` without which it is another strategy

    def check(self, name: str, policy: Policy) -> None:
        """Refuse a policy that cannot do what the strategy needs.

        Raises:
            SolveError: one line that names a strategy which the policy can serve.
        """
        lacking = sorted(need for need in self.needs if not getattr(policy.can, need))
        if lacking:
            gives = ", ".join(LACKS[need] for need in lacking)
            raise SolveError(
                f"strategy {name} cannot be served by {policy.name}, which {gives}: use {INSTEAD[lacking[0]]}"
            )

    def chooses(self, trust_value: bool) -> Choose:
        """How an answer is chosen: a value that is not trusted chooses nothing, votes do."""
        return self.choose if trust_value or self.choose != "value" else "votes"


def ways(task: Task) -> dict[str, Way]:
    """Every strategy, with settings that suit `task`."""
    discount = task.discount if task.reversible else 1.0
    per_token = (discount if discount < 1.0 else PHS_DISCOUNT) ** (1.0 / task.max_step_tokens)
    return dict(_ways(task.reversible, discount, per_token, task.form.free, task.one_answer, has_streams(task)))


@lru_cache(maxsize=16)  # a server asks with every request
def _ways(
    reversible: bool, discount: float, per_token: float, free: bool, one_answer: bool, streams: bool
) -> dict[str, Way]:
    levin = mcts.BestFirst(value_weight=0.0, lam=1.0, cost="tokens")
    order = mcts.BestFirst(value_weight=0.0, lam=1.0, cost="none", rollout=not reversible)
    if reversible:  # a value that falls with distance tells how far it is; see docs/results/budget.md
        led: mcts.Rule = mcts.PHS(lam=1.0, cost="depth", discount=discount)
    else:
        led = mcts.BestFirst(value_weight=1.0, lam=1.0, cost="none", rollout=True, park=0.5)
    wave = FREE_WAVE if free else 1
    together: Choose = "product" if one_answer else "value"  # where many answers are right, agreeing proves little
    lead = frozenset({"logprobs"})  # an order by estimates of a few draws would be another strategy
    found = {
        "greedy": Way(Samples(0.0), "votes", "the most probable token, again and again"),
        "best_of_n": Way(
            Samples(), "value", "independent samples; the one that the judge accepts, or of highest value"
        ),
        "self_consistency": Way(Samples(), "votes", "independent samples vote (Wang et al. 2022)"),
        "weighted_vote": Way(Samples(), "product", "independent samples vote with their values", frozenset({"values"})),
        "unique": Way(
            Tree(mcts.Proportional(), merge=False), "votes", "samples without replacement (UniqueRandomizer)"
        ),
        "unique_merged": Way(Tree(mcts.Proportional()), "votes", "the same over the graph of states"),
        "beam": Way(Beam(), together, "step-level beam search by value", lead),
        "dvts": Way(Beam(subtrees=True), together, "independent beams of one (diverse verifier tree search)", lead),
        "puct": Way(Tree(mcts.PUCT(n_candidates=4, discount=discount), merge=False), together, "AlphaZero's search"),
        "graph": Way(
            Tree(mcts.PUCT(n_candidates=1, widen_c=1.0, discount=discount)), together, "PUCT over the graph of states"
        ),
        "puct_rollout": Way(
            Tree(mcts.PUCT(n_candidates=1, widen_c=1.0, discount=discount, rollout=True)),
            together,
            "PUCT over the graph, every new step played out to the end",
        ),
        "gumbel": Way(
            Tree(mcts.Gumbel(n_candidates=4, discount=discount)), together, "sequential halving at the root", lead
        ),
        "levin": Way(
            Tree(levin),
            "votes",
            "Levin tree search, tokens as the cost",
            lead | {"without_replacement"},  # its order is by a bound that a step drawn again does not give
        ),
        "phs": Way(
            Tree(mcts.PHS(lam=1.0, cost="tokens", discount=per_token), blind=levin),
            together,
            "PHS*, tokens as the cost",
            frozenset({"values"}) | lead,
        ),
        "best_first": Way(
            Tree(led, blind=order, wave=wave),
            together,
            "the most probable untried step first, by policy and value",
            lead,
        ),
    }
    found["best_first_blind"] = Way(
        Tree(order, wave=wave), "votes", "the same by the policy alone, whatever is known of the value", lead
    )
    found[SELFPLAY] = Way(
        Tree(
            mcts.BestFirst(n_candidates=4, draw="sample", discount=discount, rollout=not reversible),
            go_on=True,
            wave=4,
        ),
        together,
        "best first over sampled steps, which goes on after a solution: what makes self-play's experience",
        lead,
    )
    if streams:
        found[THINK] = Way(
            Think(), "product", "one stream that judges itself, goes back and tries again", frozenset({"streams"})
        )
    if reversible:
        found["best_of_n_fresh"] = Way(
            Samples(no_reentry=True),
            "value",
            "samples that never re-enter a state",
            frozenset({"without_replacement"}),
        )
    return found


SELFPLAY, THINK = "selfplay", "think"
FREE_WAVE = 8  # leaves of a question in free text at once: a language model computes them in little more time than one
LACKS = {  # what a policy without an ability does
    "logprobs": "reports no log-probabilities",
    "values": "gives no values",
    "without_replacement": "cannot draw without replacement",
    "streams": "writes no streams",
}
INSTEAD = {  # what it can serve
    "logprobs": "greedy, best_of_n, self_consistency, unique or puct",
    "values": "self_consistency or puct",
    "without_replacement": "best_of_n",
    "streams": "best_first",
}
FIXED = ("rule", "blind", "sized")  # what makes a strategy, not to be set
WIDE, MOST_AT_ONCE = ("candidates", "width"), 1024  # settings that multiply what one expansion pays
PHS_DISCOUNT = 0.5  # a step, where values are not discounted: PHS* then takes a value of 1/2 for one step to go


def way(name: str, task: Task) -> Way:
    """A strategy by its name, with settings of its search or rule behind a colon: "best_of_n:temperature=0.5".

    Raises:
        SolveError: there is none of this name for the task, or it has no such setting.
    """
    if not isinstance(name, str):
        raise SolveError(f"strategy={name!r}: give the name of one")
    base, _, changes = name.partition(":")
    known = ways(task)
    if base == THINK and base not in known:
        raise SolveError(
            "strategy think: the net was not taught to think: give one that was (selfplay.mode=stream), or use best_first"
        )
    if base not in known:
        raise SolveError(f"unknown strategy {base!r}: use one of {', '.join(known)}")
    chosen = known[base]
    for setting in filter(None, changes.split(",")):
        key, _, text = setting.partition("=")
        chosen = replace(chosen, search=_with(chosen.search, base, key.strip(), text.strip()))
    return chosen


def _with(search: Any, name: str, key: str, text: str) -> Any:
    """`search` with one of its own settings, or one of its rule's, changed."""
    owners = [search, *([search.rule] if isinstance(search, Tree) else [])]
    defaults = [{f.name: getattr(owner, f.name) for f in fields(owner) if f.name not in FIXED} for owner in owners]
    owner = next((owner for owner, known in zip(owners, defaults, strict=True) if key in known), None)
    if owner is None:
        names = ", ".join(name for known in defaults for name in known)
        raise SolveError(f"strategy {name} has no setting {key!r}: use one of {names}")
    unset = getattr(owner, key) is None
    try:
        value = None if unset and text == "null" else settings([f"{key}={text}"], {key: _default(owner, key)})[key]
        if value != value or (key.endswith(WIDE) and value is not None and not 1 <= value <= MOST_AT_ONCE):
            raise ValueError(f"a number, of candidates and beams 1 to {MOST_AT_ONCE}")
        changed = replace(owner, **{key: value})
    except ValueError as error:
        raise SolveError(f"strategy {name}: {key}={text!r} cannot be ({error})") from None
    return changed if owner is search else replace(search, rule=changed)


def _default(owner: Any, key: str) -> Any:
    """What a setting is, or where it is null and no whole number, something of its type."""
    kinds = {float: 0.0, str: ""}
    unset = [kind for kind in get_args(get_type_hints(type(owner))[key]) if kind in kinds]
    return kinds[unset[0]] if getattr(owner, key) is None and unset else getattr(owner, key)
