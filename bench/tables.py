"""Tables in Markdown, for the pages of the benches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def share(value: float, low: float, high: float) -> str:
    """A rate in [0, 1] with its interval, in %."""
    return f"{100 * value:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def points(estimate: float, low: float, high: float) -> str:
    """A difference of rates with its interval, in points."""
    return f"{100 * estimate:+.1f} ({100 * low:+.1f}, {100 * high:+.1f})"
