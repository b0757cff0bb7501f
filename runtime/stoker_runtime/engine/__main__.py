"""`python -m stoker_runtime.engine`: started by the API process, see `process`."""

from stoker_runtime.engine.imports import link_torch

link_torch()

from stoker_runtime.engine.process import run  # noqa: E402  torch's libraries take longest

run()
