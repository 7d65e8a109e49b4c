"""reasoning-gym's own scorers as one scorer of a judge pool. For judge workers only: some of them run the answer as code.

An item crosses as what it is made from, not as data, so that a scorer gets the very item that its dataset made.
"""

from __future__ import annotations

import copy
import json
from functools import lru_cache

from tasks.gym.items import Items, registry

registry()  # imports the library before the worker is ready


def score(dataset: str, config: dict, seed: int, size: int, index: int, answer: str) -> float:
    """The official reward of `answer` to item `index` of `Items(dataset, config, seed, size)`."""
    items, item = _item(dataset, json.dumps(config), seed, size, index)
    return items.official(answer, copy.deepcopy(item))


@lru_cache(maxsize=256)
def _item(dataset: str, config: str, seed: int, size: int, index: int) -> tuple[Items, dict]:
    items = _items(dataset, config, seed, size)
    return items, items[index]


@lru_cache(maxsize=2)
def _items(dataset: str, config: str, seed: int, size: int) -> Items:
    return Items(dataset, json.loads(config), seed, size)
