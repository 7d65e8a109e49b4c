"""The actor: new experience from the acting net, by search (`search`) or by independent samples (`star`).

Both pay for every generated token from the same account, so that teachers can be compared at equal tokens. Who proposes the
steps is a `models.policy.Policy`; how trees are searched is an entry of the one table of strategies (`actor.strategy`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

import mcts
from kit.seeds import derived_seed, generator
from models.abilities import Rollout
from models.policy import Policy
from models.steps.codec import Codec
from selfplay.config import TEACHERS, ActorConfig
from selfplay.run.traces import Trace
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.settle import scored, settled
from selfplay.teach.targets import Targets, search_rows
from selfplay.teach.teachers import NO_ROWS
from selfplay.team import Team
from solve.search.tree import Tree
from solve.strategies import way
from solve.types import SolveError, Workbench
from tasks.base import Problem, Rows, Scorer, Task
from tasks.judging.scorers import Replay

TREES = 128  # trees searched at once: a wave stays in cache and the trie in memory
SAMPLES = 4  # samples drawn at once by star
MINING_ROUNDS = 4  # at most this many times `problems` are tried greedily to find those that fail


@dataclass(frozen=True)
class Experience:
    """One iteration's harvest of one rank."""

    rows: Rows
    traces: list[Trace]
    generated_tokens: int
    prefilled_tokens: int
    problems: int
    solved: int
    mined: int  # problems tried greedily to find the hard ones

    @staticmethod
    def empty() -> Experience:
        return Experience(NO_ROWS, [], 0, 0, 0, 0, 0)

    def summary(self, team: Team) -> dict:
        """Totals over the team for a line of metrics; empty where nothing was generated. Collective."""
        problems, solved, mined = np.sum(team.gather([self.problems, self.solved, self.mined]), axis=0).tolist()
        if not problems and not mined:
            return {}
        return {"problems": problems, "solved": solved / max(problems, 1), "mined": mined}


@dataclass(frozen=True)
class Origin:
    """Which net made a trace, and when."""

    seed: int
    iteration: int
    model_hash: str


