"""Streams write what a slow decoder writes, try nothing twice, come back to the very state that they left, and end."""

from __future__ import annotations

import numpy as np
import pytest

from models.abilities import PolicyError, Step
from models.local_policy import LocalPolicy
from models.steps.stream_types import Planted, Rules
from models.steps.stream_words import StreamWords, effort_number
from models.trie.trie import TokenTrie
from tasks.base import NEWLINE_ID
from tasks.registry import streamed
from tests.models.fakes import SumTask, TableForward, sum_forward
from tests.models.stream_fakes import (
    CHECKED_LETTERS,
    IDS,
    LETTERS,
    CheckedLetters,
    Letters,
    Written,
    decoded,
    slow_stream,
    together,
)

A, B, Z, EQ, YES, NO, B0, CHECK = (IDS[word] for word in ("a", "b", "z", "=", "yes", "no", "b0", "check"))


def gives_up(path: tuple[int, ...]) -> dict[int, float]:
    """At the prompt steps of one or two letters, and `no` with too little mass; after a step, `no` and back to the prompt."""
    if path[-1] == NO:
        return {B0: 0.0}
    if path.count(NEWLINE_ID) > 1 and path[-1] == NEWLINE_ID:
        return {NO: 3.0, A: 0.0}
    if path[-1] == NEWLINE_ID:
        return {A: 0.9, B: 0.3, Z: -0.4, NO: 0.5}
    return {NEWLINE_ID: 0.6} | ({A: 0.0, B: 0.3, Z: -0.4} if path[-2:-1] == (NEWLINE_ID,) else {})


@pytest.mark.parametrize("back", ["net", "root", "last"])
@pytest.mark.parametrize(
    ("distinct", "early", "doubted"), [(True, True, 0.0), (False, True, 0.05), (True, False, 0.05), (True, True, 0.5)]
)
@pytest.mark.parametrize("effort", [1, 2, 3])
def test_greedy_streams_are_those_of_the_slow_decoder(effort, distinct, early, doubted, back):
    problems, forward = LETTERS.problems("train", 12), Written()
    rules = Rules(threshold=0.15, distinct=distinct, back=back, early=early, doubted=doubted)
    made = decoded(forward, problems, effort, rules)
    for problem, stream in zip(problems, made, strict=True):
        lines, end = slow_stream(forward, problem, effort, rules)
        assert ([thought.text for thought in stream.thoughts], stream.end) == (lines, end)
    assert len({stream.end for stream in made}) > 1
    assert max(stream.undos for stream in made) > 0


@pytest.mark.parametrize("distinct", [True, False])
def test_a_stream_goes_on_from_what_is_planted_as_from_what_it_wrote_itself(distinct):
    problems, rules, told = LETTERS.problems("train", 40), Rules(threshold=0.15, distinct=distinct), 0
    made = decoded(Written(), problems, 3, rules)
    for stand in (1, 2):
        some = [
            (problem, stream)
            for problem, stream in zip(problems, made, strict=True)
            if len(stream.thoughts) > stand and all(thought.kind != "undo" for thought in stream.thoughts[:stand])
        ]
        steps = [tuple(Step(t.text, t.tokens) for t in stream.thoughts[:stand]) for _, stream in some]
        again = decoded(
            Written(), [problem for problem, _ in some], 3, rules, planted=[Planted(standing) for standing in steps]
        )
        for (_, stream), rest in zip(some, again, strict=True):
            assert rest.thoughts == stream.thoughts[stand:]
            assert (rest.steps, rest.end) == (stream.steps, stream.end)
            told += rest.undos > 0
    assert told > 5


class LongLetters(Letters):
    """With room for `a = b`."""

    max_step_tokens = 4


def follows(path: tuple[int, ...]) -> dict[int, float]:
    """Steps `a = a` (.9 x .7), `a = b` (.9 x .28) and `a = z` (.9 x .02), or b; then nothing but yes."""
    if path[-1] == NEWLINE_ID:
        return {YES: 0.0} if path.count(NEWLINE_ID) > 1 else {A: np.log(0.9), B: np.log(0.1)}
    if path[-1] == EQ:
        return {A: np.log(0.7), B: np.log(0.28), Z: np.log(0.02)}
    return {EQ: 0.0} if path[-2:] == (NEWLINE_ID, A) else {NEWLINE_ID: 0.0}


