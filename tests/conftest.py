"""For all tests: signals as a terminal would give them, and Triton's interpreter without a GPU."""

import os
import signal

from hypothesis import HealthCheck, settings

# Kernels run in Triton's interpreter; `TRITON_INTERPRET=0 pytest tests/.../gpu` takes a real GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports triton

# A busy machine is no bug: examples have no deadline, and making them may take long.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell that runs the tests in the background ignores Ctrl-C for them, and all their children too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
