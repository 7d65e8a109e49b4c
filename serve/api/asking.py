"""What a request asks of the engine, whichever route it came by."""

from __future__ import annotations

from serve.api.errors import ApiError
from serve.api.fields import Search
from serve.api.served import Served
from serve.engine.ticket import Asked
from solve.search.think import Think
from solve.strategies import way
from solve.types import SolveError


def asked_of(
    served: Served,
    text: str,
    search: Search | None,
    *,
    effort: str | None,
    temperature: float | None,
    seed: int | None,
    at_most: int | None,
    with_chains: bool,
) -> Asked:
    """A question with the server's settings where the request has none. `at_most`: generated tokens, thoughts included.

    Raises:
        ApiError: a temperature where nothing is drawn.
    """
    effort, own = effort or served.effort, search or Search()
    strategy = own.strategy or (served.strategy if effort != "none" else None)
    return Asked(
        text,
        strategy=_tempered(strategy, temperature, served),
        effort=effort,
        verify=own.verify,
        seed=seed or 0,
        tokens=own.tokens,
        simulations=own.simulations,
        at_most=at_most,
        seconds=served.seconds,
        with_chains=with_chains,
    )


def _tempered(strategy: str | None, temperature: float | None, served: Served) -> str | None:
    """The strategy at the temperature that a request gives; 1 and none are its own."""
    if temperature is None or temperature == 1 or (strategy and "temperature=" in strategy):
        return strategy
    name = strategy or "best_first"
    try:
        chosen = way(name, served.task).search
    except SolveError as error:
        raise ApiError(400, str(error), param="search.strategy") from None
    draws = isinstance(chosen, Think) or getattr(getattr(chosen, "rule", None), "draw", "sample") == "sample"
    if not draws or name == "greedy":
        raise ApiError(
            400, f"temperature: strategy {name} draws nothing at random; leave it out, or give search.strategy=best_of_n",
            param="temperature",
        )  # fmt: skip
    return f"{name}{',' if ':' in name else ':'}temperature={temperature}"
