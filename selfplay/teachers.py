"""Teachers by name: what `selfplay.phases[].teacher`, `selfplay.mode` and `learner.fill` know.

A teacher makes the rows of a phase. One that acts has the net play train problems (`act`, a function of `teach.actor.Acting`),
and `learner.fill` fills its batches up; the rows of any other are free (`rows`, a function as those of `teach.free`). A new one
is its file and its line here; `selfplay.mode=NAME` puts it where search stands in the default schedule.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Teacher:
    """Where a teacher's functions are defined, "module:function", and what a run must know of it before it loads them."""

    colour: str  # in the learning curve
    act: str | None = None  # makes experience with the acting net
    rows: str | None = None  # makes free rows
    plays: bool = False  # needs a task with legal moves to play
    on_policy: bool = False  # its rows are learned once, right after they were made, and never again
    streams: bool = False  # teaches a net to think, and says it in words of streams
    thinks: bool = False  # the run ends with a table of what thinking buys
    rules_only: bool = False  # the net that it ends with is the "before" of the final table


TEACHERS = {
    "random": Teacher("tab:gray", rows="selfplay.teach.free:random_play", plays=True, rules_only=True),
    "hindsight": Teacher("tab:blue", rows="selfplay.teach.free:hindsight", plays=True),
    "checks": Teacher(
        "tab:cyan", rows="selfplay.teach.free:checks", plays=True, streams=True, thinks=True, rules_only=True
    ),
    "given": Teacher("tab:purple", rows="selfplay.teach.free:given_rows"),
    "star": Teacher("tab:orange", act="selfplay.teach.star:act"),
    "think": Teacher("tab:pink", act="selfplay.teach.streams.thought:act", thinks=True),
    "grpo": Teacher("tab:red", act="selfplay.teach.grpo:act", on_policy=True),
    "stream": Teacher("tab:brown", act="selfplay.teach.streams.stream:act", streams=True, thinks=True),
    "stream_grpo": Teacher(
        "tab:olive", act="selfplay.teach.streams.stream_grpo:act", on_policy=True, streams=True, thinks=True
    ),
    "search": Teacher("tab:green", act="selfplay.teach.search:act"),
}
FILLS = {  # what fills a batch up beside replay
    "random": "selfplay.teach.free:random_mix",
    "hindsight": "selfplay.teach.free:hindsight",
    "rules": "selfplay.teach.free:rules",
    "checks": "selfplay.teach.free:checks",
    "given": "selfplay.teach.free:given_rows",
}
PLAYED = {"rules"} | {name for name, teacher in TEACHERS.items() if teacher.plays}  # need a task with legal moves
