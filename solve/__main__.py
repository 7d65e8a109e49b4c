"""`python -m solve [overrides]`; what answers is `solve.solver.Solver`."""

import sys

try:
    from solve.cli.main import hydra_main
except KeyboardInterrupt:
    sys.exit(130)

hydra_main()
