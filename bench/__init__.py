"""Measurements of this engine against its peers. One thread a process, fixed before torch and numba start."""

import os

for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
