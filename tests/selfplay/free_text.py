"""A language model with random weights and a byte-level tokenizer, and a scripted policy that writes free text with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.local_policy import LocalPolicy
from models.net.policy_value import PolicyValueLM
from models.steps.codec import TextCodec
from models.trie.batch import NodeBatch, NodeRows
from selfplay.config import ActorConfig
from selfplay.teach.actor import act
from selfplay.team import Team
from tasks import make_scorer, make_task
from tasks.base import Rows

END = 0  # the end-of-text token of these tokenizers: the id of padding, as in SmolLM2
LINES = [f"Question: {a} + {b}\n{a} + {b} = {a + b}\nanswer: {a + b}\n\n" for a in range(9) for b in range(9)]
FREE = [
    r"\frac{a}{b}^{2} + \sqrt{x_{1}} \le \int_0^1 f\,dx",
    "七加七等于十四，所以答案是十五。",
    "\ttabs\tand  double   blanks, and blanks behind   ",
    "\"quotes\", 'single' ones, `code` and \u201ccurly\u201d ones",
    "🙂👩‍👩‍👧 e\u0301 ﬁ \u00a0\u2003 0.1 − 1/3 ≠ −∞",
    " don 't join , these . words !",
    "<pad> <bos> <unk> &lt;|im_end|&gt;",
]


def byte_level(lines: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level pairs without loss, trained on `lines`."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=size, special_tokens=["<end>"], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", clean_up_tokenization_spaces=False)


TOKENIZER = byte_level([*LINES, *(f"{text}\n" for text in FREE)], 420)


def encoded(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False).input_ids


def spelled(text: str) -> list[int]:
    """The same text byte by byte, as a tokenizer would never write it and a model may."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return TOKENIZER.convert_tokens_to_ids([byte for piece, _ in pieces for byte in piece])


def small_llama(tokenizer: PreTrainedTokenizerFast = TOKENIZER, few_shot: int = 1) -> PolicyValueLM:
    """A pretrained architecture with random weights and a tokenizer of its own."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 4, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    model = PolicyValueLM.from_trunk(LlamaForCausalLM(config))
    model.adopt(tokenizer, few_shot)
    model.inference_dtype = None
    return model


class Scripted:
    """A forward that has learned its lines by heart: after what begins a line only the line goes on, lines equally probable."""

    keeps_some = False
    kv_shape = (0, 0)
    kv_dtype = torch.float32
    device = torch.device("cpu")
    max_positions = 2048
    batch_rows = 64

    def __init__(self, vocabulary_size: int):
        self.vocabulary_size = self.row_width = vocabulary_size
        self._next: dict[tuple[int, ...], set[int]] = {}

    def add(self, line: Sequence[int]) -> None:
        for k, token in enumerate(line):
            self._next.setdefault(tuple(line[:k]), set()).add(token)

    def refresh(self) -> None:
        """Lines do not change."""

    def __call__(self, batch: NodeBatch) -> NodeRows:
        logprobs = np.full((len(batch.nodes), self.vocabulary_size), -np.inf, np.float32)
        for row, prefix, position in zip(logprobs, batch.prefixes, batch.positions, strict=True):
            following = sorted(self._next.get(tuple(prefix[: position + 1].tolist()), range(self.vocabulary_size)))
            row[following] = -np.log(len(following))
        return NodeRows(slice(None), logprobs, None, np.full(len(logprobs), 0.5, np.float32))


@dataclass(frozen=True)
class Line:
    """A chain that the scripted policy writes after a problem."""

    tokens: tuple[int, ...]
    text: str
    right: bool


def line(steps: Sequence[tuple[str, Sequence[int]]], right: bool) -> Line:
    return Line(tuple(token for _, tokens in steps for token in tokens), "".join(text for text, _ in steps), right)


class Play:
    """A task of own data, and a policy whose chains hold what no line of the data has."""

    def __init__(self, path, problems: int = 3):
        items = [
            {"question": f"{a} + {b}", "answer": a + b, "steps": [f"{a} + {b} = {a + b}"]}
            for a in range(6)
            for b in range(6)
        ]
        path.write_text("\n".join(map(json.dumps, items)))
        self.options = {"name": "jsonl", "path": str(path), "shown": 1, "max_step_words": 60}
        self.task = make_task(**self.options)
        self.scorer = make_scorer(**self.options)
        self.model = small_llama()
        self.codec = LocalPolicy(self.model).codec(self.task)
        forward = Scripted(self.codec.vocabulary_size)
        self.lines: dict[tuple[int, ...], list[Line]] = {}  # by context
        for k, problem in enumerate(self.task.problems("train")):
            a, _, b = problem.data[0].split()
            context = self.codec.context(self.task.context(problem, ()))
            self.lines[tuple(context)] = self._script(k, int(a) + int(b))
            for one in self.lines[tuple(context)]:
                forward.add([*context, *one.tokens])
        self.policy = LocalPolicy(self.model, name="scripted", version="1", forward=forward)
        self.config = ActorConfig(problems=problems, tokens=2000, mine=False, rows_per_problem=100, losing_rows=100)

    def _script(self, k: int, answer: int) -> list[Line]:
        first, second, third = (FREE[(k + i) % len(FREE)] for i in range(3))
        read = [(f"{text}\n", encoded(f"{text}\n")) for text in (first, second, f"answer: {answer}")]
        bytewise = [(f"{text}\n", spelled(f"{text}\n")) for text in (third, first, f"answer: {answer}")]
        closed = [(f"{text}<end>", [*spelled(text), END]) for text in (second, third, f"ANSWER: {answer}")]
        wrong = [(f"{text}\n", spelled(f"{text}\n")) for text in (third, second, "answer: 百")]
        return [line(read, True), line(bytewise, True), line(closed, True), line(wrong, False)]

    def harvest(self, teacher: str, codec: TextCodec | None = None):
        return act(
            self.policy, self.task, teacher, self.config, Team(), seed=1, iteration=1, scorer=self.scorer, codec=codec
        )  # fmt: skip


def after_context(rows: Rows, i: int, context: Sequence[int]) -> list[int]:
    """Tokens of row `i` behind its context, which weighs nothing."""
    n = len(context)
    assert rows.tokens[i, :n].tolist() == list(context)
    assert not rows.weight[i, :n].any()
    return rows.tokens[i, n : int(rows.used[i].sum())].tolist()
