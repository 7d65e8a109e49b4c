"""A value head for a pretrained model: `python -m selfplay.value out=FOLDER [SETTING=VALUE ...]`.

mode=frozen  the trunk stays as it is, bit for bit: it reads the states once, and the head learns from its final hidden states.
mode=lora    low-rank adapters in every linear layer of the trunk (Hu et al. 2021; peft) then learn together with that head and
             are merged into the weights, so that what is saved is again a plain model; a new head learns from its states.

What is learned from are states of random legal play with Monte-Carlo targets (`Task.value_play`) and, for `own_share` of the
rows, states of the model's own sampled chains with their outcomes; no solver. Exact labels only measure, on dev states of
random play and of the model's own chains, beside controls that never look at a hidden state.

Legend: B rows, L tokens, N states with a target, D hidden size, V vocabulary.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from kit import command
from kit.pages import page
from kit.seeds import derived_seed, generator
from models.abilities import PolicyError
from models.files.calibration import write_calibration
from models.files.checkpoint import save_checkpoint
from models.files.manifest import MANIFEST, CheckpointError
from models.local_policy import LocalPolicy
from models.net.adapters import peft_library
from models.net.output_rule import TrainError
from models.net.policy_value import PolicyValueLM
from models.policy import open_policy
from models.steps.codec import codec_of
from selfplay.config import ConfigError
from selfplay.learn.learner import select, stack, trim
from selfplay.teach.row_builder import RowBuilder
from selfplay.value.states import Examples, calibrated, controls, dev_states, measured
from selfplay.value.training import (
    MODES,
    Settings,
    StandardisedHead,
    adapt,
    add_adapters,
    features,
    fit_head,
    install,
    merge,
    policy_change,
    probabilities,
)
from tasks import NEWLINE, Rows, Task, TaskError, make_task
from tasks.free_play import free_play

HELD_OUT = 10  # one prompt in so many stops the training early
OWN_CHAINS = 256  # sampled at once
POLICY_ROWS = 64  # of dev problems solved, that show how far adapters move the policy


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from `KEY=VALUE` words, each of the type of its default.

    Raises:
        UsageError: a key that is not there, or a value of another type.
        ConfigError: a value that cannot work.
    """
    ours = [argument for argument in arguments if argument.startswith("task.")]
    known = {name: value for name, value in asdict(Settings()).items() if name != "options"}
    chosen = command.settings([argument for argument in arguments if argument not in ours], known)
    options = dict(argument.removeprefix("task.").split("=", 1) for argument in ours if "=" in argument)
    chosen["options"] = {name: _plain(text) for name, text in options.items()}
    settings = Settings(**chosen)
    _check(settings)
    return settings


