"""`python -m stoker_runtime.engine`: started by the API process, see `process`."""

from stoker_runtime.engine.process import run

run()
