"""Ways to spend generated tokens on a problem, all with the verifier in the loop.

A token is paid when the model samples it. Best-of-N therefore pays a prefix again in every sample; a tree search samples no
token twice in one tree, which is what it is for. Enumeration, which asks no model, pays every step that it writes.
Every strategy returns, for each problem, the tokens it had paid when the verifier first accepted a chain, so that one
run gives the solve rate at every smaller budget. Only self-verifying tasks may be used:
no gold answer is in reach here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

import mcts
from models.evaluator import ModelEvaluator
from models.rollout import rollouts
from tasks.base import Problem, Task

NEVER = np.iinfo(np.int64).max  # not solved within the budget
ROUND = 16  # samples drawn at once by best-of-N


def best_of_n(
    model, task: Task, problems: Sequence[Problem], tokens: int, *, temperature: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Independent samples until one is accepted or `tokens` are spent. int64 [P]; every token is paid."""
    _require_self_verifying(task)
    paid = np.zeros(len(problems), np.int64)
    solved_at = np.full(len(problems), NEVER, np.int64)
    active, round_ = np.arange(len(problems)), 0
    while len(active):
        batch = [problems[i] for i in active]
        for i, chains in zip(
            active, rollouts(model, task, batch, ROUND, temperature=temperature, seed=seed + 7919 * round_), strict=True
        ):
            for chain in chains:
                paid[i] += chain.tokens
                if chain.verdict.reward >= 1 and solved_at[i] == NEVER and paid[i] <= tokens:
                    solved_at[i] = paid[i]
        active = active[(paid[active] < tokens) & (solved_at[active] == NEVER)]
        round_ += 1
    return solved_at


def tree_search(
    model,
    task: Task,
    problems: Sequence[Problem],
    tokens: int,
    *,
    rule: mcts.Rule,
    wave_size: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    trees: int = 256,
) -> np.ndarray:
    """Tree search under `rule`, stopped at the first accepted chain. int64 [P]; a token is paid once a tree."""
    _require_self_verifying(task)
    solved_at = np.full(len(problems), NEVER, np.int64)
    evaluator = ModelEvaluator(model, task, temperature=temperature, seed=seed)
    for start in range(0, len(problems), trees):
        part = problems[start : start + trees]
        result = mcts.search(
            evaluator.begin(part),
            evaluator,
            rule,
            mcts.Budget(tokens=tokens),
            wave_size=wave_size,
            seed=seed,
            stop_on_solution=True,
        )
        first = result.tokens_at_first_solution
        solved_at[start : start + len(part)] = np.where(result.solved & (first <= tokens), first, NEVER)
    return solved_at


def enumeration(task: Task, problems: Sequence[Problem], tokens: int, *, seed: int = 0) -> np.ndarray:
    """The policy-free control: legal steps in random order, equal states merged, each step's tokens paid. int64 [P].

    Depth first where chains are short and end (so that answers come early), breadth first where steps can be undone.
    """
    _require_self_verifying(task)
    return np.array(
        [_enumerate(task, problem, tokens, np.random.default_rng([seed, i])) for i, problem in enumerate(problems)]
    )


def solve_rate(solved_at: np.ndarray, tokens: int) -> np.ndarray:
    """Which problems were solved within a budget. bool [P]."""
    return solved_at <= tokens


def _enumerate(task: Task, problem: Problem, tokens: int, rng: np.random.Generator) -> int:
    start = task.initial_state(problem)
    seen, paid = {task.state_key(problem, start)}, 0
    open_ = deque([(0, _shuffled_steps(task, problem, start, rng))])
    while open_:
        depth, steps = open_[0] if task.reversible else open_[-1]
        step = next(steps, None)
        if step is None:
            open_.popleft() if task.reversible else open_.pop()
            continue
        text, state = step
        paid += len(task.encode(text))
        if paid > tokens:
            return NEVER
        verdict, child = task.advance(problem, state, text)
        if verdict.reward >= 1:
            return paid
        if child is None or depth + 1 >= task.max_steps or (key := task.state_key(problem, child)) in seen:
            continue
        seen.add(key)
        open_.append((depth + 1, _shuffled_steps(task, problem, child, rng)))
    return NEVER


def _shuffled_steps(
    task: Task, problem: Problem, state: tuple, rng: np.random.Generator
) -> Iterator[tuple[str, tuple]]:
    steps = task.legal_steps(problem, state)
    return ((steps[k], state) for k in rng.permutation(len(steps)))


def _require_self_verifying(task: Task) -> None:
    if not task.self_verifying:
        raise ValueError(f"task {task.name} needs gold answers to be judged: no strategy may see them during a search")