def _plain(text: str) -> Any:
    """A number, true, false or null where the text is one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check(settings: Settings) -> None:
    if not settings.out:
        raise ConfigError("where to? add out=FOLDER")
    out = Path(settings.out)
    if out.exists() and not (out / MANIFEST).is_file():
        raise ConfigError(f"out={out} exists and is no checkpoint: name a new folder")
    if settings.mode not in MODES:
        raise ConfigError(f"mode={settings.mode} is unknown: use one of {', '.join(MODES)}")
    for name in ("examples", "rank", "steps", "rows", "dev", "head_learning_rate", "learning_rate"):
        if not 0 < getattr(settings, name) < math.inf:
            raise ConfigError(f"{name}={getattr(settings, name)} must be positive")
    for name in ("few_shot", "dev_samples", "seed", "policy_coefficient"):
        if not 0 <= getattr(settings, name) < math.inf:
            raise ConfigError(f"{name}={getattr(settings, name)} must be 0 or more")
    if not 0 <= settings.own_share <= 1:
        raise ConfigError(f"own_share={settings.own_share} must lie in 0..1")
    if settings.policy_coefficient and not settings.own_share:
        raise ConfigError("policy_coefficient needs chains of the model to hold it to: set own_share, e.g. 0.5")
    if settings.mode == "lora":
        peft_library("mode=lora")


def train_value_head(settings: Settings, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Load, learn, measure before and after, save; returns what was measured, as the folder's extra.json has it.

    `say` takes the lines that a person wants to read.

    Raises:
        ConfigError, TaskError, CheckpointError: one line that names the mend.
    """
    _check(settings)
    task = make_task(settings.task, **settings.options)
    policy = open_policy(settings.model, trainable=True, dtype=settings.dtype, few_shot=settings.few_shot).policy
    model, tokenizer = policy.model, policy.tokenizer
    model.requires_grad_(False)
    torch.manual_seed(derived_seed(settings.seed, "weights") % 2**31)
    dev = dev_states(model, task, settings)
    if settings.dev_samples and "own" not in dev:
        say("dev own: no sampled chain of the model took a legal step that goes on; measured on random play only")
    looks = {name: features(model, states.examples.rows) for name, states in dev.items()}
    before = {name: probabilities(model.value_head, looks[name].hidden) for name in dev}

    examples = training_examples(model, task, settings, settings.examples)
    held = held_out(examples.prompts, settings.seed)
    seen = features(model, examples.rows)
    head, fit = fit_head(seen.hidden, seen.target, held[seen.row], settings.head_learning_rate)
    plain, _ = fit_head(seen.bag, seen.target, held[seen.row], settings.head_learning_rate)
    bare = {name: controls(states, probabilities(plain, looks[name].bag)) for name, states in dev.items()}
    result: dict[str, Any] = {"settings": asdict(settings), "rows": len(held), "states": len(seen.row), "head": fit}
    say(f"{len(held)} rows, {len(seen.row)} states, mean target {seen.target.mean():.2f}; head alone: {_said(fit)}")
    if settings.mode == "frozen":
        install(model, head)
    else:
        result["lora"] = _adapted(model, task, head, examples, held, settings)
        say(f"adapters: {_said(result['lora'])}")
        looks = {name: features(model, states.examples.rows) for name, states in dev.items()}
    for name, states in dev.items():
        after = probabilities(model.value_head, looks[name].hidden)
        both = {"before": measured(before[name], states), "after": measured(after, states)}
        size = {"n": len(states.label), "problems": len(set(states.examples.prompts))}
        result[name] = size | {"positive": float(states.label.mean())} | both | {"controls": bare[name]}
        for line in _table(name, result[name]):
            say(line)
    result = json.loads(json.dumps(result, default=str), parse_constant=lambda _: None)  # NaN is no JSON
    save_checkpoint(settings.out, model, tokenizer, {"value_head": result})
    write_calibration(settings.out, calibrated(model, task, dev.get("own"), looks.get("own"), settings))
    say(f"saved: {settings.out}")
    return result


def _adapted(
    model: PolicyValueLM, task: Task, head: StandardisedHead, examples: Examples, held: np.ndarray, settings: Settings
) -> dict[str, float]:
    """Adapters learn with the head on rows new to it and are merged; then a head learns from what the trunk has become."""
    fresh = training_examples(model, task, settings, settings.steps * settings.rows, "adapters")
    rows = select(fresh.rows, np.flatnonzero(~held_out(fresh.prompts, settings.seed)))
    adapters = add_adapters(model, settings.rank)
    told = adapt(model, head, rows, select(examples.rows, np.flatnonzero(held)), settings)
    solved = free_play(task).hindsight("dev", POLICY_ROWS, generator(settings.seed, "policy"))
    told |= policy_change(model, adapters, codec_of(model, task).rows(solved))
    merge(model, head, adapters)
    seen = features(model, examples.rows)
    anew, fit = fit_head(seen.hidden, seen.target, held[seen.row], settings.head_learning_rate)
    install(model, anew)
    return told | {f"anew_{name}": value for name, value in fit.items()}


# ---- what is learned from, and what is measured on


