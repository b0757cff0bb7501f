"""Imports torch in half the time.

Knows which of torch's own packages an engine never touches, and how to leave them unexecuted until
somebody does; does not know what the engine does with torch. `link_torch` is called before anything
else of the engine process is imported, `ready_torch` by `tenancy`, before anything imports torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

DEFERRED: Mapping[str, tuple[str, ...]] = {
    "torch._functorch": (),
    "torch._higher_order_ops": ("cond", "while_loop"),
    "torch._lobpcg": ("lobpcg",),
    "torch._logging": ("_init_logs",),
    "torch._meta_registrations": (),  # shapes of operators without data
    "torch._native": (),
    "torch.ao": (),
    "torch.autograd.gradcheck": ("gradcheck", "gradgradcheck"),
    "torch.autograd.profiler": (),
    "torch.compiler": (),
    "torch.distributed": ("is_available",),
    "torch.distributed._meta_registrations": (),
    "torch.distributed.distributed_c10d": ("_register_process_group_opaque_type",),
    "torch.distributed.rpc": ("is_available",),
    "torch.distributions": (),
    "torch.export": (),
    "torch.fft": (),
    "torch.func": ("vmap",),
    "torch.fx": (),
    "torch.fx.experimental": (),
    "torch.fx.experimental.sym_node": ("DynamicInt",),
    "torch.hub": (),  # opens web pages
    "torch.linalg": (),
    "torch.masked": (),
    "torch.mps": (),
    "torch.mtia": (),
    "torch.multiprocessing": (),
    "torch.nested": (),
    "torch.nn.intrinsic": (),
    "torch.nn.parallel": ("DataParallel",),
    "torch.nn.qat": (),
    "torch.nn.quantizable": (),
    "torch.nn.quantized": (),
    "torch.optim": (),
    "torch.profiler": (),
    "torch.quantization": (),
    "torch.sparse": (),
    "torch.special": (),
    "torch.testing": (),
    "torch.utils.data": (),
    "torch.xpu": (),
}
"""Modules, and what others take of each without using it. What a version does not have does not
matter."""
_FIRST = "torch.fx.passes"
"""Others are imported in circles unless it is there."""
_ABSENT = frozenset({"numpy", "cuda"})
"""Packages that torch can do without, and takes for missing."""
_ENVIRONMENT = {
    # Idle OpenMP workers sleep instead of spinning: where others want the processors too, spinning
    # made the first token 50 times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",  # until `ready_torch` knows
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",  # looks through all installed packages for plugins
}
"""What torch and its libraries read when they are loaded."""
_PLAIN_IMPORTS = "_STOKER_PLAIN_IMPORTS"


def link_torch() -> None:
    """Begin to load torch's libraries: half a second of C code, beside the imports of others."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    threading.Thread(target=_find_libraries, name="link torch", daemon=True).start()


def ready_torch(num_blas_threads: int) -> None:
    """Import torch if it is not there yet; its BLAS computes with so many threads from now on."""
    if "torch" not in sys.modules:
        _import_or_restart()
    with contextlib.suppress(AttributeError):  # only OpenBLAS has threads of its own
        if libraries := _find_libraries():
            libraries.openblas_set_num_threads(ctypes.c_int(num_blas_threads))


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
        print(f"torch can't be imported in parts, starting again: {error}", file=sys.stderr)
        os.environ[_PLAIN_IMPORTS] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "stoker_runtime.engine", *sys.argv[1:]])


def import_torch() -> None:
    """Import torch with rarely used packages deferred; raises `ImportError` if it won't have it."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        with _paused_collector(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would say that numpy is missing
            importlib.import_module("torch").tensor([0])  # looks for numpy now, or never
    finally:
        finder.importing = False


class _Finder:
    """Gives deferred modules a loader that waits; stays, to keep what comes later in order."""

    def __init__(self) -> None:
        self.importing = True
        self._prepared = False

    def prepare(self) -> None:
        """Before the first of them is executed."""
        if not self._prepared:
            self._prepared = True
            importlib.import_module(_FIRST)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.importing:
            return _find_after_package(fullname)
        if fullname in _ABSENT:
            raise ModuleNotFoundError(f"{fullname} is not imported for torch", name=fullname)
        if fullname not in DEFERRED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            spec.loader = cast("Loader", _DeferredLoader(spec.loader, self))
        return spec


class _DeferredLoader:
    """Executes a module when its first attribute is asked for (PEP 562).

    What torch takes from it is a class without instances: a call does nothing while torch is being
    imported, and later executes the module and calls what the class stands for.
    """

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        def execute(name: str) -> object:
            if name == "__path__":  # asked of whatever something is imported from
                raise AttributeError(name)
            self._finder.prepare()
            if vars(module).pop("__getattr__", None):
                for taken in DEFERRED[module.__name__]:
                    del vars(module)[taken]
                self._loader.exec_module(module)
            return getattr(module, name)

        def stand_in(name: str) -> type:
            def call(cls: type, *args: object, **options: object) -> object:
                if self._finder.importing:
                    return None
                found = vars(module).get(name)
                real = execute(name) if found is cls else found
                return cast("Callable[..., object]", real)(*args, **options)

            return type(name, (), {"__new__": call})

        stand_ins = {name: stand_in(name) for name in DEFERRED[module.__name__]}
        vars(module).update(stand_ins, __getattr__=execute)


class _PresentLoader:
    """Loads what is there already."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        pass


def _find_after_package(fullname: str) -> ModuleSpec | None:
    """A part of a deferred package comes after the package, which may bring it along."""
    package_name, _, part = fullname.rpartition(".")
    package = sys.modules.get(package_name)
    loader = getattr(getattr(package, "__spec__", None), "loader", None)
    if not isinstance(loader, _DeferredLoader):
        return None
    hasattr(package, part)  # asking executes it
    if fullname not in sys.modules:
        return None
    return ModuleSpec(fullname, cast("Loader", _PresentLoader()))


def _find_libraries() -> ctypes.CDLL | None:
    """All libraries of torch, loaded if they are not yet."""
    spec = PathFinder.find_spec("torch")
    for folder in (spec and spec.submodule_search_locations) or ():
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(Path(folder) / "lib" / "libtorch_python.so"))
    return None


@contextlib.contextmanager
def _paused_collector() -> Iterator[None]:
    """Imports make many objects and no garbage: looking for it took a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
