"""For all tests: signals as a terminal would give them."""

import signal

# A shell that runs the tests in the background ignores Ctrl-C for them, and all their children too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