def training_examples(
    model: PolicyValueLM, task: Task, settings: Settings, n: int, purpose: str = "value_play"
) -> Examples:
    """`n` rows of the train split with value targets: random legal play, and `own_share` of the model's own chains.

    Raises:
        ConfigError: the task has no value targets.
    """
    own = round(settings.own_share * n)
    parts, prompts = [], []
    if n > own:
        rows = free_play(task).value_play("train", n - own, generator(settings.seed, purpose))
        if np.isnan(rows.value).all():
            raise ConfigError(f"random play of task {task.name} has no value targets: set own_share=1")
        if not task.reversible:
            rows = _without_prompts(rows)
        parts.append(codec_of(model, task).rows(rows))
        prompts += [task.decode(row[1:].tolist()).partition(NEWLINE)[0] for row in rows.tokens]
    if own:
        made = own_examples(model, task, own, derived_seed(settings.seed, purpose))
        parts.append(made.rows)
        prompts += made.prompts
    return Examples(trim(stack(parts)), prompts)


def _without_prompts(rows: Rows) -> Rows:
    """No target at the prompt of a row that has others: every problem can be solved, and what a target there says of random
    play's luck spoils the head (AUC on dev states .69 with it, .76 without; docs/LOG.md)."""
    value, known = rows.value.copy(), ~np.isnan(rows.value)
    more = np.flatnonzero(known.sum(1) > 1)
    value[more, known[more].argmax(1)] = np.nan
    return Rows(rows.tokens, rows.weight, value)


def own_examples(model: PolicyValueLM, task: Task, n: int, seed: int) -> Examples:
    """`n` rows of chains that the model samples on train problems: a state, the step that it took there as the policy's target,
    and what the chain came to (1 if solved, discounted by the steps to it) as the state's value."""
    policy, discount = LocalPolicy(model), task.discount
    builder, prompts = RowBuilder(task, policy.codec(task)), []
    rng = generator(seed, "own")
    while len(builder) < n:  # a chain gives a row at least
        chain_seed = derived_seed(seed, "own", len(builder))
        problems = task.practice(min(OWN_CHAINS, n - len(builder)), rng)
        for problem, (chain,) in zip(problems, policy.chains(task, problems, seed=chain_seed), strict=True):
            steps = chain.history
            for k, step in enumerate(steps):
                value = chain.verdict.reward * discount ** (len(steps) - k)
                builder.step(problem, steps[:k], step, 1.0, value)
                prompts.append(task.prompt(problem).partition(NEWLINE)[0])
    return Examples(select(builder.rows(), np.arange(n)), prompts[:n])


def held_out(prompts: Sequence[str], seed: int) -> np.ndarray:
    """bool [B]: a tenth of the prompts, which no gradient sees. A problem shown in two orders is two prompts.

    Raises:
        ConfigError: too few prompts for both parts.
    """
    held = np.array([zlib.crc32(f"{seed} {prompt}".encode()) % HELD_OUT == 0 for prompt in prompts])
    if held.all() or not held.any():
        raise ConfigError(f"{len(set(prompts))} prompts are too few to hold a tenth out: raise examples")
    return held


# ---- what a person reads


def _table(name: str, found: dict[str, Any]) -> list[str]:
    old, new, bare = found["before"], found["after"], found["controls"]
    (low, high), positive = new["auc_ci95"], 100 * found["positive"]
    return [
        f"dev {name}: {found['n']} states of {found['problems']} problems, {positive:.0f} % positive | AUC {old['auc']:.3f} -> "
        f"{new['auc']:.3f} [{low:.3f}, {high:.3f}], ECE {old['ece']:.3f} -> {new['ece']:.3f}, "
        f"Brier {old['brier']:.3f} -> {new['brier']:.3f}",
        f"  controls, AUC: {', '.join(f'{key} {value:.3f}' for key, value in bare.items())}",
    ]


def _said(numbers: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())


def main(arguments: Sequence[str]) -> int:
    """The command; exit code 0, or 2 with one line on stderr that says why it was refused."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__, page(Settings), sep="\n")
        return 0
    try:
        train_value_head(parse(arguments), Console(soft_wrap=True, markup=False, highlight=False).print)
    except (command.UsageError, ConfigError, TrainError, TaskError, PolicyError, CheckpointError, OSError) as error:
        return command.refused(error, "selfplay.value")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
