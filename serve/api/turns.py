"""Messages of a chat as the text of a problem."""

from __future__ import annotations

from collections.abc import Sequence

from serve.api.errors import ApiError
from serve.api.fields import Message
from tasks.base import Task


def question(messages: Sequence[Message], task: Task) -> str:
    """The text of the problem that a chat asks.

    Of a task in free text: its system text, the earlier turns as they were visible, the last question; turns of one role in a
    row are one. A puzzle's net reads the last message alone, which is a whole problem.

    Raises:
        ApiError: the last message asks nothing.
    """
    if not messages or messages[-1].role != "user" or not messages[-1].text.strip():
        raise ApiError(400, "messages: the last one is of role user and asks something", param="messages")
    if not task.form.free:
        return messages[-1].text
    system = "\n\n".join(said for m in messages if m.role in ("system", "developer") and (said := m.text.strip()))
    turns: list[tuple[str, str]] = []
    for message in messages:
        if message.role in ("system", "developer") or not (said := message.text.strip()):
            continue
        if turns and turns[-1][0] == message.role:
            turns[-1] = (message.role, f"{turns[-1][1]}\n\n{said}")
        else:
            turns.append((message.role, said))
    if turns[0][0] != "user":
        turns = turns[1:]
    return task.form.conversation(system, [text for _, text in turns])
