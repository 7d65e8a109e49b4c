"""A page of settings says what the code says."""

from __future__ import annotations

from dataclasses import dataclass, field

from kit.pages import defaults, page


@dataclass
class Inner:
    wide: bool = True  # or narrow


@dataclass
class Outer:
    """Settings of a test."""

    out: str  # where to
    steps: int | None = None
    names: list[str] = field(default_factory=lambda: ["a"])
    inner: Inner = field(default_factory=Inner)
    options: dict[str, int] = field(default_factory=dict)  # by name


def reader(path: str, *, shown: int = 3) -> None:  # no comment of a setting
    """A function's parameters are its settings."""


class Game:
    def __init__(
        self,
        rows: int = 2,  # of the board
    ) -> None:
        self.rows = rows


def test_defaults_are_those_of_the_code():
    assert defaults(Outer) == {"out": None, "steps": None, "names": ["a"], "inner": {"wide": True}, "options": {}}
    assert defaults(reader) == {"path": None, "shown": 3}
    assert defaults(Game) == {"rows": 2}


def test_a_page_shows_every_setting_with_its_comment():
    assert page(Outer).splitlines() == [
        "out: null                    # where to",
        "steps: null",
        'names: ["a"]',
        "",
        "inner:",
        "  wide: true                 # or narrow",
        "",
        "options: {}                  # by name",
    ]
    assert page(reader) == "path: null\nshown: 3"
    assert page(Game) == "rows: 2                      # of the board"
