"""What is asked of a remote model and what comes back, as frozen data; and the parser that believes nothing.

Shapes that are read: OpenAI's and vLLM's completions (`logprobs.tokens`, `logprobs.token_logprobs`), chat answers and those of
llama.cpp's server (`logprobs.content`). What a model thought before it answered is in no answer. Unknown fields are ignored,
known ones must have their type or be null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Any

from mcts.types import LOG_ROUNDING
from models.remote.thoughts import FIELDS, apart

LEAST_LOGPROB = -1e9  # servers write -9999 for "impossible"
MOST_TOKENS = 1 << 16  # of one choice
SHOWN_CHARS = 200  # of a server's own words in an error message

_UNKNOWN = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|extra|not (permitted|allowed|accepted)|forbidden|cannot find",
    re.IGNORECASE,
)  # words for a field that a server does not take, whatever its value
_TOO_LONG = re.compile(r"context|too (large|long|many)|exceed|maximum", re.IGNORECASE)
_NEEDED = frozenset({"model", "prompt", "messages"})
_ENDED = frozenset({"stop", "eos", "eos_token", "stop_sequence"})


class AnswerError(ValueError):
    """An answer that is no answer. One line that names what is wrong."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can do: declared by the user, or found out by `RemoteClient.probe`."""

    token_ids: bool = False  # answers carry the ids of the generated tokens
    logprobs: bool = True  # answers carry a log-probability for every token
    values: bool = False  # P(solved) of a state; no such protocol exists yet
    prefix_cache: bool = False  # the server has said that it reused a prompt's prefix
    completions: bool = True  # /v1/completions: continues a text
    chat: bool = False  # /v1/chat/completions; used, and probed, only where completions are missing
    n: bool = True  # several choices in one answer
    thinks: int = 0  # tokens that an answer is given beside what was asked for: its model thinks before it answers


@dataclass(frozen=True, slots=True)
class Request:
    """`n` independent continuations of one prompt; each ends before the first of the `stop` strings."""

    prompt: str
    n: int = 1
    max_tokens: int = 64  # of each, what ends it included
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ("\n",)
    turns: tuple[tuple[str, str], ...] = ()  # (role, text) of a chat in place of the prompt


@dataclass(frozen=True, slots=True)
class Completion:
    """One choice. Where a server ignored `stop`, text and log-probability end there; all its tokens are paid."""

    text: str  # without the stop string
    logprob: float | None  # sum over the tokens, the one that completes the stop string included where reported
    tokens: int  # generated and paid
    finish: str  # "stop": a stop string or the model's own end; "length": max_tokens; "other"
    token_texts: tuple[str, ...] = ()  # as reported, which may be more than `text`
    token_logprobs: tuple[float, ...] = ()
    token_ids: tuple[int, ...] = ()  # of `text` and its end, where that is known
    thought: bool = False  # something was thought before it, which is paid, and is in no field here


def draw_seed(seed: int, draw: int) -> int:
    """Seed of one draw of a request, in 0..2^31-1: every server takes that."""
    digest = blake2b(f"{seed}\0{draw}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def wire_body(
    model: str, request: Request, capabilities: Capabilities, refused: Iterable[str] = ()
) -> dict[str, object]:
    """The JSON of a request. A field that a server may not know is left out where it is not needed: strict ones refuse it.

    `refused`: fields that the server is known to refuse; they go by another name, or not at all, where `instead` knows one.
    """
    body: dict[str, object] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
    }
    if request.stop and not capabilities.thinks:  # servers look for it in the thoughts, too
        body["stop"] = list(request.stop)
    if capabilities.completions:
        body["prompt"] = request.prompt
    else:
        turns = request.turns or (("user", request.prompt),)
        body["messages"] = [{"role": role, "content": text} for role, text in turns]
    if request.n > 1:
        body["n"] = request.n
    if capabilities.logprobs:
        body["logprobs"] = 1 if capabilities.completions else True
    if capabilities.token_ids:
        body["return_token_ids"] = True
    for name in refused:
        if name in body and (other := instead(name, body)) is not None:
            value = body.pop(name)
            body |= {other: value} if other else {}
    return body


