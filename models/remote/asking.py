"""How a served model is asked for the next step of a state, and what of its answer is that step.

A task in lines is asked as text: examples, the question, the lines so far; its answer ends with the line. So is free text,
where the server goes on with a text. A chat does not go on with a turn of its own, so there a whole answer is one
step.
"""

from __future__ import annotations

from models.abilities import PolicyError
from models.remote.answers import Completion, Request
from models.remote.client import RemoteClient
from models.steps.codec import QUESTION, TOKENS_PER_WORD, asked_text, tidy
from models.steps.states import State
from tasks.base import END_OF_TEXT, NEWLINE, Task
from tasks.judging.answer_line import has_answer_line
from tasks.questions.form import tokens_of

UNITS = {"line": NEWLINE, "paragraph": 2 * NEWLINE}  # what ends a step of free text


class Asking:
    """Requests for steps of one task."""

    def __init__(
        self,
        client: RemoteClient,
        task: Task,
        few_shot: str = "",
        *,
        max_step_tokens: int | None = None,
        most: int | None = None,
    ):
        """`few_shot`: stands before every context. `max_step_tokens`: in the server's tokens; None: the task's, whose words may
        be several tokens. `most`: of a whole answer, where that is less than the task's own limit.

        Raises:
            PolicyError: steps that no server can be asked for.
        """
        self._client, self._task, self._few_shot = client, task, few_shot
        self._free, self._tokens = task.form.free, tokens_of(task.form.step)
        if self._free and not self._tokens and task.form.step not in UNITS:
            raise PolicyError(f"step={task.form.step}: a served model is asked for a line, a paragraph or tokens:N")
        self._max_tokens = max_step_tokens or (1 if self._free else TOKENS_PER_WORD) * task.max_step_tokens
        self._max_answer = max_step_tokens or min(task.form.max_tokens, most or task.form.max_tokens)

    @property
    def whole(self) -> bool:
        """Whether an answer is one step."""
        return self._free and not self._client.capabilities.completions

    def request(self, state: State, n: int, seed: int, temperature: float = 1.0, top_p: float = 1.0) -> Request:
        """`n` draws of the next step."""
        if not self._free:
            prompt = self._few_shot + self._task.context(state.problem, state.steps)
            return Request(prompt, n, self._max_tokens, temperature, top_p, seed, (NEWLINE,))
        question, steps = self._task.form.parts(self._task.context(state.problem, state.steps))
        if self.whole:
            return Request("", n, self._max_answer, temperature, top_p, seed, (), self._turns(question))
        prompt = self._few_shot + asked_text(self._task.form, question) + steps.replace(END_OF_TEXT, "")
        stop = () if self._tokens else (UNITS[self._task.form.step],)
        return Request(prompt, n, self._max_tokens, temperature, top_p, seed, stop)

    def step(self, one: Completion) -> tuple[str, bool]:
        """(step as the task writes it, whether it came to its end)."""
        finished = one.finish == "stop"
        if not self._free:
            return (tidy(one.text) + NEWLINE if finished else tidy(one.text)), finished
        if self.whole:
            return (one.text + END_OF_TEXT if finished else one.text), finished
        if self._tokens:  # nothing stops it but its length or its own end
            return (one.text + END_OF_TEXT if finished else one.text), finished or one.finish == "length"
        text = one.text + UNITS[self._task.form.step] if finished else one.text
        over = has_answer_line(text) or text.lstrip().startswith(QUESTION)
        return (text + END_OF_TEXT if over else text), finished

    def _turns(self, question: str) -> tuple[tuple[str, str], ...]:
        """(role, text) of every turn of a chat that ends in a question."""
        form = self._task.form
        system, earlier, last = form.turns(question)
        asked = form.asked(last).strip()
        if form.hint and not form.template:
            asked += f"{NEWLINE}{form.hint}"
        elif self._few_shot:
            asked = self._few_shot + asked
        said = [*earlier, asked]
        turns = [("assistant" if i % 2 else "user", text) for i, text in enumerate(said)]
        system = system or form.system.strip()
        return (("system", system), *turns) if system else tuple(turns)
