"""What a stream of a task needs: words in which one decoding run says how hard it thinks, judges itself and goes back.

    8 6 5 6 e4 42                 the prompt; an effort word stands in place of the task's own ("=": effort 0, no stream at all)
    8 - 5 = 3 | 6 6 3             steps as ever
    no b0                         given up, here before the end: back to depth 0, whose context is all that is left
    8 * 6 = 48 | 5 6 48
    5 + 48 = 53 | 6 53            ...
    answer 7 * 6 = 42
    yes                           ends the stream: the steps in the context are its answer
    no stop                       gives up for good

Where the goal does not stand in the prompt, nothing in a chain says that it is wrong. There a step can be checked: what follows
from its choice is worked out once more, the last word first, in a context in which it does not stand yet.

    b * 0 3 = 2 4 5                       a step, of which the net was not sure
    check 1 5 1 5 2 4 2 5 0 0 0 2         worked out behind "b * 0 3 =", a digit at a time: 255
    no b1                                 it differs, and is the surer: the step is given up
    b * 0 3 = 2 5 5                       what the check came to; it stands in the context, the check does not

A context may show the present state alone, and not what led to it. There a verdict is said of a step, behind it.

    A b c D e e4 A D c E b        goal, effort, present state
    c b A D E b c                 a step, and the new state; of it `on`, which leaves nothing in the context, or
    no b0                         it leads away: back to the state whose best untried step is the most probable

A check may be a line of another question as well, or a few, which have to come to the same thing. Question and line are text,
so that any model can work them out, also one that was never taught to check; no effort stands in the prompt then, and no
verdict is read from the model: what is checked is what its words come to.

    9 - 7 = 3
    check 3 + 7 = 10              9 is asked for: it differs

Where the goal stands in the prompt, a model that was never taught a verdict need not judge its end: the answer's own words say
whether they come to what is asked. They say nothing of whether they are true.

    8 6 5 6 = 42
    8 - 5 = 3 | 6 6 3
    6 + 6 = 12 | 3 12
    answer 12 * 3 = 36            it says itself that it is not 42
    no b0

Pure text: no model, no verifier. A task declares a `StreamForm`; `tasks.registry.streamed` puts its words behind the task's
own, so that every token of a net that never learned them keeps its id.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Literal

UNDOS = {"none": 0, "minimal": 1, "low": 3, "medium": 7, "high": 15}  # times that a stream of an effort may go back
EFFORTS = tuple(UNDOS)  # an effort's number is its place here
BEYOND = {"xhigh": 31, "max": 10**9}  # times, where the decoder lets a stream of the highest effort go on
CHECKED = {
    "none": 0.0,
    "minimal": 0.5,
    "low": 0.9,
    "medium": 0.99,
    "high": 1.0,
}  # steps less probable are checked, if any are
THRESHOLD = 0.7  # of a verdict: docs/results/reflect.md
YES, NO, STOP, ON, CHECK = "yes", "no", "stop", "on", "check"
KEPT = "kept"  # a step stands that another way came not to, since it was the surer
BACK, EFFORT = "b", "e"  # stand before a number

Kind = Literal["propose", "answer", "check", "undo"]


@dataclass(frozen=True, slots=True)
class Question:
    """A line of a question of its own, for a model to end."""

    asked: str  # the prompt
    lead: str  # how the line begins


@dataclass(frozen=True, slots=True)
class Found:
    """What another way to a step came to."""

    agrees: bool
    step: str = ""  # the one that it came to, with its newline; "": it confirms, and says not what stands there instead


# Another way to a step: asks once or more, is sent what was written behind each lead, and ends when it knows.
Derivation = Generator[Question, str, Found]


@dataclass(frozen=True, slots=True)
class StreamForm:
    """What a task says of its streams."""

    mark: str  # the word of a prompt, its last one of this name, whose place an effort takes
    follows: str = ""  # what stands behind this word in a step follows from what stands before it: no choice
    following: int = 0  # where no word says so: how many words at the end of a step follow from the others
    answer: str = (
        ""  # opens a step that ends a chain; "": chains end at the task's `max_steps`, or where a stream says so
    )
    markov: bool = (
        False  # a context shows the present state alone: a verdict is said of a step, `on` if it is neither yes nor no
    )
    checks: int = (
        0  # words that a check writes for one that follows in a step, which is the last of them; 0: none is checked so
    )
    derive: Callable[[str], Derivation | None] | None = (
        None  # another way to a step; None: to this one, or to any, there is none
    )
    meets: Callable[[str, str], bool] | None = (
        None  # (prompt, last step): whether it says that it comes to what the prompt asks; None: a verdict is the net's to say
    )
    threshold: float = THRESHOLD  # how sure a verdict must be, where none was fitted

    @property
    def checked(self) -> bool:
        """Whether steps can be worked out once more."""
        return self.checks > 0 or self.derive is not None

    @property
    def wordless(self) -> bool:
        """Whether verdicts are the decoder's to write, from what the net's own words come to: any model can think then."""
        return self.derive is not None or self.meets is not None

    def taught(self) -> StreamForm:
        """The form of a net that was given the words of a stream: it says itself whether an end is what is asked."""
        return replace(self, meets=None)

    def words(self, depths: int) -> tuple[str, ...]:
        """All that a stream adds; `depths`: steps of the longest chain."""
        more = (*((CHECK,) if self.checks else ()), *((ON,) if self.markov else ()))
        return (*self.stands_for(), YES, NO, STOP, *(f"{BACK}{depth}" for depth in range(depths)), *more)

    @property
    def asking(self) -> tuple[str, ...]:
        """Words that are asked, and never said."""
        return (*self.stands_for(), *((CHECK,) if self.checks else ()))

    def stands_for(self) -> dict[str, str]:
        """Of each effort word, the word of the task in whose place it stands."""
        return {f"{EFFORT}{effort}": self.mark for effort in range(1, len(EFFORTS))}

    def asked(self, prompt: str, effort: int) -> str:
        """A prompt as a stream of an effort opens; as it is at effort 0, and where an effort is the decoder's alone.

        Raises:
            ValueError: a prompt without the mark.
        """
        if not effort or self.wordless:
            return prompt
        before, mark, after = prompt.rpartition(f" {self.mark} ")
        if not mark:
            raise ValueError(f"no {self.mark!r} in the prompt {prompt!r}")
        return f"{before} {EFFORT}{effort} {after}"

    def ends(self, step: str) -> bool:
        """Whether a step has the form of one that ends a chain, true or not."""
        return bool(self.answer) and step.split(maxsplit=1)[:1] == [self.answer]

    def choice(self, step: str) -> int:
        """Words of a step that its writer chooses; the others follow from them."""
        words = step.split()
        if self.following:
            return max(len(words) - self.following, 0)
        return words.index(self.follows) + 1 if self.follows in words else len(words)

    def back(self, depth: int | None) -> str:
        """The line that goes back to `depth`; None: that gives up."""
        return f"{NO} {STOP if depth is None else BACK + str(depth)}\n"

    def kind(self, line: str) -> Kind:
        """What a line of a stream is."""
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        if first in (YES, NO, CHECK):
            return "undo" if first == NO else "check"
        return "answer" if self.ends(line) else "propose"

    def accepts(self, line: str) -> bool:
        """Whether a line ends a stream with its chain as the answer."""
        return line.split() == [YES]

    def depth(self, line: str) -> int | None:
        """Where a line of kind `undo` goes back to; None: nowhere."""
        digits = line.split()[-1].removeprefix(BACK)
        return int(digits) if digits.isdecimal() else None
