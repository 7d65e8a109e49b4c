"""Settings of how questions are asked, checked: what a step is, the chat template, the text around a question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast, get_args

from tasks.base import HOLE, Chat, Form, TaskError

UNITS = ("line", "paragraph", "sentence")
MOST_TOKENS = 4096  # of a step of N tokens
OURS = frozenset(
    ("conversation", "messages", "tokenize", "add_generation_prompt", "chat_template", "continue_final_message")
)
_TOKENS = re.compile(r"tokens:(\d{1,4})")


def tokens_of(step: object) -> int | None:
    """N of a step "tokens:N"; None: a step is one of `UNITS`.

    Raises:
        TaskError: it is neither.
    """
    if step in UNITS:
        return None
    found = _TOKENS.fullmatch(step) if isinstance(step, str) else None
    if found is None or not 1 <= int(found[1]) <= MOST_TOKENS:
        raise TaskError(f"step is {step!r}: use {', '.join(UNITS)} or tokens:N, N from 1 to {MOST_TOKENS}")
    return int(found[1])


def form_of(
    *, chat: object, system: object, chat_arguments: object, template: object, step: str = "line", free: bool = False,
    max_tokens: int = 0, hint: str = "",
) -> Form:  # fmt: skip
    """The `Form` of these settings.

    Raises:
        TaskError: one of them cannot work. One line that names the mend.
    """
    tokens_of(step)
    chat = {True: "on", False: "off"}.get(chat, chat) if isinstance(chat, bool) else chat  # as YAML reads on and off
    if chat not in ("auto", "on", "off"):
        raise TaskError(f"chat is {chat!r}: use {', '.join(get_args(Chat))}")
    for name, text in (("system", system), ("template", template)):
        if not isinstance(text, str):
            raise TaskError(f"{name} is {type(text).__name__}: give a text")
    if template and HOLE not in str(template):
        raise TaskError(f"template does not hold {HOLE}, where the question goes: write it in")
    arguments: Mapping[Any, Any] = {} if chat_arguments is None else chat_arguments  # ty: ignore[invalid-assignment]
    if not isinstance(arguments, Mapping) or not all(
        isinstance(name, str) and name.isidentifier() for name in arguments
    ):
        raise TaskError("chat_arguments maps names to values, e.g. {enable_thinking: false}")
    if taken := OURS & set(arguments):
        raise TaskError(f"chat_arguments names {', '.join(sorted(taken))}, which is set here: leave it out")
    return Form(step, free, max_tokens, cast("Chat", chat), str(system), tuple(arguments.items()), str(template), hint)
