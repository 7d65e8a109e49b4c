"""The strategy `think`: one stream an answer, its hidden chain shown, and what it cannot do said in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.files.checkpoint import save_checkpoint
from models.local_policy import LocalPolicy
from models.net.tokenizer import make_tokenizer
from models.policy import open_policy
from selfplay.parts import taught_words
from solve.cli.page import hidden, page
from solve.search.think import has_streams, thinks
from solve.search.wall import wall
from solve.solver import Solver
from solve.strategies import way, ways
from solve.types import NEVER, SolveError, Workbench
from tasks import make_task
from tests.models.stream_fakes import LETTERS, Letters, Written
from tests.selfplay.free_text import byte_level
from tests.solve.test_command import command  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The shipped net of three numbers with words for streams, which mean nothing to it yet."""
    opened = open_policy("countdown3", trainable=True)
    options = {**opened.task_options, "streams": True}
    task = make_task(**options)
    made = tmp_path_factory.mktemp("net") / "words"
    save_checkpoint(
        made, taught_words(opened.policy.model, task, 0), make_tokenizer(task.vocabulary), {"task": options}
    )
    return str(made)


@pytest.fixture(scope="module")
def solver(folder):
    return Solver(folder)


def thinking(problems, verify="none", named="think", **settings):
    policy = LocalPolicy(None, forward=Written())
    return way(named, LETTERS).search.start(
        Workbench(policy, wall(LETTERS, verify), verify, False, **settings), problems, None
    )


def test_plain_chains_and_searches_of_a_net_with_new_words_are_those_of_the_net_without(solver):
    plain = Solver("countdown3")
    problems = plain.shelved.task.problems("dev", 8)
    for strategy, effort in (("greedy", "none"), ("best_of_n", "low")):
        found = [s.solve(problems, strategy=strategy, effort=effort, tokens=200) for s in (plain, solver)]
        assert [one.steps for one in found[0]] == [one.steps for one in found[1]]
    thought = solver.solve(problems, strategy="think", effort="none")
    assert [one.steps for one in thought] == [one.steps for one in plain.solve(problems, strategy="greedy")]


@pytest.mark.parametrize("verify", ["task", "none"])
def test_an_answer_is_what_stands_at_yes_and_every_token_is_paid(verify):
    problems = LETTERS.problems("train", 30)
    search = thinking(problems, verify, verdict_threshold=0.15)
    search.advance([10**9] * len(problems))
    for i, problem in enumerate(problems):
        (chain,), (stream,) = search.chains(i), search.streams(i)
        assert search.tokens[i] == sum(len(thought.tokens) for thought in chain.thoughts)
        assert (chain.answer is not None) <= stream.accepted
        right = stream.accepted and LETTERS.verdict(problem, stream.steps).reward >= 1
        assert chain.reward == (float(right) if verify == "task" or not stream.accepted else None) or verify == "none"
        assert search.chains(i, within=int(search.tokens[i]) - 1) == []
    assert {stream.accepted for i in range(len(problems)) for stream in search.streams(i)} == {True, False}
    assert search.exhausted.all()


def test_efforts_are_counted_in_undos_and_tokens_cut_a_stream_short(solver):
    problems = solver.shelved.task.problems("dev", 20)
    found = {effort: solver.solve(problems, strategy="think", effort=effort) for effort in ("minimal", "high")}
    assert all(one.cost.simulations <= 2 for one in found["minimal"])
    assert all(one.thoughts and one.strategy == "think" for one in found["high"])
    assert "ended" in {one.stopped for one in found["high"]} <= {"ended", "exhausted"}
    longest = solver.shelved.task.max_step_tokens
    cut = solver.solve(problems, strategy="think", effort="high", tokens=longest)
    assert all(one.cost.generated_tokens < 2 * longest for one in cut)
    assert "budget" in {one.stopped for one in cut}


