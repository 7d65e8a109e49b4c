from .budgets import Cost as Cost
from .plan import Solution as Solution
from .solver import Solver as Solver
from .solver import solve as solve
from .types import Chain as Chain
from .types import SolveError as SolveError
