"""Searches that go on where they stopped: slices, limits, batch mates, and what each token of a tree is paid for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest
import torch

from models.files.calibration import ChainFit
from models.forward.choose import forward_for
from models.steps.codec import codec_of
from models.trie.trie import TokenTrie
from solve.strategies import way
from solve.types import NEVER, Search
from tasks.base import BOS_ID
from tests.models.fakes import chain_logprob
from tests.solve.shipped import bench, problems, searched, solver, started, task

LIMIT = 120
MORE = 400  # for Gumbel's search, whose root alone takes 120 and more
COUNT = 8
SLICED = ["best_first", "levin", "unique", "unique_merged", "puct", "greedy"]  # not sized by their limit
EVERY = [*SLICED, "best_of_n", "beam", "dvts", "graph", "gumbel", "phs"]


def found(search: Search, problem: int, within: int | None = None) -> list[tuple]:
    """The chains of a problem without their votes and visits, which grow as long as the search goes on."""
    return [(chain.steps, chain.answer, chain.tokens, chain.reward) for chain in search.chains(problem, within)]


def told(search: Search, asked: int = COUNT) -> list:
    """All that a search has found and paid, problem by problem."""
    return [
        (int(search.tokens[i]), int(search.simulations[i]), int(search.solved_at[i]), search.chains(i))
        for i in range(asked)
    ]


# ---------------------------------------------------------------------------------------------- slices and limits


@pytest.mark.parametrize("verify", ["task", "none"])
@pytest.mark.parametrize("strategy", SLICED)
def test_slices_find_what_one_go_finds(strategy, verify):
    asked = problems(COUNT)
    whole = searched(strategy, asked, LIMIT, bench(verify))
    parts = started(strategy, asked, LIMIT, bench(verify))
    for limit in (1, 7, 30, 31, 80, LIMIT):
        parts.advance(np.full(COUNT, limit))
    assert told(parts) == told(whole)


@pytest.mark.parametrize("strategy", SLICED)
def test_a_smaller_budget_finds_the_first_chains_of_a_larger_one(strategy):
    asked = problems(COUNT)
    large = searched(strategy, asked, LIMIT, bench("none"))
    small = searched(strategy, asked, LIMIT // 3, bench("none"))
    for i in range(COUNT):
        chains = found(small, i)
        assert chains == found(large, i)[: len(chains)]
        assert found(large, i, within=LIMIT // 3) == found(small, i, within=LIMIT // 3)
    assert any(len(small.chains(i)) < len(large.chains(i)) for i in range(COUNT)) or strategy == "greedy"


@pytest.mark.parametrize("strategy", EVERY)
def test_chains_are_told_in_the_order_in_which_they_were_paid(strategy):
    search = searched(strategy, problems(COUNT), LIMIT, bench("none"))
    for i in range(COUNT):
        chains = search.chains(i)
        paid = [chain.tokens for chain in chains]
        assert paid == sorted(paid)
        assert all(0 < tokens <= search.tokens[i] for tokens in paid)
        middle = int(search.tokens[i]) // 2
        assert search.chains(i, within=middle) == [chain for chain in chains if chain.tokens <= middle]


@pytest.mark.parametrize("strategy", ["best_first", "levin", "unique", "puct", "graph"])
@pytest.mark.parametrize("limit", [1, 20, 77])
def test_a_tree_passes_its_limit_by_one_wave_at_most(strategy, limit):
    search = searched(strategy, problems(COUNT), limit, bench("none"))
    rule = search.rule
    wave = max(rule.n_candidates, rule.root_candidates or 0) * task().max_step_tokens
    assert (search.tokens < limit + wave).all()
    assert ((search.tokens >= limit) | search.exhausted).all()


@pytest.mark.parametrize("strategy", ["beam", "dvts"])
@pytest.mark.parametrize("limit", [18, 72, 200])
def test_beams_are_sized_to_stay_within_their_limit(strategy, limit):
    search = searched(strategy, problems(COUNT), limit, bench("none"))
    assert (search.tokens > 0).all()
    assert (search.tokens <= limit).all()
    assert search.exhausted.all()  # every beam has come to its end


@pytest.mark.parametrize("strategy", EVERY)
def test_a_problem_without_a_limit_left_pays_nothing(strategy):
    search = started(strategy, problems(2), LIMIT, bench("none"))
    search.advance(np.array([0, LIMIT]))
    assert search.tokens[0] == 0
    assert search.tokens[1] > 0
    assert search.chains(0) == []


@pytest.mark.parametrize("strategy", ["best_first", "unique", "best_of_n", "beam"])
def test_simulations_are_a_limit_of_their_own(strategy):
    search = started(strategy, problems(4), LIMIT, bench("none"))
    search.advance(np.full(4, LIMIT), simulations=1)
    assert (search.simulations == 1).all()


@pytest.mark.parametrize("strategy", EVERY)
def test_no_seconds_buy_no_tokens(strategy):
    search = started(strategy, problems(2), LIMIT, bench("none"))
    search.advance(np.full(2, LIMIT), seconds=0.0)
    assert search.tokens.tolist() == [0, 0]


@pytest.mark.parametrize("strategy", EVERY)
def test_an_interrupted_search_stops_at_once(strategy):
    search = searched(strategy, problems(2), LIMIT, bench("none", interrupted=lambda: True))
    assert search.tokens.tolist() == [0, 0]
    assert search.chains(0) == []


@pytest.mark.parametrize("strategy", ["best_first", "unique"])
def test_an_interrupted_search_keeps_what_it_had(strategy):
    asked, calls = problems(COUNT), count()
    whole = searched(strategy, asked, LIMIT, bench("none"))
    cut = searched(strategy, asked, LIMIT, bench("none", interrupted=lambda: next(calls) >= 6))
    assert 0 < cut.tokens.sum() < whole.tokens.sum()
    assert any(cut.chains(i) for i in range(COUNT))
    for i in range(COUNT):
        assert found(cut, i) == found(whole, i)[: len(cut.chains(i))]


# ---------------------------------------------------------------------------------------------- judges and batch mates


@pytest.mark.parametrize("strategy", EVERY)
def test_without_a_judge_no_answer_has_a_reward_and_nothing_is_solved(strategy):
    search = searched(strategy, problems(COUNT), MORE, bench("none"))
    chains = [chain for i in range(COUNT) for chain in search.chains(i)]
    answers = [chain for chain in chains if chain.answer is not None]
    assert answers
    assert all(chain.reward is None for chain in answers)
    assert all(chain.reward == 0.0 for chain in chains if chain.answer is None)  # broke the rules
    assert (search.solved_at == NEVER).all()


@pytest.mark.parametrize("strategy", EVERY)
def test_with_a_judge_a_search_is_solved_by_its_first_right_chain(strategy):
    asked = problems(COUNT)
    search = searched(strategy, asked, MORE, bench("task"))
    assert (search.solved_at != NEVER).any()
    for i, problem in enumerate(asked):
        chains = search.chains(i)
        assert [chain.reward for chain in chains] == [task().verdict(problem, chain.steps).reward for chain in chains]
        assert search.solved_at[i] == min((chain.tokens for chain in chains if chain.reward == 1.0), default=NEVER)


@pytest.mark.parametrize("strategy", [name for name in EVERY if name != "best_of_n"])
def test_batch_mates_do_not_change_what_a_problem_finds(strategy):
    asked = problems(COUNT)
    together = searched(strategy, asked, LIMIT, bench("none"))
    for i in (0, COUNT - 1):
        alone = searched(strategy, asked[i : i + 1], LIMIT, bench("none"))
        assert told(alone, 1) == [told(together)[i]]


# ---------------------------------------------------------------------------------------------- what a token buys


@pytest.mark.parametrize("strategy", ["levin", "best_first"])
def test_a_tree_pays_each_distinct_prefix_of_its_steps_once(strategy):
    search = searched(strategy, problems(COUNT), 200, bench("none"))
    assert search.rule.draw == "best"
    prefixes: dict[int, set[tuple[int, ...]]] = defaultdict(set)  # by node that the step was drawn at
    for edge, handle in zip(search.store.edges, search.store.edge_handles.tolist(), strict=True):
        step = tuple(search.evaluator.step(handle).tokens)
        prefixes[int(edge["parent"])].update(step[:length] for length in range(1, len(step) + 1))
    paid = np.zeros(COUNT, np.int64)
    for node, distinct in prefixes.items():
        paid[search.store.nodes["tree"][node]] += len(distinct)
    assert search.tokens.tolist() == paid.tolist()


def test_independent_samples_pay_every_token_of_every_chain():
    search = searched("best_of_n", problems(COUNT), LIMIT, bench("none"))
    for i in range(COUNT):
        lengths = [sum(len(task().encode(step)) for step in chain.steps) for chain in search.chains(i)]
        assert [chain.tokens for chain in search.chains(i)] == np.cumsum(lengths).tolist()


@pytest.mark.parametrize("strategy", ["best_first", "unique"])
def test_distinct_chains_vote_with_the_mass_that_leads_to_them(strategy):
    search = searched(f"{strategy}:merge=false", problems(COUNT), 200, bench("none"))
    for i in range(COUNT):
        chains = search.chains(i)
        assert len({chain.steps for chain in chains}) == len(chains)
        assert sum(chain.votes for chain in chains) <= 1.0 + 1e-5


# ---------------------------------------------------------------------------------------------- the value head


@contextmanager
def other_values(bias: float) -> Iterator[None]:
    """The net with another opinion of every state."""
    head = solver().shelved.policy.model.value_head
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    try:
        with torch.no_grad():
            head.outer.weight.mul_(-3.0)
            head.outer.bias.add_(bias)
        yield
    finally:
        head.load_state_dict(before)


@pytest.mark.parametrize("bias", [0.0, -300.0])  # the second is sure of failure, to the last digit
@pytest.mark.parametrize("verify", ["task", "none"])
@pytest.mark.parametrize("strategy", EVERY)
def test_a_value_that_is_not_trusted_changes_nothing(strategy, verify, bias):
    asked = problems(4)
    before = told(searched(strategy, asked, LIMIT, bench(verify)), 4)
    with other_values(bias):
        assert told(searched(strategy, asked, LIMIT, bench(verify)), 4) == before


def test_a_value_that_is_trusted_changes_what_is_found():
    asked = problems(4)
    before = told(searched("best_first", asked, LIMIT, bench("none", trust_value=True)), 4)
    with other_values(0.0):
        assert told(searched("best_first", asked, LIMIT, bench("none", trust_value=True)), 4) != before


@pytest.mark.parametrize("strategy", [*EVERY, "best_of_n:temperature=0.5"])
def test_a_chain_is_worth_its_last_values_and_the_probability_of_its_last_step(strategy):
    asked, model, codec = problems(4), solver().shelved.policy.model, codec_of(solver().shelved.policy.model, task())
    fit = ChainFit(0.7, 0.4, -0.3, 0.6)
    search = searched(strategy, asked, MORE, bench("none", trust_value=True, chain_fit=fit))
    truth = TokenTrie(forward_for(model, codec.vocabulary_size, codec.masked))
    checked = 0
    for i, problem in enumerate(asked):
        for chain in search.chains(i):
            context = task().encode(task().context(problem, chain.steps[:-1]))
            value = float(truth.values[truth.prefill([[BOS_ID, *context]])[0]])
            last = task().encode(chain.steps[-1])
            logprob = chain_logprob(truth, context, last)
            ended = float(truth.values[truth.prefill([[BOS_ID, *context, *last]])[0]]) if chain.answer else 0.0
            assert chain.value == pytest.approx(fit.right(value, logprob, ended), abs=1e-3)
            checked += chain.answer is not None
    assert checked >= 4


@pytest.mark.parametrize("strategy", ["best_first", "best_of_n", "beam"])
def test_beside_a_judge_the_value_of_a_finished_chain_is_not_looked_at(strategy):
    asked = problems(4)
    one, other = (
        searched(strategy, asked, LIMIT, bench("task", trust_value=True, chain_fit=ChainFit(1.0, 0.5, 0.0, ended)))
        for ended in (0.0, 5.0)
    )
    assert told(one, 4) == told(other, 4)
    assert [c.value for i in range(4) for c in one.chains(i)] == [c.value for i in range(4) for c in other.chains(i)]


@pytest.mark.parametrize("strategy", ["best_first", "best_of_n", "beam"])
def test_without_a_fit_a_chain_is_worth_its_last_value_and_an_untrusted_one_tells_nothing(strategy):
    asked = problems(2)
    alone = searched(strategy, asked, LIMIT, bench("none", trust_value=True))
    same = searched(strategy, asked, LIMIT, bench("none", trust_value=True, chain_fit=ChainFit(1.0, 0.0, 0.0)))
    for i in range(2):
        values = [chain.value for chain in alone.chains(i)]
        assert [chain.value for chain in same.chains(i)] == pytest.approx(values, abs=2e-5)  # which a fit clips
    blind = searched(strategy, asked, LIMIT, bench("none", chain_fit=ChainFit(1.0, 1.0, 0.0)))
    assert {chain.value for i in range(2) for chain in blind.chains(i)} == {0.5}


@pytest.mark.parametrize("strategy", ["beam", "gumbel"])
def test_a_search_that_its_limit_sizes_says_so(strategy):
    assert way(strategy, task()).search.sized
    assert not any(way(name, task()).search.sized for name in SLICED)
