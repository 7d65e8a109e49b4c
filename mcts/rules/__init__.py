"""Selection rules, one file each, behind `base.Rule`."""

from mcts.rules.base import Rule
from mcts.rules.best_first import BestFirst
from mcts.rules.gumbel import Gumbel
from mcts.rules.phs import PHS
from mcts.rules.proportional import Proportional
from mcts.rules.puct import PUCT

__all__ = ["PHS", "PUCT", "BestFirst", "Gumbel", "Proportional", "Rule"]