def test_a_step_whose_consequences_are_improbable_is_given_up_and_another_one_drawn_behind_the_same_steps():
    (problem,) = LETTERS.problems("train", 1)
    false = Planted((Step("a = z\n", (A, EQ, Z, NEWLINE_ID)),))
    forward, lines = Written(follows, streamed(LongLetters())), {}
    for doubted in (0.0, 0.05, 0.75):
        (made,) = decoded(forward, [problem], 4, Rules(doubted=doubted), planted=[false])
        lines[doubted] = [thought.text for thought in made.thoughts]
    assert lines[0.0] == ["yes\n"]
    assert lines[0.05] == ["no b0\n", "a = a\n", "yes\n"]
    assert lines[0.75] == ["no b0\n", "a = a\n", "no b0\n", "a = b\n", "yes\n"]  # .7 of .98, then all that is left


def test_what_is_planted_as_tried_is_not_tried_again():
    (problem,) = LETTERS.problems("train", 1)
    rules = Rules()
    (whole,) = decoded(Written(gives_up), [problem], 4, rules)
    first, back = whole.thoughts[:2]
    assert (first.kind, back.back) == ("propose", 0)
    given_up = Planted(tried=Step(first.text, first.tokens))
    (rest,) = decoded(Written(gives_up), [problem], 4, rules, planted=[given_up])
    assert rest.thoughts == whole.thoughts[2:]
    assert Planted() == Planted((), None)
    assert decoded(Written(gives_up), [problem], 4, rules, planted=[Planted()]) == [whole]


def test_what_is_left_is_drawn_with_its_exact_conditional_probability():
    forward, n = Written(gives_up), 4000
    problem = LETTERS.problems("train", 1)[0]
    made = decoded(forward, [problem] * n, 1, Rules(temperature=1.0), first=range(n))
    tried = [[thought.tokens for thought in stream.thoughts if thought.kind != "undo"] for stream in made]
    assert all(len(steps) == 2 and steps[0] != steps[1] for steps in tried)
    mass: dict[tuple[int, ...], float] = {}
    context = tuple(StreamWords.of(LETTERS).context(problem, 1))
    for first in (A, B, Z):
        for rest in ((NEWLINE_ID,), *((letter, NEWLINE_ID) for letter in (A, B, Z))):
            step = (first, *rest)
            mass[step] = np.exp(sum(forward.row((*context, *step[:k]))[token] for k, token in enumerate(step)))
    all_steps = 1 - float(np.exp(forward.row(context)[NO]))
    assert sum(mass.values()) == pytest.approx(all_steps, abs=1e-5)
    assert all_steps < 0.9
    first_tried = max(mass, key=lambda step: mass[step])
    left = [steps[1] for steps in tried if steps[0] == first_tried]
    for step in mass.keys() - {first_tried}:
        exact = mass[step] / (all_steps - mass[first_tried])
        assert abs(left.count(step) / len(left) - exact) < 4.5 * np.sqrt(exact * (1 - exact) / len(left))


def test_nothing_is_tried_twice_at_one_state_and_without_the_rule_it_is():
    problem = LETTERS.problems("train", 1)
    for distinct in (True, False):
        (stream,) = decoded(Written(gives_up), problem, 4, Rules(distinct=distinct))
        steps = [thought.text for thought in stream.thoughts if thought.kind != "undo"]
        assert len(steps) == (12 if distinct else 16)  # there are twelve
        assert len(set(steps)) == (12 if distinct else 1)
        assert stream.end == ("exhausted" if distinct else "no")


def test_going_back_restores_the_state_bit_for_bit_and_computes_nothing_again():
    forward, words, problems = Written(), StreamWords.of(LETTERS), LETTERS.problems("train", 8)
    trie = TokenTrie(forward)
    made = together(trie, words, problems, 4, Rules(threshold=0.1))
    paths = {tuple(trie.tokens[trie.path(node)].tolist()) for node in range(trie.n_nodes)}
    assert len(paths) == trie.n_nodes == trie.generated_tokens + trie.prefilled_tokens
    assert trie.generated_tokens < sum(stream.tokens for stream in made)
    fresh = TokenTrie(forward)
    for node in np.flatnonzero(trie.has_row[: trie.n_nodes])[::7]:
        again = fresh.prefill([trie.tokens[trie.path(int(node))].tolist()])[0]
        np.testing.assert_array_equal(trie.logprobs[node], fresh.logprobs[again])