def instead(name: str, body: Mapping[str, object]) -> str | None:
    """Another name for a field that a server refuses, "" where it can be left out; None: nothing else will do.

    Without `stop` an answer is cut here; without `seed` it is another one at each call; 1 is everyone's default of the others.
    """
    if name == "max_tokens":
        return "max_completion_tokens"
    if name in ("seed", "stop") or (name in ("temperature", "top_p") and body.get(name) == 1.0):
        return ""
    return None


def refused_field(answer: bytes, sent: Iterable[str]) -> str | None:
    """Which of the fields that were `sent` an error says that the server does not take; None: it says something else.

    A prompt that is too long is another matter, though servers name `max_tokens` then.
    """
    said = answer[: 8 * SHOWN_CHARS].decode(errors="replace")
    if _TOO_LONG.search(said) or not _UNKNOWN.search(said):
        return None
    places = [
        (found.start(), name)
        for name in {*sent} - _NEEDED
        if (found := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said))
    ]
    return min(places)[1] if places else None


def parse_answer(payload: Any, request: Request, max_text_chars: int = 1 << 16) -> tuple[list[Completion], int]:
    """(1..n completions, prompt tokens that a cache held) of any JSON value.

    Tokens paid are what the server counts (`usage`), but at least those it lists and at most n * (max_tokens + 1); where it
    tells neither, a text counts its bytes and one more, which no tokenizer exceeds, and behind a thought all it might be. No
    choice is free: it has at least its end.

    Raises:
        AnswerError: everything else: missing fields, wrong types, more choices than asked, texts too long, log-probabilities
            that are NaN, infinite or above 0.
    """
    choices = _field(payload, "choices", list)
    if not 1 <= len(choices) <= request.n:
        raise AnswerError(f"{len(choices)} choices where 1 to {request.n} were asked")
    indices = [_optional(choice, "index", int) for choice in choices]
    if None not in indices and len(set(indices)) == len(indices):
        choices = [choice for _, choice in sorted(zip(indices, choices, strict=True), key=lambda pair: pair[0])]
    found = [_completion(choice, request, max_text_chars) for choice in choices]
    usage = _optional(payload, "usage", dict)
    details = _optional(usage, "prompt_tokens_details", dict)
    cached = _optional(details, "cached_tokens", int) or 0
    if _optional(_optional(usage, "completion_tokens_details", dict), "reasoning_tokens", int):
        found = [replace(one, thought=True, finish=one.finish if one.text else "other") for one in found]
    return _with_paid_tokens(found, _optional(usage, "completion_tokens", int), request.max_tokens), max(0, cached)


def _completion(choice: Any, request: Request, max_text_chars: int) -> Completion:
    message = _optional(choice, "message", dict)
    text = _field(choice, "text", str) if message is None else (_optional(message, "content", str) or "")
    if len(text) > max_text_chars:
        raise AnswerError(f"a text of {len(text)} characters, more than {max_text_chars}")
    reason = _optional(choice, "finish_reason", str)
    finish = "stop" if reason in _ENDED else reason if reason == "length" else "other"
    text = text.encode(errors="replace").decode()  # half a surrogate pair is no text
    text, thought = apart(text, cut=finish != "stop")
    if any((message or {}).get(name) for name in FIELDS):
        text, thought = text.lstrip(), True
    texts, logprobs = _tokens(choice)
    ids = _optional(choice, "token_ids", list) or []
    if len(ids) > MOST_TOKENS or not all(type(token) is int and 0 <= token < 1 << 31 for token in ids):
        raise AnswerError("token_ids are not a list of ids")
    paid = max(len(texts), len(ids))
    if thought:
        texts, logprobs, ids = *_behind(text, texts, logprobs), []
        finish = finish if text else "other"  # nothing was answered
    joined = "".join(texts)
    (end, _), (joined_start, joined_end) = _first_stop(text, request.stop), _first_stop(joined, request.stop)
    located = end == len(text) or (
        len(ids) == len(texts) and joined_start < len(joined)
    )  # where the text ends in the ids
    if end < len(text):
        text, finish = text[:end], "stop"
    kept, length = 0, 0  # tokens up to the one that completes the stop string, and their characters
    while kept < len(texts) and length < joined_end:
        kept, length = kept + 1, length + len(texts[kept])
    return Completion(
        text, sum(logprobs[:kept]) if logprobs else None, paid, finish, texts, logprobs,
        () if not located else tuple(ids[:kept] if len(ids) == len(texts) else ids), thought,
    )  # fmt: skip


