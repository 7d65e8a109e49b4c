"""A model for Inspect (UK AI Security Institute): `inspect eval TASK --model ro1/countdown4think -M effort=high`.

Inspect finds it by its entry point. Where the server is: RO1_BASE_URL (http://127.0.0.1:8000/v1 if not set) and RO1_API_KEY, or
`--model-base-url`. `-M` sets effort, strategy, verify, tokens and reasoning_visibility of every request.
"""

from __future__ import annotations

import os
from typing import Any

from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, ModelUsage, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo
from openai import AsyncOpenAI

HOME = "http://127.0.0.1:8000/v1"
SEARCH = ("strategy", "verify", "tokens", "simulations")


@modelapi(name="ro1")
class RO1(ModelAPI):
    """A served model. What it thinks is hidden; Inspect gets the answer and what it cost."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        effort: str | None = None,
        reasoning_visibility: str | None = None,
        **search: Any,
    ):
        """Raises ValueError: a `search` setting that there is not."""
        unknown = set(search) - set(SEARCH)
        if unknown:
            raise ValueError(f"-M {', '.join(sorted(unknown))}: use effort, reasoning_visibility, {', '.join(SEARCH)}")
        super().__init__(model_name, base_url, api_key, ["RO1_API_KEY"], config or GenerateConfig())
        address = base_url or os.environ.get("RO1_BASE_URL", HOME)
        key = api_key or self.api_key or os.environ.get("RO1_API_KEY") or "none"
        self._client = AsyncOpenAI(base_url=address, api_key=key)
        asked = {"reasoning_effort": effort, "reasoning_visibility": reasoning_visibility, "search": search}
        self._asked = {name: value for name, value in asked.items() if value}

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One answer.

        Raises:
            ValueError: tools are asked for, which are not served.
        """
        if tools:
            raise ValueError("a ro1 model calls no tools: use a task without them")
        effort = {"reasoning_effort": config.reasoning_effort} if config.reasoning_effort else {}
        asked = {**effort, **self._asked}
        limits = {"max_completion_tokens": config.max_tokens} if config.max_tokens else {}
        seed = {"seed": config.seed} if config.seed is not None else {}
        turns: Any = [{"role": message.role, "content": message.text} for message in input]
        found = await self._client.chat.completions.create(
            model=self.model_name, messages=turns, **limits, **seed, extra_body=asked
        )
        (choice,), used = found.choices, found.usage
        stop = "max_tokens" if choice.finish_reason == "length" else "stop"
        output = ModelOutput.from_content(self.model_name, choice.message.content or "", stop_reason=stop)
        if used is not None:
            details = used.completion_tokens_details
            output.usage = ModelUsage(
                input_tokens=used.prompt_tokens, output_tokens=used.completion_tokens, total_tokens=used.total_tokens,
                reasoning_tokens=None if details is None else details.reasoning_tokens,
            )  # fmt: skip
        return output
