"""What a request of the Responses API may say; see `serve.api.fields`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from serve.api.fields import MOST_MESSAGES, Message, Search, Strict, allowed
from serve.thoughts import Visibility
from solve.budgets import EFFORTS

SEALED = "reasoning.encrypted_content"
# Fields that would change what is decoded or kept, and values of them that change nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "background": (None, False), "context_management": (None, []), "conversation": (None,), "max_tool_calls": (None,),
    "previous_response_id": (None,), "prompt": (None,), "truncation": (None, "disabled"), "stream_options": (None, {}),
}  # fmt: skip


class Reasoning(Strict):
    """How much to think, and what of it to tell."""

    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn"] | None = None

    @model_validator(mode="after")
    def _knows_efforts(self) -> Reasoning:
        if self.effort is not None and self.effort not in EFFORTS:
            raise PydanticCustomError("refused", "reasoning.effort: use one of {known}", {"known": ", ".join(EFFORTS)})
        return self


class TextFormat(Strict):
    """Text alone."""

    type: Literal["text"]


class TextSettings(Strict):
    """How the answer is written."""

    format: TextFormat | None = None


class InputPart(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["input_text", "output_text", "text"]
    text: str


class InputItem(BaseModel):
    """A turn, or a reasoning item that comes back: what is sealed in it is checked, and nothing of it is read."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["message", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[InputPart] | None = None
    encrypted_content: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _reasoning_is_not_read(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") == "reasoning":
            return {"type": "reasoning", "encrypted_content": data.get("encrypted_content")}
        return data

    @model_validator(mode="after")
    def _says_who_speaks(self) -> InputItem:
        if self.type == "message" and self.role is None:
            raise PydanticCustomError("refused", "input: a message says its role")
        return self

    @property
    def message(self) -> Message | None:
        """The turn that it is; None: it is none."""
        if self.role is None:
            return None
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in parts)
        return Message(role=self.role, content=text)


class ResponseRequest(Strict):
    """`POST /v1/responses`."""

    model: str
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MOST_MESSAGES)]
    instructions: str | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning: Reasoning | None = None
    reasoning_visibility: Visibility | None = None
    search: Search | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    text: TextSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuses(cls, data: Any) -> Any:
        return allowed(data, REFUSED)

    @property
    def visibility(self) -> Visibility | None:
        """What of the chain is asked for."""
        if self.reasoning_visibility is not None or self.reasoning is None:
            return self.reasoning_visibility
        return "summary" if self.reasoning.summary or self.reasoning.generate_summary else None

    @property
    def messages(self) -> list[Message]:
        """The turns that it holds."""
        first = [Message(role="system", content=self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*first, Message(role="user", content=self.input)]
        return [*first, *(item.message for item in self.input if item.message is not None)]

    @property
    def sealed(self) -> list[str]:
        """Encrypted items that came back."""
        items = [] if isinstance(self.input, str) else self.input
        return [item.encrypted_content for item in items if item.encrypted_content is not None]
