"""A context as a tokenizer's chat template writes it: system, solved examples as turns, the question, the answer's turn opened.

The template is asked once, with marks in place of what people and models write, and its text around the marks is kept. So
nothing that is written can change it, and only the template's own markup becomes special tokens. transformers renders templates
in jinja2's ImmutableSandboxedEnvironment: they reach neither files nor Python's insides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from tasks.base import Form, TaskError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AS_TEXT = {"add_special_tokens": False, "split_special_tokens": True}  # "<|im_end|>" in a question ends nothing
AS_MARKUP = {"add_special_tokens": False}
SYSTEM, ROLE, FOLDED = (
    0,
    "role",
    "folded",
)  # mark of the system text; where it stands: a turn, the head of the first question
_MARK = re.compile("\ue000(\\d+)\ue001")  # private use: no template writes these
Part = tuple[str, bool]  # a text, and whether it is the template's own


def wants_chat(form: Form, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a task is shown through the chat template.

    Raises:
        TaskError: it is asked for, and there is none.
    """
    there = bool(tokenizer.chat_template)
    if form.chat == "on" and not there:
        raise TaskError("chat=on: the tokenizer has no chat template; use chat=auto, or chat=off")
    return form.chat == "on" or (form.chat == "auto" and there)


class ChatTurns:
    """Writes contexts. All that it is given is stripped of blanks around it, as most templates do."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, form: Form, examples: Sequence[str]):
        """`examples`: solved questions as a task writes them, turns before the question. Where a template refuses or drops a
        system turn, the system text stands at the head of the first question.

        Raises:
            TaskError: a template that cannot be read, refuses a plain conversation, or does not show the question.
        """
        self._tokenizer, self._form = tokenizer, form
        self._arguments: dict[str, Any] = dict(form.chat_arguments)
        self._shown = [part for text in examples for part in self._turns(text)]
        self._layouts: dict[tuple[bool, int], list[str]] = {}
        self._special = [text for token in special_ids(tokenizer) if (text := str(tokenizer.decode([token])))]
        self._layout(bool(form.system.strip()), len(self._shown))

    def text(self, question: str) -> str:
        """The context of a question, up to where the answer begins."""
        return "".join(text for text, _ in self._parts(question))

    def tokens(self, question: str) -> list[int]:
        """Its token ids, as the tokenizer reads it whole, save that what people wrote holds no special token."""
        parts = self._parts(question)
        if not any(special in text for text, own in parts if not own for special in self._special):
            parts = [(self.text(question), True)]
        ids: list[int] = []
        for text, own in parts:
            ids += self._tokenizer(text, **(AS_MARKUP if own else AS_TEXT)).input_ids if text else []
        return ids

    def closing(self) -> int | None:
        """The special token that the template puts behind an answer; None: it puts none there."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _mark(SYSTEM)}]
        try:
            behind = _MARK.split(self._rendered(turns, opened=False))[-1]
        except TaskError:
            return None
        special = set(special_ids(self._tokenizer))
        ids = self._tokenizer(behind, **AS_MARKUP).input_ids if behind else []
        return next((token for token in ids if token in special), None)

    def _parts(self, question: str) -> list[Part]:
        system, earlier, last = self._form.turns(question)
        hint = "" if self._form.template or not self._form.hint else f"\n{self._form.hint}"
        said = [system or self._form.system.strip(), *self._shown, *earlier, self._form.asked(last).strip() + hint]
        pieces = self._layout(bool(said[SYSTEM]), len(said) - 2)
        return [(said[int(text)] if i % 2 else text, i % 2 == 0) for i, text in enumerate(pieces)]

    def _layout(self, system: bool, turns: int) -> list[str]:
        """The template's text around a system turn or none, so many turns and a question: each odd one is the number of what
        stands there.
        """
        if (system, turns) not in self._layouts:
            for place in (ROLE, FOLDED) if system else ("",):
                try:
                    pieces = _MARK.split(self._rendered(_turns(turns // 2, place)))
                except TaskError:
                    if place == ROLE:
                        continue
                    raise
                if place != ROLE or str(SYSTEM) in pieces[1::2]:
                    break
            if pieces[1::2].count(str(turns + 1)) != 1:
                raise TaskError("the chat template does not show the question once: use chat=off, or mend the template")
            self._layouts[system, turns] = pieces
        return self._layouts[system, turns]

    def _turns(self, example: str) -> tuple[str, str]:
        question, steps = self._form.parts(example)
        return self._form.asked(question).strip(), steps.strip()

    def _rendered(self, turns: list[dict[str, str]], *, opened: bool = True) -> str:
        """What the template makes of turns."""
        try:
            shown = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=opened, **self._arguments
            )
        except Exception as error:  # a template is somebody's program, and raises what it likes
            told = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise TaskError(f"the chat template refuses a question ({told}): use chat=off, or mend it") from error
        return cast("str", shown)


def _turns(examples: int, system: str) -> list[dict[str, str]]:
    """System, examples and question as marks: 0 is the system text, then each example's question and answer."""
    marks = [_mark(1 + i) for i in range(2 * examples + 1)]
    if system == FOLDED:
        marks[0] = f"{_mark(SYSTEM)}\n\n{marks[0]}"
    turns = [{"role": "system", "content": _mark(SYSTEM)}] if system == ROLE else []
    return turns + [{"role": "assistant" if i % 2 else "user", "content": mark} for i, mark in enumerate(marks)]


def _mark(number: int) -> str:
    return f"\ue000{number}\ue001"


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that no text of people or models may hold, named ones and others."""
    added = tokenizer.added_tokens_decoder.items()
    return sorted({*tokenizer.all_special_ids, *(token for token, about in added if about.special)})
