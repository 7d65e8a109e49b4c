"""A data set of questions with gold answers, read and dealt to splits: what becomes of it, and who gets what.

Gold leaves this module in two forms only: a scorer, which holds the `AnswerKey`, and solved chains of the *train* split
(`Corpus.given`), for the learner. The task that a search gets holds neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.base import LINES, NEWLINE, SPLITS, AnswerKey, Form, Problem, Scorer, Split, TaskError, room, split_words
from tasks.guessing import CommonestAnswers, Guesser
from tasks.judging.answer_line import answer_line, letter
from tasks.judging.scorers import GoldScorer
from tasks.questions.task import AnswerTask, Example, Question

SHOWN_REASONS = 5  # lines named for each reason
SPARE_STEPS, SPARE_WORDS = 4, 8  # that a chain or a step may be longer than the longest given one


@dataclass(frozen=True, slots=True)
class Item:
    """One line that passed."""

    question: Question
    answer: str
    steps: tuple[str, ...]  # reasoning without the answer line, newlines included
    split: Split


@dataclass
class Report:
    """What became of every line."""

    path: str
    unit: str = "lines"  # what was read
    read: int = 0
    kept: dict[str, int] = field(default_factory=dict)  # by split
    dropped: list[tuple[int, str]] = field(default_factory=list)  # (line, row or item, from 1; why)

    def __str__(self) -> str:
        """One line, then one for each reason."""
        splits = ", ".join(f"{n} {split}" for split, n in self.kept.items())
        lines = [
            f"{self.path}: {self.read} {self.unit}, {sum(self.kept.values())} kept ({splits}), {len(self.dropped)} dropped"
        ]
        where: dict[str, list[int]] = {}
        for line, why in self.dropped:
            where.setdefault(why, []).append(line)
        for reason, at in sorted(where.items(), key=lambda pair: -len(pair[1])):
            more = ", ..." if len(at) > SHOWN_REASONS else ""
            lines.append(f"  {len(at)} dropped: {reason} ({self.unit} {', '.join(map(str, at[:SHOWN_REASONS]))}{more})")
        return "\n".join(lines)


@dataclass(frozen=True)
class Corpus:
    """A file, read. Only scorers and learners get one."""

    name: str
    items: list[Item]
    report: Report
    shown: int = 3  # examples for pretrained models
    max_steps: int | None = None  # of a chain; None: a little more than the longest given one has
    max_step_words: int | None = None
    form: Form = field(default=LINES, kw_only=True)

    def task(self) -> AnswerTask:
        """The task without any gold. The first `shown` train items, those with steps first, become examples instead.

        Raises:
            TaskError: a split would be empty.
        """
        examples = self._examples()
        apart = {example.question.id for example in examples}
        questions: dict[Split, list[Question]] = {split: [] for split in SPLITS}
        for item in self.items:
            if item.question.id not in apart:
                questions[item.split].append(item.question)
        for split, part in questions.items():
            if not part:
                raise TaskError(
                    f"{self.report.path}: no line falls to {split}: give more lines, or change the fractions"
                )
        solved = [item for item in self.items if item.split == "train"]
        longest = max((len(item.steps) + 1 for item in solved if item.steps), default=11)
        widest = max((room(line) for item in solved for line in _chain(item)), default=32)
        return AnswerTask(
            self.name,
            questions,
            words=sorted({word for item in solved for word in _words(item)}),
            examples=examples,
            max_steps=self.max_steps or longest + SPARE_STEPS,
            max_step_words=self.max_step_words or widest + SPARE_WORDS,
            form=self.form,
        )

    def given(self) -> list[tuple[Problem, tuple[str, ...]]]:
        """Solved chains of the train split that came with steps: what a learner may warm up on."""
        return [
            (Problem(item.question.id, self.name, (item.question.text, item.question.choices)), _chain(item))
            for item in self.items
            if item.split == "train" and item.steps
        ]

    def scorer(self) -> Scorer:
        """Alone holds the gold answers of all splits."""
        return GoldScorer(self.task(), AnswerKey({item.question.id: item.answer for item in self.items}))

    def guesser(self) -> Guesser:
        """Alone holds the train split's answers, ranked by how common they are."""
        return CommonestAnswers(item.answer for item in self.items if item.split == "train")

    def _examples(self) -> list[Example]:
        solved = sorted((item for item in self.items if item.split == "train"), key=lambda item: not item.steps)
        return [Example(item.question, _chain(item)) for item in solved[: self.shown]]


def _chain(item: Item) -> tuple[str, ...]:
    return (*item.steps, answer_line(item.answer))


def _words(item: Item) -> Iterable[str]:
    texts = (item.question.text, *item.question.choices, *_chain(item))
    letters = (f"({letter(k)})" for k in range(len(item.question.choices)))
    return [*(word for text in texts for word in split_words(text) if word != NEWLINE), *letters]
