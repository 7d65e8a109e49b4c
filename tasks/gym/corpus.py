"""Questions made by reasoning-gym (an optional dependency), with answers that we judge ourselves (`gym_scorers.py`).

Each split is generated from its own seeds; a question that came before, in its own split or an earlier one, is dropped, and so
is one whose oracle is missing, known to be wrong, or refused by our own judge. `GymCorpus.report` tells of all of them.

A question and an answer stand on one line. A line break of the library's text is written " / ", and " ⏎ " in the few texts
where " / " would be read in two ways; empty lines are left out, blanks within a line stay. So a grid of answers reads

    answer: 1 0 2 / 0 1 1 / 2 2 0

A few datasets draw with blanks (circuit_logic, figlet_font, rectangle_count): a model sees them only if its tokenizer does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

from tasks.base import SPLITS, AnswerKey, Problem, Split, Task, TaskError, Verdict, split_words
from tasks.guessing import CommonestAnswers, Guesser
from tasks.gym.items import Items, registry
from tasks.gym.scorers import ALLOWED, REFUSED, right
from tasks.gym.steps import WORKED
from tasks.judging.answer_line import answer_line, answer_of
from tasks.questions.corpus import SPARE_WORDS, Corpus, Item, Report
from tasks.questions.task import MOST_LINE, Question
from tasks.splits import check_int

FIRST_SEED: dict[Split, int] = {"train": 1_000_000_000, "dev": 2_000_000_000, "test": 3_000_000_000}
MOST_ITEMS = 1_000_000  # of a split; seeds end below 2**32, which numpy asks for
MOST_ANSWER = MOST_LINE - 20  # characters
LEAST_STEP_WORDS = 64
MOST_GUESSES, MOST_ASKED = 100, 400  # answers to rank, and the train items to rank them by
BREAK, OTHER_BREAK = " / ", " ⏎ "


@dataclass(frozen=True)
class GymCorpus(Corpus):
    """Generated items. `key`: by id, JSON of the oracle and what else the dataset's judge reads."""

    dataset: str = ""
    key: AnswerKey = field(default_factory=lambda: AnswerKey({}))

    def scorer(self) -> GymScorer:
        """Alone holds the gold answers of all splits."""
        return GymScorer(self.task(), self.dataset, self.key)

    def guesser(self) -> Guesser:
        """Alone holds answers of the train split: the commonest, ranked by how many train items they are right on."""
        train = [item for item in self.items if item.split == "train"]
        ranked = [answer for answer, _ in Counter(item.answer for item in train).most_common(MOST_GUESSES)]
        gold = [json.loads(self.key.answers[item.question.id]) for item in train[:MOST_ASKED]]
        return CommonestAnswers(answer for facts in gold for answer in ranked if right(self.dataset, answer, facts))


class GymScorer:
    """Legal chains whose answer line is right by the judge of `dataset`, in this process: reward 0 or 1."""

    def __init__(self, task: Task, dataset: str, key: AnswerKey):
        self._task, self._dataset, self._key = task, dataset, key

    def score(self, problems: Sequence[Problem], chains: Sequence[Sequence[str]]) -> list[Verdict]:
        """See `Scorer.score`.

        Raises:
            KeyError: a problem that the key does not know.
        """
        return [self._score(problem, chain) for problem, chain in zip(problems, chains, strict=True)]

    def _score(self, problem: Problem, chain: Sequence[str]) -> Verdict:
        verdict = self._task.verdict(problem, chain)
        if verdict.scored:
            return verdict
        if right(self._dataset, answer_of(chain) or "", json.loads(self._key.answers[problem.id])):
            return Verdict(1.0, True, True, "right")
        return Verdict(0.0, True, True, "not the answer, or not in its form")


