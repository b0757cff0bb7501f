"""One thread for torch: tiny models gain nothing from more, and test runs share the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