def act(
    policy: Policy,
    task: Task,
    teacher: str,
    config: ActorConfig,
    team: Team,
    *,
    seed: int,
    iteration: int,
    trust_value: bool = True,
    scorer: Scorer | None = None,
    codec: Codec | None = None,
) -> Experience:
    """This rank's share of one iteration's problems, searched or sampled, as rows and traces.

    `trust_value`: False hides the value head from the search, which then orders by the policy alone. `scorer`: judges answers
    when a search has ended, where the task cannot; no search sees it. `codec`: of who learns from the rows; None: the policy
    itself does, and they hold the tokens that it sampled.

    Raises:
        ValueError: the task needs a scorer and there is none.
        SolveError: the policy cannot do what the strategy needs.
    """
    if scorer is None:
        if not task.self_verifying:
            raise ValueError(
                f"task {task.name} needs gold answers to be judged: give act a scorer; no search may see it"
            )
        scorer = Replay(task)
    reader = codec or policy.codec(task)
    if reader is None:
        raise ValueError(f"policy {policy.name} keeps its tokens to itself: give act the codec of who learns")
    builder = RowBuilder(task, reader, own=codec is None)
    rng = generator(seed, "act", iteration, team.rank)
    origin = Origin(seed, iteration, policy.version)
    wanted = max(1, config.problems // team.size)
    problems, mined, tokens = draw_problems(policy, task, wanted, config, rng, scorer)
    if TEACHERS[teacher].acts == "search":
        harvest = searched(policy, task, problems, config, rng, origin, trust_value, scorer, builder)
    else:
        harvest = sampled(policy, task, problems, config, rng, origin, scorer, builder)
    return replace(harvest, mined=mined, generated_tokens=harvest.generated_tokens + tokens)


def draw_problems(
    policy: Policy, task: Task, n: int, config: ActorConfig, rng: np.random.Generator, scorer: Scorer
) -> tuple[list[Problem], int, int]:
    """(practice problems, problems tried, generated tokens): all, or with `mine` those that greedy decoding fails."""
    if not config.mine:
        return task.practice(n, rng), 0, 0
    tried = task.practice(MINING_ROUNDS * n, rng)
    hard, tokens, at = [], 0, 0
    while len(hard) < n and at < len(tried):
        batch = tried[at : at + n]
        at += len(batch)
        greedy = scored(scorer, batch, policy.chains(task, batch, temperature=0.0))
        for problem, chains in zip(batch, greedy, strict=True):
            tokens += chains[0].tokens
            if chains[0].verdict.reward < 1:
                hard.append(problem)
    return hard[:n], at, tokens


def searched(policy, task, problems, config, rng, origin, trust_value, scorer, builder) -> Experience:
    """Tree search that goes on after the first solution; rows by graph backup."""
    traces, tree = [], tree_of(config, task)
    seed = derived_seed(origin.seed, "search", origin.iteration)
    bench = Workbench(policy, task, "task" if task.self_verifying else "none", trust_value, seed)
    limits, full = mcts.playout_caps(
        len(problems), full=config.tokens, cheap=config.cheap_tokens, share=config.full_share, rng=rng
    )
    order = np.argsort(~full, kind="stable")  # those that teach the policy come first
    generated = prefilled = solved = 0
    for start in range(0, len(order), TREES):
        part = order[start : start + TREES]
        chosen = [problems[i] for i in part]
        search = tree.start(bench, chosen, config.tokens)
        search.advance(limits[part], simulations=config.simulations)
        result = settled(scorer, chosen, search.result, search.evaluator)
        targets = Targets.of(result.store, config.discount, trust_value=trust_value)
        for k, (problem, teach) in enumerate(zip(chosen, full[part].tolist(), strict=True)):
            search_rows(builder, task, problem, result, k, targets, search.evaluator, config, rng, teach_policy=teach)
            traces.append(_search_trace(task, problem, result, k, targets, search.evaluator, config, origin, scorer))
        generated += int(result.tokens.sum())
        prefilled += search.prefilled_tokens
        solved += int(result.solved.sum())
    return Experience(builder.rows(), traces, generated, prefilled, len(problems), solved, 0)


def tree_of(config: ActorConfig, task: Task) -> Tree:
    """The search that `actor.strategy` names, with the discount of the run's value targets.

    Raises:
        SolveError: a strategy that grows no tree, or none at all.
    """
    tree = way(config.strategy, task).search
    if not isinstance(tree, Tree):
        raise SolveError(f"actor.strategy={config.strategy} grows no tree to learn from: use selfplay, puct or gumbel")
    return replace(tree, rule=replace(cast("Any", tree.rule), discount=config.discount), go_on=True)


def sampled(policy, task, problems, config, rng, origin, scorer, builder) -> Experience:
    """STaR (Zelikman et al. 2022), sampling part: independent chains until the tokens are spent; accepted ones teach."""
    traces: list[Trace] = []
    paid = np.zeros(len(problems), np.int64)
    good: list[list[Rollout]] = [[] for _ in problems]
    bad: list[list[Rollout]] = [[] for _ in problems]
    active, round_ = np.arange(len(problems)), 0
    while len(active):
        seed = derived_seed(origin.seed, "star", origin.iteration, round_)
        some = [problems[i] for i in active]
        batch = scored(scorer, some, policy.chains(task, some, SAMPLES, temperature=config.temperature, seed=seed))
        before = paid.copy()
        for i, chains in zip(active, batch, strict=True):
            for chain in chains:
                if paid[i] < config.tokens:
                    paid[i] += chain.tokens
                    (good if chain.verdict.reward >= 1 else bad)[i].append(chain)
        active = active[
            (paid[active] < config.tokens) & (paid[active] > before[active])
        ]  # a server may refuse a prompt
        round_ += 1
    for i, problem in enumerate(problems):
        _star_rows(builder, task, problem, good[i], bad[i], config, rng)
        best = good[i][0] if good[i] else bad[i][0]
        traces.append(_star_trace(task, problem, best, bool(good[i]), int(paid[i]), config, origin))
    return Experience(builder.rows(), traces, int(paid.sum()), 0, len(problems), sum(map(bool, good)), 0)


def _star_rows(builder, task, problem, good, bad, config, rng) -> None:
    distinct = {tuple(chain.steps): chain for chain in good}
    solved = [list(distinct.values())[k] for k in rng.permutation(len(distinct))]
    before = len(builder)
    for chain in solved:
        if len(builder) - before >= config.rows_per_problem:
            break
        steps = chain.history
        values = [config.discount ** (len(steps) - k) for k in range(len(steps))]
        builder.chain(problem, steps, [1.0] * len(steps), values, np.nan if task.self_verifying else 1.0)
    states = [(builder.state, chain.history[:k]) for chain in bad for k in range(1, len(chain.steps))]
    if not task.self_verifying:
        states += [
            (builder.ended, chain.history) for chain in bad if chain.verdict.legal and task.answer(problem, chain.steps)
        ]
    for k in rng.permutation(len(states))[: config.losing_rows]:
        teach, steps = states[k]
        teach(problem, steps, 0.0)


def _search_trace(task, problem, result, tree, targets, evaluator, config, origin, scorer) -> Trace:
    path = result.solution_path(tree) if result.solved[tree] else result.best_path(tree)
    store = result.store
    steps = tuple(evaluator.step(int(store.edge_handles[e])).text for e in path)
    ends = store.edges["child"][path]
    return _trace(
        task,
        problem,
        steps,
        origin,
        visits=tuple(int(v) for v in store.edges["visits"][path]),
        targets=tuple(float(targets.distance[end] != mcts.UNREACHED) for end in ends),
        values=tuple(float(targets.value[end]) for end in ends),
        reward=scorer.score([problem], [steps])[0].reward,
        solved=bool(result.solved[tree]),
        rule=config.strategy,
        generated_tokens=int(result.tokens[tree]),
    )


def _star_trace(task, problem, chain: Rollout, solved: bool, tokens: int, config, origin) -> Trace:
    steps = tuple(chain.steps)
    return _trace(
        task,
        problem,
        steps,
        origin,
        visits=(1,) * len(steps),
        targets=(float(solved),) * len(steps),
        values=tuple(config.discount ** (len(steps) - 1 - k) if solved else 0.0 for k in range(len(steps))),
        reward=chain.verdict.reward,
        solved=solved,
        rule="star",
        generated_tokens=tokens,
    )


def _trace(task, problem, steps: tuple[str, ...], origin: Origin, **found: Any) -> Trace:
    return Trace(
        problem_id=problem.id,
        task=task.name,
        prompt=task.prompt(problem),
        completion="".join(steps),
        steps=steps,
        kinds=tuple(task.parse_step(problem, steps[:k], step)[0] for k, step in enumerate(steps)),
        seed=origin.seed,
        iteration=origin.iteration,
        model_hash=origin.model_hash,
        policy_version=origin.iteration - 1,
        **found,
    )