def read_gym(
    dataset: str,  # of reasoning-gym, e.g. gcd; docs/results/reasoning_gym.md lists the allowed ones and why others are not
    *,
    train: int = 2000,  # items to generate; those without a sound oracle or with an earlier item's question are dropped
    dev: int = 200,
    test: int = 500,
    config: dict | None = None,  # the dataset's own options, e.g. {max_value: 50}; null: the library's
    shown: int = 3,  # train items shown to pretrained models before each question
    max_steps: int = 8,  # of a chain
    max_step_words: int | None = None,  # of a step; null: 64, or a little more than the longest answer
    worked: bool = False,  # true: train items come with the steps to their answers (chain_sum, gcd, prime_factorization)
) -> GymCorpus:
    """Generate `train`, `dev` and `test` items of a dataset; those that are dropped are not replaced.

    `config`: the dataset's own options, e.g. {"max_value": 50} for gcd. `shown`, `max_steps`, `max_step_words`: see `Corpus`;
    a step may have 64 words, or a few more than the longest answer of train. `worked`: train items come with the steps that
    lead to their answers, for a learner (`gym_steps.py`: some datasets), and a chain may be as long as the longest of theirs.

    Raises:
        TaskError: unknown or refused dataset, no reasoning-gym here, options that it refuses, or a split left empty. One line.
    """
    check_int("shown", shown, 0, 100)
    check_int("train", train, shown + 1, MOST_ITEMS)
    for name, size in (("dev", dev), ("test", test)):
        check_int(name, size, 1, MOST_ITEMS)
    check_int("max_steps", max_steps, 1, 10_000)
    sizes = (train, dev, test)
    options = _options(dataset, config)
    if worked and dataset not in WORKED:
        raise TaskError(f"dataset {dataset} has no worked steps, {', '.join(WORKED)} have: leave task.worked=false")
    items, gold, dropped = _generated(dataset, sizes, options, worked)
    kept = Counter(item.split for item in items)
    report = Report(
        f"reasoning-gym {dataset}", "items", sum(sizes), {split: kept[split] for split in SPLITS}, list(dropped)
    )
    if any(not kept[split] for split in SPLITS) or kept["train"] <= shown:
        raise TaskError(f"too few items of {dataset} are left: {' '.join(str(report).split())}; ask for more")
    widest = max(len(split_words(answer_line(item.answer))) for item in items if item.split == "train")
    width = max_step_words or max(LEAST_STEP_WORDS, widest + SPARE_WORDS)
    longest = max(max_steps, *(len(item.steps) + 1 for item in items))
    return GymCorpus("gym", list(items), report, shown, longest, width, dataset, AnswerKey(dict(gold)))


def one_line(text: str) -> str:
    """`text` with its line breaks written out; see above."""
    lines = [line.rstrip() for line in text.strip("\n").split("\n") if line.strip()]
    joined = BREAK.join(lines)
    return (joined if joined.split(BREAK) == lines else OTHER_BREAK.join(lines)).strip()


def gold_of(dataset: str, item: dict) -> dict:
    """What the dataset's judge reads: the oracle on one line, and some of the metadata."""
    form = ALLOWED[dataset]
    return {"answer": one_line(form.oracle(item) or ""), **{name: item["metadata"][name] for name in form.needs}}


def why_not(dataset: str, item: dict) -> str:
    """Why an item cannot be used; "" if it can."""
    gold = gold_of(dataset, item)
    question, answer = one_line(item["question"]), gold["answer"]
    if not answer:
        return "no oracle"
    if len(answer) > MOST_ANSWER:
        return "the oracle is longer than a line"
    if any((ord(c) < 32 and c != "\t") or 0xD800 <= ord(c) < 0xE000 for c in question + answer):
        return "control characters or broken Unicode"
    return ALLOWED[dataset].flaw(item) or ("" if right(dataset, answer, gold) else "our judge refuses the oracle")


@lru_cache(maxsize=2)  # a run asks for its task, its scorer, its guesser and its report
def _generated(
    dataset: str, sizes: tuple[int, ...], config: str, worked: bool
) -> tuple[tuple[Item, ...], tuple[tuple[str, str], ...], tuple[tuple[int, str], ...]]:
    """(items, (id, gold) of each, (position from 1, reason) of each item that was dropped)."""
    items, gold, dropped = [], {}, []
    split_of: dict[str, Split] = {}
    read = 0
    for split, size in zip(SPLITS, sizes, strict=True):
        made = Items(dataset, json.loads(config), FIRST_SEED[split], size)
        for index in range(size):
            read += 1
            item = made[index]
            question = one_line(item["question"])
            name = blake2b(f"{dataset}\0{question}".encode(errors="replace"), digest_size=8).hexdigest()
            if name in split_of:
                dropped.append((read, f"{split}: the question came before, in {split_of[name]}"))
            elif reason := why_not(dataset, item):
                dropped.append((read, f"{split}: {reason}"))
            else:
                split_of[name] = split
                facts = gold_of(dataset, item)
                gold[name] = json.dumps(facts, default=_plain)
                steps = WORKED[dataset](item) if worked and split == "train" else []
                items.append(
                    Item(Question(name, question), facts["answer"], tuple(f"{step}\n" for step in steps), split)
                )
    return tuple(items), tuple(gold.items()), tuple(dropped)


def _plain(value) -> object:
    """A number of numpy's as one of Python's."""
    return value.item()


def _options(dataset: str, config: object) -> str:
    """The options of an allowed dataset as JSON."""
    mend = f"use one of {', '.join(ALLOWED)}; python -m tasks.gym.audit shows why"
    if dataset in REFUSED:
        raise TaskError(f"dataset {dataset} is refused: {REFUSED[dataset]}; {mend}")
    if dataset not in registry() or dataset not in ALLOWED:
        raise TaskError(f"unknown dataset {dataset!r}; {mend}")
    if not isinstance(config, Mapping | None) or {"seed", "size"} & set(config or {}):
        raise TaskError(
            "config takes the dataset's own options; set train, dev and test instead of size, there is no seed"
        )
    try:
        return json.dumps({**ALLOWED[dataset].config, **(config or {})}, sort_keys=True)
    except (TypeError, ValueError):
        raise TaskError(f"config of {dataset} holds more than texts, numbers and lists: mend task.config") from None
