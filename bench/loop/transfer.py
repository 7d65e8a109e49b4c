"""What a trained language model can do beyond its training, and what it lost: its task made harder, and plain text.

    python -m bench transfer policies=BEFORE,AFTER,... [task=sums] [harder="terms_min:6 terms_max:8, operand_max:99"]

Every policy solves the same test problems, one greedy chain each, of the task and of each harder form of it, and reads the
same lines of this project's pages. Differences are of each policy and the first, paired by problem and by line.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from bench import command
from kit.seeds import derived_seed
from kit.statistics import paired_difference, wilson
from models.policy import Policy, open_policy
from tasks import Problem, Task, make_task

PAGES = "docs/*.md"
SHORTEST = 60  # characters of a line of prose
GREEDY = 0.0


def main(
    policies: str = "",
    task: str = "sums",
    harder: str = "terms_min:6 terms_max:8, operand_max:99",
    problems: int = 300,
    lines: int = 200,
    run_dir: str = "",
) -> dict[str, Any]:
    """Print a line for each policy and task; `policies`: folders between commas, the first is what others are compared with.

    Raises:
        command.UsageError: no policy, or an option that is not NAME:VALUE.
    """
    names = [name for name in policies.split(",") if name]
    if not names:
        raise command.UsageError("nothing to measure: write policies=BEFORE,AFTER")
    torch.set_num_threads(1)
    forms = {text: options(text) for text in ["", *filter(None, map(str.strip, harder.split(",")))]}
    text = prose(lines)
    rows: list[dict[str, Any]] = []
    first: dict[str, np.ndarray] = {}

    def told(name: str, form: str, values: np.ndarray, said: str, scale: float) -> None:
        """One line, with the difference from the first policy's."""
        between = paired_difference(values, first.setdefault(form, values))
        rows.append({"policy": name, "form": form, "value": float(values.mean()), **asdict(between)})
        if len(rows) > len(forms) + 1:
            said += f"; {scale * between.mean:+.3g} +-{scale * between.half_width:.2g} from the first"
        print(f"{name}  {form}: {said}")

    for name in names:
        policy = open_policy(name, trainable=True, device="cpu").policy
        for form, chosen in forms.items():
            made = make_task(task, **chosen)
            solved = greedy(policy, made, made.first_problems("test", problems))
            low, high = wilson(int(solved.sum()), len(solved))
            share = f"{100 * solved.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f}, n={len(solved)})"
            told(name, form or task, solved, share, 100)
        loss = losses(policy.model, text)
        told(name, "plain lines", loss, f"{loss.mean():.4f} nats a token (n={len(loss)})", 1)
    result = {"rows": rows}
    command.save(result, run_dir, "transfer")
    return result


def options(text: str) -> dict[str, int]:
    """`terms_min:6 terms_max:8` as options of a task.

    Raises:
        command.UsageError: it is not so written.
    """
    try:
        return {name: int(value) for name, value in (part.split(":") for part in text.split())}
    except ValueError:
        raise command.UsageError(
            f"harder={text}: write NAME:NUMBER, blanks between options, commas between forms"
        ) from None


def greedy(policy: Policy, task: Task, problems: list[Problem]) -> np.ndarray:
    """Which problems a greedy chain solves, bool [P]."""
    chains = policy.chains(task, problems, temperature=GREEDY, seed=derived_seed(0, "transfer"))
    return np.array([chain.verdict.reward >= 1 for (chain,) in chains])


def prose(n: int) -> list[str]:
    """The first lines of plain English in this project's pages."""
    pages = sorted(command.CHECKOUT.glob(PAGES))
    lines = [
        line for page in pages for line in page.read_text().splitlines() if len(line) >= SHORTEST and line[0].isalpha()
    ]
    return lines[:n]


@torch.no_grad()
def losses(model: Any, lines: list[str]) -> np.ndarray:
    """Mean negative log-likelihood of the tokens of each line behind its first one, in nats, [lines]."""
    found = []
    for line in lines:
        tokens = torch.tensor([model.tokenizer(line, add_special_tokens=False).input_ids], device=model.device)
        logits = model(tokens)[0][0, :-1].float()
        found.append(float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:])))
    return np.array(found)