def test_what_stands_at_the_end_is_what_was_not_given_up():
    for stream in decoded(Written(), LETTERS.problems("train", 30), 3, Rules(threshold=0.15)):
        path: list[str] = []
        for thought in stream.thoughts:
            if thought.kind in ("propose", "answer"):
                assert thought.depth == len(path)
                path.append(thought.text)
            elif thought.back is not None:
                path = path[: thought.back]
        assert path[: len(stream.steps)] == list(stream.steps)
        assert stream.tokens == sum(len(thought.tokens) for thought in stream.thoughts)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_stream_ends_whatever_the_net_writes(threshold, temperature):
    rules = Rules(threshold=threshold, temperature=temperature)
    for forward in (Written(gives_up), Written(lambda path: {A: 0.0}), Written(lambda path: {NEWLINE_ID: 0.0})):
        for stream in decoded(forward, LETTERS.problems("train", 3), 4, rules):
            assert stream.end in ("yes", "no", "stop", "exhausted", "broken")
            assert len(stream.thoughts) <= 16 * (LETTERS.max_steps + 1)


def test_limits_of_undos_and_tokens_hold():
    problems = LETTERS.problems("train", 5)
    for effort, undos in enumerate((1, 3, 7, 15), start=1):
        assert {stream.undos for stream in decoded(Written(gives_up), problems, effort, Rules())} == {min(undos, 12)}
    one_try = decoded(Written(gives_up), problems, 4, Rules(undos=0))
    assert {(stream.undos, stream.end, stream.thoughts[-1].text) for stream in one_try} == {(0, "no", "no\n")}
    for stream in decoded(Written(gives_up), problems, 4, Rules(tokens=9)):
        assert stream.end == "tokens"
        assert 9 <= stream.tokens < 9 + LETTERS.max_step_tokens


def test_batch_mates_and_sample_numbers_decide_nothing_but_their_own_stream():
    problems, rules = LETTERS.problems("train", 9), Rules(temperature=1.0, threshold=0.15)
    together = decoded(Written(), problems, 3, rules, seed=5)
    assert [decoded(Written(), [problem], 3, rules, seed=5)[0] for problem in problems] == together
    assert decoded(Written(), problems, 3, rules, seed=5, first=[1] * 9) != together


def test_how_sure_a_stream_was_is_its_own_yes_against_no():
    forward, words = Written(), StreamWords.of(LETTERS)
    for stream in decoded(forward, LETTERS.problems("train", 30), 3, Rules(threshold=0.15)):
        if stream.end == "yes":
            written = [token for thought in stream.chain for token in thought.tokens]
            assert 0.15 < stream.sure <= 1
            contexts = [words.context(problem, 3) for problem in LETTERS.problems("train", 30)]
            rows = [np.exp(forward.row((*context, *written))) for context in contexts]
            shares = [float(row[words.yes] / (row[words.yes] + row[words.no])) for row in rows]
            assert min(abs(share - stream.sure) for share in shares) < 1e-5


def test_effort_0_is_the_chain_that_the_policy_writes_without_streams():
    policy, task = LocalPolicy(None, forward=TableForward(len(Letters.vocabulary), newline_bonus=1.0)), LETTERS
    problems = task.problems("train", 6)
    made = policy.streams(task, problems, 0)
    chains = [chain for (chain,) in policy.chains(task, problems, temperature=0.0)]
    assert [stream.steps for stream in made] == [chain.steps for chain in chains]
    assert [stream.tokens for stream in made] == [chain.tokens for chain in chains]
    assert {(stream.end, stream.accepted) for stream in made} == {("plain", True)}


def test_a_net_without_stream_words_and_an_effort_that_is_none_are_refused_in_one_line():
    policy = LocalPolicy(None, forward=sum_forward())
    for task, effort, said in (
        (SumTask(), 2, "cannot think"),
        (SumTask(), 0, "says not"),
        (Letters(), 1, "cannot think"),
    ):
        with pytest.raises(PolicyError, match=said) as refusal:
            policy.streams(task, task.problems("train", 1), effort)
        assert "\n" not in str(refusal.value)
    with pytest.raises(PolicyError, match="use none, minimal, low, medium, high"):
        effort_number("xhigh")
    with pytest.raises(ValueError, match="threshold"):
        Rules(threshold=1.5)


def slips(path: tuple[int, ...]) -> dict[int, float]:
    """Writes `a = a` (.6) or `a = b` (.4); what is checked comes to b. No check may stay, or see the result."""
    if CHECK in path:
        assert path[-2:] == (EQ, CHECK)
        return {B: np.log(0.9), A: np.log(0.1)}
    if path[-1] == EQ:
        return {A: np.log(0.6), B: np.log(0.4)}
    return {A: 0.0} if path[-1] == NEWLINE_ID else {EQ: 0.0} if path[-2:-1] == (NEWLINE_ID,) else {NEWLINE_ID: 0.0}


