"""Search over a graph of states, with a model behind one call. numpy and numba only; no torch, no text.

`search(roots, evaluator, rule, budget)` is the loop; `Driver` is what it loops over, ask / tell / cancel, for a caller that
makes the model calls itself, many at once (`mcts/driver.py` begins with an example). `PUCT`, `Gumbel`, `BestFirst`, `PHS` and
`Proportional` are the rules; `distances` and its neighbours turn what was explored into targets. `Forest` is the other engine,
for evaluators that answer in microseconds. Names are imported when they are first asked for: each engine starts without the
other.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
