"""What a chat request may say: each field is served, does nothing to an answer, or is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from serve.thoughts import Visibility
from solve.budgets import EFFORTS
from solve.types import Verify

MOST_MESSAGES, MOST_CHOICES, MOST_STOPS = 1024, 8, 4
ROLES = ("system", "developer", "user", "assistant")

# Fields that would change what is decoded or shown, and values of them that change nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (None,), "chat_template_kwargs": (None, {}), "continue_final_message": (None, False), "echo": (None, False),
    "add_generation_prompt": (None, True), "enable_thinking": (None,), "frequency_penalty": (None, 0, 0.0),
    "function_call": (None, "none"), "functions": (None, []), "guided_json": (None,), "guided_regex": (None,),
    "ignore_eos": (None, False), "include_stop_str_in_output": (None, False), "logit_bias": (None, {}),
    "logprobs": (None, False), "min_p": (None, 0, 0.0), "min_tokens": (None, 0), "modalities": (None, ["text"]),
    "output_config": (None, {}), "prediction": (None,), "presence_penalty": (None, 0, 0.0), "prompt_logprobs": (None,),
    "return_token_ids": (None, False), "separate_reasoning": (None, True), "skip_special_tokens": (None, True),
    "stop_token_ids": (None, []), "store": (None, False), "stream_reasoning": (None,), "structured_outputs": (None,),
    "thinking": (None,), "thinking_token_budget": (None,), "tool_choice": (None, "none", "auto"), "tools": (None, []),
    "top_k": (None, -1, 0), "top_logprobs": (None, 0), "top_p": (None, 1, 1.0), "verbosity": (None,),
    "web_search_options": (None,),
}  # fmt: skip
IDLE = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
)


class Strict(BaseModel):
    """No field that nobody reads, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Part(Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn. What a client sends back of earlier reasoning is read by nobody."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    @model_validator(mode="before")
    @classmethod
    def _calls_nothing(cls, data: Any) -> Any:
        if isinstance(data, dict) and (data.get("tool_calls") or data.get("role") in ("tool", "function")):
            raise PydanticCustomError("refused", "tool calls are not served: send messages of text")
        return data

    @property
    def text(self) -> str:
        """What it says."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


class StreamOptions(Strict):
    """How a stream ends."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(Strict):
    """Text alone."""

    type: Literal["text"]


class Search(Strict):
    """How to search; an extension of ours, in the body of a request."""

    strategy: str | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    simulations: Annotated[int, Field(ge=1)] | None = None
    verify: Verify | None = None


class ChatRequest(Strict):
    """`POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    reasoning_effort: str | None = None
    reasoning_visibility: Visibility | None = None
    include_reasoning: bool | None = None  # false: as reasoning_visibility=hide
    search: Search | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuses(cls, data: Any) -> Any:
        return allowed(data)

    @model_validator(mode="after")
    def _knows_efforts(self) -> ChatRequest:
        if self.reasoning_effort is not None and self.reasoning_effort not in EFFORTS:
            raise PydanticCustomError("refused", "reasoning_effort: use one of {known}", {"known": ", ".join(EFFORTS)})
        return self

    @property
    def visibility(self) -> Visibility | None:
        """What of the chain is asked for."""
        return "hide" if self.include_reasoning is False else self.reasoning_visibility

    @property
    def stops(self) -> list[str]:
        """Texts that end an answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]


def allowed(data: Any, refused: Mapping[str, tuple[Any, ...]] | None = None, *, served: Collection[str] = ()) -> Any:
    """A request without the fields that change nothing; `refused`: beside those of every route, `served`: which are not.

    Raises:
        PydanticCustomError: one is refused.
    """
    if not isinstance(data, dict):
        return data
    table = {name: harmless for name, harmless in {**REFUSED, **(refused or {})}.items() if name not in served}
    for name, harmless in table.items():
        if name in data and not any(type(data[name]) is type(value) and data[name] == value for value in harmless):
            raise PydanticCustomError("refused", "{name} is not served here: leave it out", {"name": name})
    return {name: value for name, value in data.items() if name not in table and name not in IDLE}