def test_beyond_what_a_net_was_taught_the_decoder_lets_it_go_on(solver):
    problems = solver.shelved.task.problems("dev", 4)
    undos = {}
    for effort in ("high", "xhigh", "max"):
        limit = {"tokens": 1200} if effort == "max" else {}
        found = solver.solve(problems, strategy="think:threshold=1", effort=effort, verify="none", **limit)
        undos[effort] = max(one.cost.simulations - 1 for one in found)  # no answer is good enough
    assert undos["high"] <= 15 < undos["xhigh"] <= 31 < undos["max"]


@pytest.mark.parametrize("verify", ["task", "none"])
def test_several_streams_are_paid_together_and_a_judge_takes_the_first_that_is_right(verify):
    problems = LETTERS.problems("train", 30)
    settings = {"verify": verify, "verdict_threshold": 0.15}
    one, three = (thinking(problems, named=f"think:streams={k},temperature=0.7", **settings) for k in (1, 3))
    for search in (one, three):
        search.advance([10**9] * len(problems))
        assert search.exhausted.all()
    for i in range(len(problems)):
        chains = three.chains(i)
        assert {chain.steps for chain in one.chains(i)} <= {chain.steps for chain in chains}
        assert chains[-1].tokens <= three.tokens[i]
        right = [chain.reward == 1 for chain in chains]
        assert sum(right) == (three.solved_at[i] < NEVER) == any(right)
        assert len(chains) == 3 or right[-1]
        if verify == "none":
            assert chains[-1].tokens == three.tokens[i] == sum(map(len, paid(three, i)))
    assert (three.tokens > one.tokens).any()


def paid(search, i):
    return [thought.tokens for stream in search.streams(i) for thought in stream.thoughts]


def test_an_answer_of_streams_is_as_sure_as_they_are(solver):
    problems = solver.shelved.task.problems("dev", 20)
    for found in solver.solve(problems, strategy="think:streams=4,threshold=0.01", effort="low", verify="none"):
        assert found.chains == 4
        assert not found.calibrated
        assert 0 <= found.confidence <= found.agreeing / 4


def test_settings_that_are_null_till_they_are_set_have_their_own_types():
    search = way("think:threshold=0.5,effort=low", LETTERS).search
    assert (search.threshold, search.effort) == (0.5, "low")
    assert way("think:threshold=null,effort=null", LETTERS).search == way("think", LETTERS).search
    with pytest.raises(SolveError, match="threshold is of type float"):
        way("think:threshold=high", LETTERS)


def test_the_hidden_chain_is_drawn_with_what_it_gave_up(solver):
    (one,) = solver.solve(["3 7 12 = 15"], strategy="think", effort="low", verify="none")
    thoughts = [
        replace(one.thoughts[0], text="12 - 7 = 5 | 3 5\n", kind="propose", depth=0, back=None),
        replace(one.thoughts[0], text="answer 5 + 3 = 8\n", kind="answer", depth=1, back=None),
        replace(one.thoughts[0], text="no b1\n", kind="undo", depth=2, back=1),
        replace(one.thoughts[0], text="answer 3 * 5 = 15\n", kind="answer", depth=1, back=None),
        replace(one.thoughts[0], text="no b0\n", kind="undo", depth=2, back=0),
        replace(one.thoughts[0], text="no\n", kind="undo", depth=0, back=None),
    ]
    assert hidden(thoughts) == [
        "  | 12 - 7 = 5 | 3 5",
        "  |   answer 5 + 3 = 8",
        "  |   no b1   back to step 1",
        "  |   answer 3 * 5 = 15",
        "  | no b0   back to the start",
        "  | no   gives up",
    ]
    assert len(page(one, "thoughts").splitlines()) == len(page(one).splitlines()) + len(one.thoughts)
    assert json.loads(json.dumps(one.to_dict()))["thoughts"][0]["kind"] == one.thoughts[0].kind