def lines_of(effort: int, rules: Rules | None = None) -> list[str]:
    forward = Written(slips, CHECKED_LETTERS)
    (stream,) = decoded(forward, CHECKED_LETTERS.problems("train", 1), effort, rules or Rules())
    words = sum(len(thought.text.split()) + (thought.kind == "propose") for thought in stream.thoughts)
    assert stream.tokens == words  # of a step its newline, too
    return [thought.text for thought in stream.thoughts]


def test_a_step_is_given_up_for_a_check_that_differs_and_is_the_surer():
    once = ["a = a\n", "check b\n", "no b0\n", "a = b\n"]  # .9 against .6: a share of .6
    again = [line.replace("b0", "b1") for line in once]
    assert lines_of(4, Rules(threshold=0.55)) == [*once, *again, "yes\n"]
    assert lines_of(4, Rules(threshold=0.65)) == [*["a = a\n", "check b yes\n"] * 2, "yes\n"]
    other = [*once, "check b yes\n"]  # not what the check came to, but the next most probable, which is the same here
    drawn = [*other, *(line.replace("b0", "b1") for line in other), "yes\n"]
    assert lines_of(4, Rules(threshold=0.55, mended=False)) == drawn


def test_a_planted_step_is_checked_as_if_it_had_been_written():
    (problem,) = CHECKED_LETTERS.problems("train", 1)
    forward = Written(slips, CHECKED_LETTERS)
    rules = Rules(threshold=0.55)
    (whole,) = decoded(forward, [problem], 4, rules)
    (rest,) = decoded(forward, [problem], 4, rules, planted=[Planted((Step("a = a\n", (A, EQ, A, NEWLINE_ID)),))])
    assert rest.thoughts == whole.thoughts[1:]


def test_effort_says_how_doubtful_a_step_must_be_to_be_checked():
    assert lines_of(1) == ["a = a\n", "a = a\n", "yes\n"]  # .6 is sure enough for effort minimal
    assert lines_of(2) == lines_of(4) != lines_of(1)
    assert lines_of(4, Rules(checked=0.5)) == lines_of(1)


def test_nothing_is_checked_where_no_undo_is_left():
    once = ["a = a\n", "check b\n", "no b0\n", "a = b\n"]
    assert lines_of(4, Rules(threshold=0.55, undos=1)) == [*once, "a = a\n", "yes\n"]
    assert lines_of(4, Rules(threshold=0.55, undos=0)) == ["a = a\n", "check b\n", "no\n"]  # one try and its verdict


def test_a_stream_is_as_sure_as_its_least_sure_step():
    def sure(effort: int, rules: Rules) -> float:
        (stream,) = decoded(Written(slips, CHECKED_LETTERS), CHECKED_LETTERS.problems("train", 1), effort, rules)
        return stream.sure

    assert sure(1, Rules()) == pytest.approx(0.6)
    assert sure(4, Rules(threshold=0.65)) == pytest.approx(1 - 0.9 / 1.5)  # it stands, though the check differs
    assert sure(4, Rules(threshold=0.55)) == pytest.approx(0.9 / 1.5)  # what the check came to stands
    assert sure(4, Rules(threshold=0.55, mended=False)) == pytest.approx(1 - 0.6 * 0.1)  # .4 and .9 agree


class Wide(CheckedLetters):
    """With room for `= a b z`."""

    max_step_tokens = 5


def wide(path: tuple[int, ...]) -> dict[int, float]:
    """Writes `= a b z` (.7) or `= a b a` (.3); a check comes to `= a b b`."""
    if CHECK in path:
        return {B: 0.0} if path[-1] == CHECK or path[-2] == CHECK else {A: 0.0}
    if path[-1] == NEWLINE_ID:
        return {EQ: 0.0}
    if path[-1] == B:
        return {Z: np.log(0.7), A: np.log(0.3)}
    return {A: 0.0} if path[-1] == EQ else {B: 0.0} if path[-2:-1] == (EQ,) else {NEWLINE_ID: 0.0}


def test_the_best_of_what_checks_refused_is_taken_where_nothing_better_is_left():
    task = streamed(Wide())
    rules = Rules(undos=2, threshold=0.5, mended=False)
    (stream,) = decoded(Written(wide, task), task.problems("train", 1), 4, rules)
    lines = [thought.text for thought in stream.thoughts]
    tried = ["= a b z\n", "check b b a\n", "no b0\n", "= a b a\n", "check b b a\n", "no b0\n"]
    assert lines == [*tried, "= a b z\n", "= a b z\n", "yes\n"]  # then no undo is left
    assert stream.tokens == 2 * (5 + 4 + 2) + 5 + 5 + 1
