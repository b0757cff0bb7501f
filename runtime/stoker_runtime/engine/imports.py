"""Imports torch in half the time.

Knows which of torch's own packages an engine never touches, and how to leave them unexecuted until
somebody does; does not know what the engine does with torch. Called by `tenancy`, before anything
else imports torch. Measured on Debian's torch 2.6: 1.6 s of processor time become 0.8 s.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

log = logging.getLogger(__name__)

DEFERRED = frozenset(
    {
        "torch._meta_registrations",  # shapes of operators without data: 0.3 s
        "torch.quantization",
        "torch.distributions",
        "torch.profiler",
        "torch.nested",
        "torch.optim",
        "torch.utils.data",
    }
)
_UNRELATED = ("numpy", "inspect", "unittest.mock", "urllib.request", "torchgen.model")
"""What torch imports too, but can be imported while its libraries are still being linked."""


_PLAIN_IMPORTS = "_STOKER_PLAIN_IMPORTS"


def ready_torch(num_blas_threads: int) -> None:
    """Import torch if it is not there yet, its libraries' threads being polite.

    Idle OpenMP workers sleep instead of spinning: where others want the processors too, spinning
    made the first token 50 times slower. Both variables are read when the libraries are loaded.
    """
    if "torch" in sys.modules:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(num_blas_threads))
    _import_or_restart()


def blas_threads(num_threads: int, dtype: str) -> int:
    """OpenBLAS knows no quota, and in bfloat16 it is only called from within OpenMP's threads."""
    return num_threads if dtype == "float32" else 1


def _import_or_restart() -> None:
    """The quick way; a torch that won't have it is imported whole, after a new start."""
    if os.environ.get(_PLAIN_IMPORTS):
        return
    try:
        import_torch()
    except (ImportError, AttributeError) as error:
        log.warning(
            "torch can't be imported in parts, starting again to import it whole: %s", error
        )
        os.environ[_PLAIN_IMPORTS] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "stoker_runtime.engine", *sys.argv[1:]])


def import_torch() -> None:
    """Import torch with rarely used packages deferred; raises `ImportError` if it won't have it."""
    linking = threading.Thread(target=_link_libraries, daemon=True)
    linking.start()
    with _paused_collector():
        for name in _UNRELATED:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        finder = _DeferringFinder()
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module("torch")
        finally:
            sys.meta_path.remove(finder)
    linking.join()


class _DeferringFinder(MetaPathFinder):
    """Finds the deferred modules where they are, and gives them a loader that waits."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in DEFERRED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            spec.loader = _DeferredLoader(spec.loader)
        return spec


class _DeferredLoader(Loader):
    """Executes a module when its first attribute is asked for (PEP 562)."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        def execute(name: str) -> object:
            del module.__dict__["__getattr__"]
            self._loader.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = execute


def _link_libraries() -> None:
    """Load torch's largest library; that takes 0.4 s of C code, beside the Python imports."""
    spec = importlib.machinery.PathFinder.find_spec("torch")
    for folder in (spec and spec.submodule_search_locations) or ():
        library = Path(folder) / "lib" / "libtorch_cpu.so"
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(library))


@contextlib.contextmanager
def _paused_collector() -> Iterator[None]:
    """Imports make many objects and no garbage: looking for it took a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
