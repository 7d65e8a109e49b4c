"""A served policy writes the chains that its server would write to anyone, pays what was generated, and outlives a fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from models.abilities import Abilities, PolicyError, PolicyWarning, Step
from models.policy import open_policy
from models.remote.answers import Request
from models.remote.client import Limits, RemoteClient, RemoteError
from models.remote.evaluator import RemoteEvaluator
from models.remote.policy import RemotePolicy
from models.steps.codec import QUESTION, few_shot_examples
from models.steps.evaluator import ModelEvaluator
from tasks.numbers.countdown import Countdown
from tests.models.fakes import SumTask
from tests.models.servers import DIGITS, Call, FakeServer, Reply, TableModel, vllm_answer, vllm_choice

LIMITS = Limits(connect_seconds=1.0, read_seconds=5.0, call_seconds=30.0, retries=1)
TOO_LONG = Reply({"error": {"message": "maximum context length exceeded"}}, status=400)
GONE = Reply(b"", status=500)
PROBES = 2  # requests of a probe whose first one is understood


async def no_wait(seconds: float) -> None:
    """Backoff for tests."""


@pytest.fixture
def opened():
    """Opens policies over servers, which are closed when the test ends."""
    clients: list[RemoteClient] = []

    def open_served(server: FakeServer, few_shot: int = 0) -> RemotePolicy:
        clients.append(RemoteClient(server.url, "small", limits=LIMITS, sleep=no_wait))
        return RemotePolicy(clients[-1], few_shot=few_shot)

    yield open_served
    for client in clients:
        client.close()


@pytest.fixture
def policy(opened):
    with FakeServer(TableModel()) as server:
        yield opened(server)


@pytest.fixture
def task() -> SumTask:
    return SumTask(max_steps=9)


def with_ids(call: Call) -> dict:
    """`TableModel` on a server that also tells the ids of its tokens, here the code points of their letters."""
    answer = TableModel()(call)
    for choice in answer["choices"]:
        choice["token_ids"] = [*map(ord, choice["text"]), ord("\n")]
    return answer


def unless(fault: Callable[[Call], bool], reply: Reply) -> Callable[[Call], dict | Reply]:
    """`TableModel` on a server that at times answers with `reply`."""
    model = TableModel()
    return lambda call: reply if fault(call) else model(call)


def question(call: Call) -> str:
    return call.body["prompt"].rpartition(QUESTION)[2]


# ---- what it says that it can


@pytest.mark.parametrize("with_logprobs", [True, False])
@pytest.mark.parametrize("with_n", [True, False])
def test_its_abilities_are_those_of_the_server(opened, with_logprobs, with_n):
    with FakeServer(TableModel(with_logprobs=with_logprobs, with_n=with_n)) as server:
        policy = opened(server)
        assert policy.can == Abilities(values=False, token_ids=False, logprobs=with_logprobs, without_replacement=False)
        assert policy.client.capabilities.n == with_n
        assert (policy.name, policy.version) == ("small", f"{server.url}/v1@small")
        assert (policy.model, policy.tokenizer, policy.flops_per_token, policy.in_words) == (None, None, None, False)


def test_token_ids_are_an_ability_where_the_server_tells_them(opened):
    with FakeServer(with_ids) as server:
        assert opened(server).can.token_ids


def test_it_reads_any_task_and_knows_nothing_of_its_tokens(policy, task):
    policy.check(task)
    policy.check(Countdown())
    assert policy.codec(task) is None


def test_a_question_stands_where_a_language_model_in_this_process_sees_it():
    countdown = Countdown()
    (problem,) = countdown.problems("dev", 1)
    with FakeServer(TableModel()) as server:
        policy = open_policy(f"{server.url}/v1@small", few_shot=2).policy
        policy.chains(countdown, [problem])
        evaluator = policy.evaluator(countdown)
        evaluator.expand(evaluator.begin([problem]).handles, 1)
        policy.client.close()
        asked = {call.body["prompt"] for call in server.calls[PROBES:]}
    assert asked == {few_shot_examples(countdown, 2) + QUESTION + countdown.prompt(problem)}


# ---- chains


def test_a_chain_is_scored_by_the_server_and_judged_by_the_task(policy, task):
    problems, ended = task.problems("train", 4), set()
    for problem, chains in zip(problems, policy.chains(task, problems, 12), strict=True):
        assert len(chains) == 12
        for chain in chains:
            logprobs = []
            for i, step in enumerate(chain.steps):
                table = TableModel.probabilities(QUESTION + task.context(problem, chain.steps[:i]))
                logprobs.append(math.log(table[DIGITS.index(step.removesuffix("\n"))]))
            assert chain.logprob == pytest.approx(sum(logprobs), abs=1e-6)
            assert chain.last_logprob == pytest.approx(logprobs[-1], abs=1e-6)
            verdict = task.verdict(problem, chain.steps)
            assert (chain.verdict.reward, chain.verdict.legal, verdict.terminal) == (
                verdict.reward,
                verdict.legal,
                True,
            )
            assert chain.end_value == verdict.reward
            assert chain.states[0] == task.initial_state(problem)
            assert len(chain.states) == len(chain.values) == len(chain.steps)  # the last step ends in no state
            assert set(chain.values) == {0.5}  # a server has no opinion
            assert chain.history == [Step(step) for step in chain.steps]
            ended.add((verdict.reward, verdict.legal))
    assert ended == {(1.0, True), (0.0, True), (0.0, False)}


def test_a_chain_is_the_same_whatever_its_batch_and_the_number_it_is_drawn_under(policy, task):
    problems = task.problems("train", 3)
    together = policy.chains(task, problems, 4, seed=7)
    assert len({chain.steps for chains in together for chain in chains}) > 3
    for problem, chains in zip(problems, together, strict=True):
        assert policy.chains(task, [problem], 4, seed=7) == [chains]
    later = policy.chains(task, problems[::-1], 2, seed=7, first=[2, 1, 2])[::-1]
    assert later == [together[0][2:], together[1][1:3], together[2][2:]]
    assert policy.chains(task, problems, 4, seed=8) != together


def test_a_server_that_knows_no_n_writes_the_same_chains(opened, policy, task):
    problems = task.problems("train", 2)
    with FakeServer(TableModel(with_n=False)) as server:
        assert opened(server).chains(task, problems, 3) == policy.chains(task, problems, 3)


@pytest.mark.parametrize("settings", [{}, {"with_logprobs": False}, {"with_n": False}])
def test_what_is_paid_is_what_the_server_generated(opened, task, settings):
    model = TableModel(**settings)
    with FakeServer(model) as server:
        policy, probed = opened(server), model.generated
        chains = policy.chains(task, task.problems("train", 3), 5)
    assert sum(chain.tokens for lot in chains for chain in lot) == model.generated - probed > 0


def test_greedy_takes_the_most_probable_step_each_time(policy, task):
    problems = task.problems("train", 4)
    for problem, (chain, twin) in zip(problems, policy.chains(task, problems, 2, temperature=0.0), strict=True):
        assert chain == twin
        for i, step in enumerate(chain.steps):
            table = TableModel.probabilities(QUESTION + task.context(problem, chain.steps[:i]))
            assert step == DIGITS[table.argmax()] + "\n"


def test_without_logprobs_a_chain_s_are_not_made_up(opened, task):
    with FakeServer(TableModel(with_logprobs=False)) as server:
        (chain,) = opened(server).chains(task, task.problems("train", 1))[0]
    assert math.isnan(chain.logprob)
    assert math.isnan(chain.last_logprob)


def test_a_step_that_was_cut_off_ends_its_chain_and_is_paid(opened, task):
    with FakeServer(lambda call: vllm_answer([vllm_choice("9999", [-1.0] * 4, finish="length")], 4)) as server:
        (chain,) = opened(server).chains(task, task.problems("train", 1))[0]
    assert chain.steps == ("9999",)
    assert (chain.verdict.terminal, chain.verdict.legal, chain.verdict.reward) == (True, False, 0.0)
    assert chain.verdict.reason.startswith("unfinished")
    assert chain.tokens == 4


def test_a_server_that_counts_nothing_is_paid_a_token_a_step(opened, task):
    def uncounted(call: Call) -> dict:
        choice = vllm_choice("1", None)
        return vllm_answer([choice], 0)

    with FakeServer(uncounted) as server:
        (chain,) = opened(server).chains(task, task.problems("train", 1))[0]
    assert chain.tokens == len(chain.steps) > 1


def test_samples_that_never_re_enter_a_state_are_refused_before_anything_is_asked(opened, task):
    with FakeServer(TableModel()) as server:
        policy, asked = opened(server), len(server.calls)
        with pytest.raises(PolicyError, match="use best_of_n") as caught:
            policy.chains(task, task.problems("train", 1), no_reentry=True)
        assert "\n" not in str(caught.value)
        assert len(server.calls) == asked


@pytest.mark.parametrize("settings", [{"n": 0}, {"temperature": -1.0}])
def test_numbers_that_make_no_sense_are_refused(policy, task, settings):
    with pytest.raises(ValueError, match="temperature must be 0 or more and n at least 1"):
        policy.chains(task, task.problems("train", 1), **settings)


# ---- faults


@pytest.mark.filterwarnings("ignore::models.abilities.PolicyWarning")
def test_a_request_that_failed_ends_its_chain_alone(opened, policy, task):
    problems = task.problems("train", 3)
    expected = policy.chains(task, problems, 4)
    longest = max(len(chain.steps) for chain in expected[1])
    assert longest > 1
    spoilt = task.prompt(problems[1])  # of this problem, every request after the first step fails
    with FakeServer(
        unless(lambda call: question(call).startswith(spoilt) and question(call) != spoilt, GONE)
    ) as server:
        found = opened(server).chains(task, problems, 4)
    assert (found[0], found[2]) == (expected[0], expected[2])
    for chain, whole in zip(found[1], expected[1], strict=True):
        if len(whole.steps) == 1:
            assert chain == whole
            continue
        assert chain.steps == whole.steps[:1]
        assert (chain.verdict.terminal, chain.verdict.legal, chain.verdict.reward) == (True, False, 0.0)
        assert chain.verdict.reason == "the server gave no step"
        assert chain.tokens == len(chain.steps[0])
        assert len(chain.states) == len(chain.values) == 2


@pytest.mark.filterwarnings("ignore::models.abilities.PolicyWarning")
def test_the_last_chain_to_go_takes_no_other_with_it_when_its_prompt_grows_too_long(opened, policy, task):
    problems = task.problems("train", 3)
    expected = policy.chains(task, problems, 4)
    lengths = sorted(len(chain.steps) for chains in expected for chain in chains)
    assert lengths[0] < lengths[-1]
    with FakeServer(unless(lambda call: question(call).count("\n") >= lengths[-1], TOO_LONG)) as server:
        found = opened(server).chains(task, problems, 4)
    for chains, whole in zip(found, expected, strict=True):
        for chain, one in zip(chains, whole, strict=True):
            assert chain.steps == one.steps[: lengths[-1] - 1]
            assert (chain == one) == (len(one.steps) < lengths[-1])


@pytest.mark.parametrize("reply", [GONE, Reply(b"", status=401), Reply(b"not JSON"), Reply(b"", fault="reset")])
def test_where_no_request_is_answered_it_says_so(opened, task, reply):
    with FakeServer(unless(lambda call: call.number >= PROBES, reply)) as server:
        with pytest.raises(RemoteError, match=server.url) as caught:
            opened(server).chains(task, task.problems("train", 2), 2)
        assert "\n" not in str(caught.value)


def test_refused_prompts_cost_their_own_chains_alone_and_are_told_in_one_line(opened, policy, task):
    problems = task.problems("train", 3)
    expected = policy.chains(task, problems, 2)
    with FakeServer(unless(lambda call: question(call).startswith(task.prompt(problems[1])), TOO_LONG)) as server:
        served = opened(server)
        with pytest.warns(PolicyWarning, match="2 requests failed, the first one: .*maximum context length") as told:
            found = served.chains(task, problems, 2)
        assert len(told) == 1
        assert "\n" not in str(told[0].message)
        assert (found[0], found[2]) == (expected[0], expected[2])
        for chain in found[1]:
            assert (chain.steps, chain.tokens, chain.verdict.reward, chain.verdict.legal) == ((), 0, 0.0, False)
        with pytest.warns(PolicyWarning):  # and no server is taken for gone that refuses all of them
            assert served.chains(task, problems[1:2], 2) == found[1:2]


def test_steps_are_read_as_a_task_writes_them_whatever_blanks_the_server_puts_around(opened, policy, task):
    def blank(call: Call) -> dict:
        answer = TableModel()(call)
        for choice in answer["choices"]:
            choice["text"] = f"  {choice['text']}\r"
        return answer

    problems = task.problems("train", 2)
    with FakeServer(blank) as server:
        found = opened(server).chains(task, problems, 4)
    assert [[chain.steps for chain in chains] for chains in found] == [
        [chain.steps for chain in chains] for chains in policy.chains(task, problems, 4)
    ]


def test_a_server_that_goes_away_midway_is_noticed(opened, task):
    with (
        FakeServer(unless(lambda call: "\n" in question(call).removesuffix("\n"), GONE)) as server,
        pytest.raises(RemoteError, match="HTTP 500"),
    ):
        opened(server).chains(task, task.problems("train", 2), 2)


def test_no_more_is_asked_at_once_than_the_deadline_of_a_call_leaves_time_for(policy, task):
    class Counting(RemoteClient):
        """Notes how many requests share a deadline."""

        def complete(self, requests):
            sizes.append(len(requests))
            return super().complete(requests)

    problems, sizes = task.problems("train", 3), []
    limits = Limits(concurrency=2)
    with Counting(policy.client.base_url, "small", limits=limits) as client:
        assert RemotePolicy(client, few_shot=0).chains(task, problems, 7) == policy.chains(task, problems, 7)
    assert sum(sizes[:3]) == 21
    assert max(sizes) == 4 * limits.concurrency


def test_a_wave_of_a_search_is_asked_in_parts_too_and_a_dead_server_is_asked_for_one_part(task):
    model, dead = TableModel(), []
    limits = Limits(concurrency=1, retries=0)
    with (
        FakeServer(lambda call: GONE if dead else model(call)) as server,
        RemoteClient(server.url, "small", limits=limits) as client,
    ):
        requests = [Request(f"{k}\n", seed=k) for k in range(10)]
        whole = client.complete(requests)
        assert client.complete_all(requests) == whole
        asked = len(server.calls)
        dead.append(True)
        answers = client.complete_all(requests)
        assert len(server.calls) == asked + 4
        assert [answer.error.status for answer in answers] == [500] * 10
        evaluator = RemoteEvaluator(client, task, max_failures=100)
        sizes: list[int] = []
        client.complete = lambda part: sizes.append(len(part)) or RemoteClient.complete(client, part)
        dead.clear()
        evaluator.expand(evaluator.begin(task.problems("train", 5)).handles, 1)
    assert max(sizes) == 4


# ---- tokens


def test_token_ids_are_handed_through_where_the_server_tells_them(opened, task):
    with FakeServer(with_ids) as server:
        policy = opened(server)
        for chains in policy.chains(task, task.problems("train", 3), 3):
            for chain in chains:
                assert [step.text for step in chain.history] == list(chain.steps)
                assert ["".join(map(chr, step.tokens)) for step in chain.history] == list(chain.steps)
        evaluator = policy.evaluator(task, seed=1)
        roots = evaluator.begin(task.problems("train", 2))
        first = evaluator.expand(roots.handles, 6)
        second = evaluator.expand(first.handles[~first.terminal], 3)
        assert len(second.handles)
        for handle in (*first.handles.tolist(), *second.handles.tolist()):
            step, history = evaluator.step(handle), evaluator.history(handle)
            assert "".join(map(chr, step.tokens)) == step.text
            assert history[-1] == step
            assert [one.text for one in history] == evaluator.steps(handle)
            assert history[:-1] == evaluator.history(evaluator.parent(handle))


# ---- the evaluator


def test_its_evaluator_is_the_remote_one_and_no_other(opened, task):
    problems, calls = task.problems("train", 2), []
    for make in (
        lambda policy: policy.evaluator(task, temperature=0.7, seed=3),
        lambda policy: RemoteEvaluator(policy.client, task, few_shot=QUESTION, temperature=0.7, seed=3),
    ):
        with FakeServer(TableModel()) as server:
            evaluator = make(opened(server))
            assert not isinstance(evaluator, ModelEvaluator)
            evaluator.expand(evaluator.begin(problems).handles, 4)
            calls.append(sorted(str(call.body) for call in server.calls))
    assert all(one == other for one, other in pairwise(calls))
