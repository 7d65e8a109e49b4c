"""`python -m solve [overrides]`; what answers is `solve.solver.Solver`."""

from solve.cli import hydra_main

hydra_main()
