"""The actor: new experience from the acting net, by search (`search`) or by independent samples (`star`).

Both pay for every generated token from the same account, so that teachers can be compared at equal tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

import mcts
from models.checkpoint import weights_hash
from models.codec import codec_of
from models.evaluator import ModelEvaluator
from models.rollout import Rollout, rollouts
from models.trie_forward import TrieForward, forward_for, is_plain_llama
from selfplay.chains import RowBuilder
from selfplay.config import ActorConfig
from selfplay.randomness import derived_seed, generator
from selfplay.scoring import scored, settled
from selfplay.targets import Targets, search_rows
from selfplay.teachers import NO_ROWS
from selfplay.team import Team
from selfplay.traces import Trace
from tasks.base import Problem, Rows, Scorer, Task
from tasks.scoring import Replay

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
    model,
    task: Task,
    teacher: str,
    config: ActorConfig,
    team: Team,
    *,
    seed: int,
    iteration: int,
    trust_value: bool = True,
    scorer: Scorer | None = None,
) -> Experience:
    """This rank's share of one iteration's problems, searched or sampled, as rows and traces.

    `trust_value`: False hides the value head from the search, which then orders by the policy alone. `scorer`: judges answers
    when a search has ended, where the task cannot; no search sees it.

    Raises:
        ValueError: the task needs a scorer and there is none.
    """
    if scorer is None:
        if not task.self_verifying:
            raise ValueError(
                f"task {task.name} needs gold answers to be judged: give act a scorer; no search may see it"
            )
        scorer = Replay(task)
    rng = generator(seed, "act", iteration, team.rank)
    origin = Origin(seed, iteration, weights_hash(model))
    wanted = max(1, config.problems // team.size)
    problems, mined, tokens = draw_problems(model, task, wanted, config, rng, scorer)
    if teacher == "search":
        harvest = searched(model, task, problems, config, rng, origin, trust_value, scorer)
    else:
        harvest = sampled(model, task, problems, config, rng, origin, scorer)
    return replace(harvest, mined=mined, generated_tokens=harvest.generated_tokens + tokens)


def draw_problems(
    model, task: Task, n: int, config: ActorConfig, rng: np.random.Generator, scorer: Scorer
) -> tuple[list[Problem], int, int]:
    """(practice problems, problems tried, generated tokens): all, or with `mine` those that greedy decoding fails."""
    if not config.mine:
        return task.practice(n, rng), 0, 0
    tried = task.practice(MINING_ROUNDS * n, rng)
    hard, tokens, at = [], 0, 0
    while len(hard) < n and at < len(tried):
        batch = tried[at : at + n]
        at += len(batch)
        forward = acting_forward(model, task, config)
        found = scored(scorer, batch, rollouts(model, task, batch, 1, temperature=0.0, seed=0, forward=forward))
        for problem, chains in zip(batch, found, strict=True):
            tokens += chains[0].tokens
            if chains[0].verdict.reward < 1:
                hard.append(problem)
    return hard[:n], at, tokens


def searched(model, task, problems, config, rng, origin, trust_value, scorer) -> Experience:
    """Tree search that goes on after the first solution; rows by graph backup."""
    builder, traces = RowBuilder(task), []
    evaluator = ModelEvaluator(
        model,
        task,
        temperature=config.temperature,
        seed=derived_seed(origin.seed, "search", origin.iteration),
        forward=acting_forward(model, task, config),
    )
    rule = make_rule(config, task)
    generated = solved = 0
    full = rng.random(len(problems)) < config.full_share
    order = [*np.flatnonzero(full), *np.flatnonzero(~full)]
    for start in range(0, len(order), TREES):
        part = order[start : start + TREES]
        for teach, share in ((True, [i for i in part if full[i]]), (False, [i for i in part if not full[i]])):
            if not share:
                continue
            chosen = [problems[i] for i in share]
            budget = mcts.Budget(config.simulations, config.tokens if teach else config.cheap_tokens)
            roots = evaluator.begin(chosen)
            result = mcts.search(
                roots,
                evaluator if trust_value else _ValueBlind(evaluator),
                rule,
                budget,
                wave_size=config.wave,
                seed=derived_seed(origin.seed, "rule", origin.iteration),
            )
            result = settled(scorer, chosen, result, evaluator)
            targets = Targets.of(result.store, config.discount, trust_value=trust_value)
            for tree, problem in enumerate(chosen):
                search_rows(builder, task, problem, result, tree, targets, evaluator, config, rng, teach_policy=teach)
                traces.append(_search_trace(task, problem, result, tree, targets, evaluator, config, origin, scorer))
            generated += int(result.tokens.sum())
            solved += int(result.solved.sum())
    return Experience(builder.rows(), traces, generated, evaluator.prefilled_tokens, len(problems), solved, 0)


def sampled(model, task, problems, config, rng, origin, scorer) -> Experience:
    """STaR (Zelikman et al. 2022), sampling part: independent chains until the tokens are spent; accepted ones teach."""
    builder, traces = RowBuilder(task), []
    paid = np.zeros(len(problems), np.int64)
    good: list[list[Rollout]] = [[] for _ in problems]
    bad: list[list[Rollout]] = [[] for _ in problems]
    active, round_ = np.arange(len(problems)), 0
    forward = acting_forward(model, task, config)
    while len(active):
        seed = derived_seed(origin.seed, "star", origin.iteration, round_)
        some = [problems[i] for i in active]
        batch = rollouts(model, task, some, SAMPLES, temperature=config.temperature, seed=seed, forward=forward)
        batch = scored(scorer, some, batch)
        for i, chains in zip(active, batch, strict=True):
            for chain in chains:
                if paid[i] < config.tokens:
                    paid[i] += chain.tokens
                    (good if chain.verdict.reward >= 1 else bad)[i].append(chain)
        active = active[paid[active] < config.tokens]
        round_ += 1
    for i, problem in enumerate(problems):
        _star_rows(builder, task, problem, good[i], bad[i], config, rng)
        best = good[i][0] if good[i] else bad[i][0]
        traces.append(_star_trace(task, problem, best, bool(good[i]), int(paid[i]), config, origin))
    return Experience(builder.rows(), traces, int(paid.sum()), 0, len(problems), sum(map(bool, good)), 0)


def _star_rows(builder, task, problem, good, bad, config, rng) -> None:
    distinct = {tuple(chain.steps): chain for chain in good}
    solved = [list(distinct)[k] for k in rng.permutation(len(distinct))]
    before = len(builder)
    for steps in solved:
        if len(builder) - before >= config.rows_per_problem:
            break
        values = [config.discount ** (len(steps) - k) for k in range(len(steps))]
        builder.chain(problem, steps, [1.0] * len(steps), values, np.nan if task.self_verifying else 1.0)
    states = [(builder.state, chain.steps[:k]) for chain in bad for k in range(1, len(chain.steps))]
    if not task.self_verifying:
        states += [
            (builder.ended, chain.steps) for chain in bad if chain.verdict.legal and task.answer(problem, chain.steps)
        ]
    for k in rng.permutation(len(states))[: config.losing_rows]:
        teach, steps = states[k]
        teach(problem, steps, 0.0)


def acting_forward(model, task: Task, config: ActorConfig) -> TrieForward:
    """How the acting net is computed: a pretrained one in its own way, one trained from scratch as `actor.dtype` says."""
    codec = codec_of(model, task)
    from_scratch = model.tokenizer is None and is_plain_llama(model.trunk)
    settings = {"autocast": torch.bfloat16} if from_scratch and config.dtype == "auto" else {}
    return forward_for(model, codec.vocabulary_size, codec.masked, **settings)


def make_rule(config: ActorConfig, task: Task) -> mcts.Rule:
    """The rule that the configuration names."""
    common: dict[str, Any] = {"n_candidates": config.candidates, "discount": config.discount}
    if config.rule == "best_first":
        return mcts.BestFirst(draw=cast("mcts.Draw", config.draw), rollout=follows_to_the_end(config, task), **common)
    if config.rule == "puct":
        return mcts.PUCT(**common)
    if config.rule == "gumbel":
        return mcts.Gumbel(**common)
    return mcts.Proportional(**common)


def follows_to_the_end(config: ActorConfig, task: Task) -> bool:
    """`actor.rollout`; where steps can be undone a chain has no end of its own."""
    return not task.reversible if config.rollout is None else config.rollout


class _ValueBlind:
    """An evaluator whose every state looks the same to the rule; terminals keep their rewards."""

    def __init__(self, evaluator: ModelEvaluator):
        self._evaluator = evaluator

    def begin(self, problems: Sequence[Problem]) -> mcts.Roots:
        return self._evaluator.begin(problems)

    def expand(self, handles: np.ndarray, n_candidates: int, draw: mcts.Draw = "sample") -> mcts.Expansion:
        found = self._evaluator.expand(handles, n_candidates, draw)
        known = np.where((found.rewards == 0) | (found.rewards == 1), found.rewards, 0.5).astype(np.float32)
        return replace(found, rewards=known, raw_values=np.where(found.terminal, known, 0.5).astype(np.float32))


def _search_trace(task, problem, result, tree, targets, evaluator, config, origin, scorer) -> Trace:
    path = result.solution_path(tree) if result.solved[tree] else result.best_path(tree)
    store = result.store
    steps = tuple(evaluator.step_text(int(store.edge_handles[e])) for e in path)
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
        rule=config.rule,
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
