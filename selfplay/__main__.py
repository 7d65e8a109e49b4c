"""`python -m selfplay [overrides]`; the loop itself is `selfplay.loop.run`."""

from selfplay.cli import hydra_main

hydra_main()