def _behind(
    text: str, texts: tuple[str, ...], logprobs: tuple[float, ...]
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The tokens that write `text`, the last thing that all of them write; none where they cannot be told from thoughts."""
    left, first = len(text) if text and "".join(texts).endswith(text) else 0, len(texts)
    while left > 0:
        first -= 1
        left -= len(texts[first])
    return (texts[first:], logprobs[first:]) if left == 0 else ((), ())


def _first_stop(text: str, stops: tuple[str, ...]) -> tuple[int, int]:
    """(start, end) of the first stop string; the text's length twice if there is none."""
    places = [(at, at + len(stop)) for stop in stops if (at := text.find(stop)) >= 0]
    return min(places, default=(len(text), len(text)))


def _tokens(choice: Any) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Texts and log-probabilities of the generated tokens; none of the latter where the server left one out."""
    logprobs = _optional(choice, "logprobs", dict)
    content = _optional(logprobs, "content", list)
    if content is not None:
        content = content[: MOST_TOKENS + 1]
        texts = [_field(entry, "token", str) for entry in content]
        numbers = [entry.get("logprob") for entry in content]
    else:
        texts = _optional(logprobs, "tokens", list) or []
        numbers = _optional(logprobs, "token_logprobs", list) or []
    if len(texts) > MOST_TOKENS or len(numbers) != len(texts) or not all(isinstance(text, str) for text in texts):
        raise AnswerError("logprobs do not list one text and one number a token")
    for number in numbers:
        if number is not None and not (type(number) in (int, float) and LEAST_LOGPROB < number <= LOG_ROUNDING):
            raise AnswerError("a log-probability is not a finite number of at most 0")
    if None in numbers:
        numbers = []
    return tuple(texts), tuple(min(float(number), 0.0) for number in numbers)


def _with_paid_tokens(found: list[Completion], counted: int | None, max_tokens: int) -> list[Completion]:
    """Share what the server counted for all choices out over them."""
    listed = [one.tokens for one in found]
    if counted is None or counted < 0:
        guesses = [max_tokens if one.thought else len(one.text.encode()) + 1 for one in found]
        paid = [count or guess for count, guess in zip(listed, guesses, strict=True)]
    else:
        total = min(counted, len(found) * (max_tokens + 1))
        each, left = divmod(max(0, total - sum(listed)), len(found))
        paid = [count + each + (i < left) for i, count in enumerate(listed)]
    return [replace(one, tokens=max(1, tokens)) for one, tokens in zip(found, paid, strict=True)]


def _field(holder: Any, name: str, kind: type) -> Any:
    """A field that must be there."""
    value = _optional(holder, name, kind)
    if value is None:
        raise AnswerError(f"{name} is missing")
    return value


def _optional(holder: Any, name: str, kind: type) -> Any:
    """A field of an object or of null; None where it is missing or null."""
    if holder is None:
        return None
    if not isinstance(holder, dict):
        raise AnswerError(f"{name} is looked for in a {type(holder).__name__}, not in an object")
    value = holder.get(name)
    if value is not None and type(value) is not kind:
        raise AnswerError(f"{name} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def error_text(body: bytes) -> str:
    """What a server says of an error, in OpenAI's shape or FastAPI's; else how its body begins."""
    try:
        said = json.loads(body)
        for name in ("error", "message", "detail"):
            if isinstance(said, dict) and said.get(name):
                said = said[name]
        return said if isinstance(said, str) else json.dumps(said)
    except (ValueError, RecursionError):
        return body[: 4 * SHOWN_CHARS].decode(errors="replace")


def retry_after(header: str, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks to wait, given in seconds or as a date; 0 if it is neither."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            seconds = (date - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return seconds if 0.0 < seconds < float("inf") else 0.0