def test_what_cannot_think_says_so_in_one_line(folder, solver):
    assert "think" not in ways(Letters())
    for made, settings, said in (
        (Solver("countdown3"), {"effort": "low"}, "without stream words cannot think"),
        (solver, {"effort": "max"}, "effort=max has no limit of its own"),
    ):
        with pytest.raises(SolveError, match=said) as refusal:
            made.solve(["3 7 12 = 15"], strategy="think", **settings)
        assert "\n" not in str(refusal.value)
    with pytest.raises(SolveError, match="threshold of a verdict"):
        solver.solve(["3 7 12 = 15"], strategy="think:threshold=2")
    with pytest.raises(SolveError, match="effort=hard: a stream was taught to go back 15 times at most"):
        solver.solve(["3 7 12 = 15"], strategy="think:effort=hard")
    with pytest.raises(SolveError, match="streams=0: use 1 or more"):
        solver.solve(["3 7 12 = 15"], strategy="think:streams=0")
    with pytest.raises(SolveError, match="back=up: use net, root, last"):
        solver.solve(["3 7 12 = 15"], strategy="think:back=up")


def test_the_command_thinks_and_shows_it(command, folder):  # noqa: F811
    ask = (f"policy={folder}", "problem='3 7 12 = 15'", "strategy=think", "effort=high", "verify=none")
    code, out, _ = command(*ask, "show=thoughts")
    assert code == 0
    assert sum(line.startswith("  | ") for line in out.splitlines()) > 1
    code, out, said = command(*ask, "show=all")
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "show='all': use one of answer, thoughts" in said


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """A language model that knows nothing, and whose tokenizer has the words of a stream."""
    torch.manual_seed(0)
    folder, tokenizer = (
        tmp_path_factory.mktemp("lm") / "model",
        byte_level(["Work out 7 + 4 - 9\n", "yes", "no", "stop"] * 9, 330),
    )
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Solver(str(folder), task="sums")


def test_a_language_model_that_was_not_taught_to_thinks_where_steps_have_another_way(language):
    task, policy = language.shelved.task, language.shelved.policy
    assert thinks(task, policy)
    problems = task.problems("dev", 5)
    together = language.solve(problems, strategy="think", effort="high", verify="none")
    alone = [language.solve([problem], strategy="think", effort="high", verify="none")[0] for problem in problems]
    assert [one.thoughts for one in together] == [one.thoughts for one in alone]
    for one in together:
        assert one.cost.generated_tokens == sum(len(thought.tokens) for thought in one.thoughts)
        assert one.stopped in ("ended", "exhausted")
    plain = language.solve(problems, strategy="think", effort="none", verify="none")
    assert [one.steps for one in plain] == [one.steps for one in language.solve(problems, strategy="greedy")]


def test_a_language_model_without_a_token_for_each_word_of_a_verdict_does_not(tmp_path):
    torch.manual_seed(0)
    tokenizer = byte_level(["Work out 7 + 4 - 9\n"] * 9, 300)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    solver = Solver(str(tmp_path), task="sums")
    assert not thinks(solver.shelved.task, solver.shelved.policy)
    with pytest.raises(SolveError, match="the tokenizer has no token of its own for 'yes'"):
        solver.solve(["7 + 4 - 9"], strategy="think", effort="low", verify="none")


def test_a_net_of_the_tasks_own_words_does_not_without_those_of_streams():
    assert has_streams(make_task("sums"))
    assert not thinks(make_task("sums"), LocalPolicy(None))
    assert has_streams(make_task("countdown"))
    assert not has_streams(make_task("jugs"))
    assert not thinks(make_task("countdown"), LocalPolicy(None))
    assert thinks(make_task("countdown", streams=True), LocalPolicy(None))


@pytest.mark.slow
def test_a_real_language_model_notices_and_mends_a_line(smollm2):
    """Not how often: that is measured (docs/results/reflect.md)."""
    solver = Solver(str(smollm2), task="sums")
    found = solver.solve(solver.shelved.task.problems("dev", 12), strategy="think", effort="high", verify="none")
    lines = [thought for one in found for thought in one.thoughts]
    assert any(thought.kind == "check" and thought.text.endswith(" yes\n") for thought in lines)
    assert any(thought.kind == "undo" for thought in lines)
