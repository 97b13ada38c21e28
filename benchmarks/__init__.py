"""Timings against the peers, each in its best configuration, both sides in one run.

In a bundle (`benchmarks.bundle`) the packages that a machine may lack lie beside this folder, in
one of the name by which robench tells installed code from a user's own.
"""

import sys
from pathlib import Path

_PACKAGES = Path(__file__).parents[1] / "site-packages"
if _PACKAGES.is_dir() and str(_PACKAGES) not in sys.path:
    sys.path.append(str(_PACKAGES))  # last: what the machine has of its own was made for it
