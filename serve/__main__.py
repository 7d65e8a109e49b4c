"""`python -m serve [overrides]`; the routes are in `serve.api`, the engine in `serve.engine`."""

import sys

try:
    from serve.main import hydra_main
except KeyboardInterrupt:
    sys.exit(130)

hydra_main()
