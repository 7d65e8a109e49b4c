"""Steps are drawn without replacement, with the right frequencies, log-probabilities and bookkeeping."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from models.trie.sampling import DrawnSteps, StepSampler
from models.trie.trie import TokenTrie
from tests.models.fakes import TableForward, every_step

V, LONGEST, DRAWS = 6, 3, 12_000


@pytest.fixture
def trie() -> TokenTrie:
    return TokenTrie(TableForward(V))


def steps_of(drawn: DrawnSteps, start: int = 0) -> list[tuple[int, ...]]:
    rows = range(drawn.offsets[start], drawn.offsets[start + 1])
    return [tuple(drawn.tokens[row, : drawn.lengths[row]].tolist()) for row in rows]


def inclusion_probabilities(masses: np.ndarray, k: int) -> np.ndarray:
    """P(item among the first k) when drawing in proportion to mass without replacement, by summing over all orders."""
    included = np.zeros(len(masses))
    for order in itertools.permutations(range(len(masses)), k):
        probability, left = 1.0, masses.sum()
        for item in order:
            probability *= masses[item] / left
            left -= masses[item]
        included[list(order)] += probability
    return included


@pytest.mark.parametrize("rounds", [(3,), (1, 1, 1), (2, 1)])
def test_inclusion_frequencies_are_those_of_sampling_without_replacement(trie, rounds):
    start = trie.prefill([[1, 4]])
    steps = every_step(trie, int(start[0]), LONGEST)
    exact = inclusion_probabilities(np.exp(list(steps.values())), sum(rounds))
    sampler = StepSampler(trie, max_step_tokens=LONGEST, prune_logprob=-50.0)
    slots = sampler.open(np.repeat(start, DRAWS), np.arange(DRAWS))
    counts = dict.fromkeys(steps, 0)
    for k in rounds:
        drawn = sampler.draw(slots, k)
        for tokens, length in zip(drawn.tokens.tolist(), drawn.lengths.tolist(), strict=True):
            counts[tuple(tokens[:length])] += 1
    error = np.array(list(counts.values())) / DRAWS - exact
    assert (abs(error) < 4.5 * np.sqrt(exact * (1 - exact) / DRAWS)).all()


def test_temperature_shapes_the_draw_but_not_the_logprobs(trie):
    start = trie.prefill([[1, 4]])
    steps = every_step(trie, int(start[0]), LONGEST)
    sampler = StepSampler(trie, max_step_tokens=LONGEST, temperature=2.0, prune_logprob=-50.0)
    drawn = sampler.draw(sampler.open(np.repeat(start, DRAWS), np.arange(DRAWS)), 1)
    found = [tuple(tokens[:n]) for tokens, n in zip(drawn.tokens.tolist(), drawn.lengths.tolist(), strict=True)]
    np.testing.assert_allclose(drawn.logprobs, [steps[step] for step in found], atol=1e-6)
    root = np.exp(trie.logprobs[start[0]] / 2.0)
    for token in range(3, V):
        exact = root[token] / root.sum()
        frequency = np.mean([step[0] == token for step in found])
        assert abs(frequency - exact) < 4.5 * math.sqrt(exact * (1 - exact) / DRAWS)


@pytest.mark.parametrize("draws", [["sample"], ["best"], ["sample", "best"]])
@pytest.mark.parametrize("k", [1, 4])
def test_every_step_is_handed_out_once_with_its_exact_logprob_and_mass(trie, draws, k):
    start = trie.prefill([[1, 5]])
    steps = every_step(trie, int(start[0]), LONGEST)
    sampler = StepSampler(trie, max_step_tokens=LONGEST, prune_logprob=-50.0)
    slot = sampler.open(start, np.array([7]))
    unseen = dict(steps)
    for draw in itertools.cycle(draws):
        drawn = sampler.draw(slot, k, draw)
        for row, step in enumerate(steps_of(drawn)):
            assert drawn.logprobs[row] == pytest.approx(unseen.pop(step), abs=1e-5)
            assert drawn.finished[row] == (step[-1] == 3)
            assert trie.tokens[trie.path(drawn.parent_nodes[row])].tolist() == [1, 5, *step[:-1]]
        if not unseen:
            break
        assert len(drawn.lengths) == k
        assert np.exp(drawn.unseen_logmass[0]) == pytest.approx(np.exp(list(unseen.values())).sum(), abs=1e-6)
        assert drawn.best_unseen_logprob[0] >= max(unseen.values()) - 1e-5
    assert drawn.unseen_logmass[0] == drawn.best_unseen_logprob[0] == -np.inf
    assert steps_of(sampler.draw(slot, k)) == steps_of(sampler.draw(slot, k, "best")) == []


@pytest.mark.parametrize("lengths", [(1, 1), (2, 3), (3, 1)])
def test_what_is_left_out_counts_as_drawn(trie, lengths):
    starts = trie.prefill([[1, 4], [1, 5]])
    sampler = StepSampler(trie, max_step_tokens=LONGEST, prune_logprob=-50.0)
    slots = sampler.open(starts, np.array([7, 8], np.uint64))
    every = [every_step(trie, int(start), LONGEST) for start in starts]
    gone = [next(step for step in steps if len(step) == n) for steps, n in zip(every, lengths, strict=True)]
    sampler.leave_out(slots, gone)
    drawn = sampler.draw(slots, 200)
    for i, steps in enumerate(every):
        assert set(steps_of(drawn, i)) == set(steps) - {gone[i]}
        assert drawn.unseen_logmass[i] == -np.inf


def test_what_is_left_is_drawn_in_proportion_to_its_mass(trie):
    start = trie.prefill([[1, 4]])
    steps = every_step(trie, int(start[0]), LONGEST)
    gone = max(steps, key=lambda step: (len(step) == 2) * math.exp(steps[step]))
    sampler = StepSampler(trie, max_step_tokens=LONGEST, prune_logprob=-50.0)
    slots = sampler.open(np.repeat(start, DRAWS), np.arange(DRAWS))
    sampler.leave_out(slots, [gone] * DRAWS)
    drawn = sampler.draw(slots, 1)
    found = [tuple(tokens[:n]) for tokens, n in zip(drawn.tokens.tolist(), drawn.lengths.tolist(), strict=True)]
    left = 1 - math.exp(steps.pop(gone))
    for step, logprob in steps.items():
        exact = math.exp(logprob) / left
        assert abs(found.count(step) / DRAWS - exact) < 4.5 * math.sqrt(exact * (1 - exact) / DRAWS)


def test_best_first_begins_with_the_greedy_step(trie):
    start = trie.prefill([[1, 4], [1, 5]])
    sampler = StepSampler(trie, max_step_tokens=LONGEST)
    drawn = sampler.draw(sampler.open(start, np.zeros(2, np.uint64)), 1, "best")
    for i, node in enumerate(start):
        (step,) = steps_of(drawn, i)
        for token in step:
            assert token == trie.logprobs[node].argmax()
            if token != step[-1]:
                node = trie.extend(np.array([node]), np.array([token]))[0]


def test_best_first_takes_up_the_most_probable_untaken_prefix(trie):
    start = trie.prefill([[1, 4]])
    steps = every_step(trie, int(start[0]), LONGEST)
    sampler = StepSampler(trie, max_step_tokens=LONGEST)
    slot = sampler.open(start, np.array([0]))
    seen: list[tuple[int, ...]] = []
    for _ in range(8):
        taken = {step[:n] for step in seen for n in range(len(step) + 1)}
        untaken = {step[:n] for step in steps for n in range(1, len(step) + 1)} - taken
        mass = {p: np.logaddexp.reduce([lp for s, lp in steps.items() if s[: len(p)] == p]) for p in untaken}
        best = max(mass, key=mass.get)
        (step,) = steps_of(drawn := sampler.draw(slot, 1, "best"))
        assert step[: len(best)] == best
        assert drawn.new_tokens[0] == drawn.leaf_tokens[0] == len(step) - len(best) + 1
        seen.append(step)


@pytest.mark.parametrize("draw", ["sample", "best"])
def test_batch_mates_do_not_change_what_is_drawn(draw):
    prompts, seeds = [[1, 4], [1, 5], [1, 4, 4], [1, 5]], np.array([3, 3, 4, 9])

    def drawn_at(chosen: list[int]) -> list[list[tuple]]:
        trie = TokenTrie(TableForward(V))
        sampler = StepSampler(trie, max_step_tokens=LONGEST)
        slots = sampler.open(trie.prefill([prompts[i] for i in chosen]), seeds[chosen])
        found: list[list[tuple]] = [[] for _ in chosen]
        for k in (2, 3):
            drawn = sampler.draw(slots, k, draw)
            for i, lot in enumerate(found):
                rows = slice(drawn.offsets[i], drawn.offsets[i + 1])
                lot += [*steps_of(drawn, i), *drawn.logprobs[rows], *drawn.new_tokens[rows], drawn.leaf_tokens[i]]
        return found

    together = drawn_at([0, 1, 2, 3])
    assert [drawn_at([i])[0] for i in range(4)] == together
    assert drawn_at([3, 1, 0, 2]) == [together[i] for i in (3, 1, 0, 2)]


def test_other_seeds_draw_other_steps(trie):
    sampler = StepSampler(trie, max_step_tokens=LONGEST)
    drawn = sampler.draw(sampler.open(np.repeat(trie.prefill([[1, 4]]), 40), np.arange(40)), 1)
    assert len({tuple(tokens) for tokens in drawn.tokens.tolist()}) > 3


def test_every_sampled_token_is_paid_once(trie):
    start = trie.prefill([[1, 4]])
    sampler = StepSampler(trie, max_step_tokens=LONGEST)
    slot = sampler.open(start, np.array([1]))
    before, paid, prefixes = trie.generated_tokens, 0, set()
    for k in (1, 4, 2, 3):
        drawn = sampler.draw(slot, k)
        prefixes |= {step[:n] for step in steps_of(drawn) for n in range(1, len(step) + 1)}
        paid += int(drawn.leaf_tokens[0])
        assert drawn.new_tokens.sum() <= drawn.leaf_tokens[0]
    complete = sum(step[-1] == 3 or len(step) == LONGEST for step in prefixes)
    assert paid >= len(prefixes)
    assert trie.generated_tokens - before >= len(prefixes) - complete  # a step's last token needs no forward
    assert trie.generated_tokens - before < paid


def test_a_token_below_the_pruning_limit_is_never_drawn_and_its_mass_stays_unseen():
    trie = TokenTrie(TableForward(V, logits={3: 0.0, 4: -1.0, 5: -20.0}))
    sampler = StepSampler(trie, max_step_tokens=1)
    for draw in ("sample", "best"):
        drawn = sampler.draw(sampler.open(trie.prefill([[1]]), np.array([0])), 5, draw)
        assert sorted(steps_of(drawn)) == [(3,), (4,)]
        assert drawn.unseen_logmass[0] == -np.inf


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": math.nan}, {"max_step_tokens": 0}])
def test_settings_that_cannot_be_met_are_refused(trie, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StepSampler(trie, **{"max_step_tokens": LONGEST, **settings})


@pytest.mark.parametrize("draw", ["sample", "best"])
def test_a_wave_that_does_not_fit_the_batch_is_drawn_the_same(draw):
    def drawn(batch_rows: int) -> list:
        forward = TableForward(V, newline_bonus=1.0)
        forward.batch_rows = batch_rows
        trie = TokenTrie(forward)
        prompts = [[1, *range(4, 4 + n)] for n in (3, 1, 5, 2, 4, 6, 1)]
        sampler = StepSampler(trie, max_step_tokens=5)
        slots = sampler.open(trie.prefill(prompts), np.arange(7, dtype=np.uint64))
        waves = [sampler.draw(slots, 3, draw), sampler.draw(slots[::2], 2, draw)]
        return [
            getattr(wave, name).tolist()
            for wave in waves
            for name in ("offsets", "tokens", "lengths", "logprobs", "finished", "new_tokens", "leaf_tokens")
        ]

    whole = drawn(64)
    assert drawn(3) == whole
    assert drawn(7) == whole
