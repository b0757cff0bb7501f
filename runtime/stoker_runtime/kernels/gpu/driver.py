"""Loads machine code into a GPU and launches it, through CUDA's driver and nothing else.

Knows the driver's C functions (libcuda, called by ctypes); does not know Triton, which a serving
process never imports: no compiler, no launcher to build, no cache to hash. Used by one thread.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from stoker_runtime.errors import ConfigInvalid, EngineCrashed
from stoker_runtime.kernels.gpu.cache import COMPILED, Compiled, Entry, read_compiled
from stoker_runtime.kernels.gpu.launch import Grid, Value
from stoker_runtime.kernels.gpu.registry import Specialisation

LIBRARY = "libcuda.so.1"
_MAX_DYNAMIC_SHARED_BYTES = 8
"""`CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`."""
_ALWAYS_ALLOWED_BYTES = 48 * 1024
_POINTER, _SIZE, _END = 1, 2, 0
"""`CU_LAUNCH_PARAM_BUFFER_POINTER`, `…_SIZE`, `…_END`: all arguments lie in one buffer."""
_LAUNCH_TYPES = (ctypes.c_void_p, *(ctypes.c_uint,) * 7, *(ctypes.c_void_p,) * 3)


@dataclass(frozen=True, slots=True)
class _Function:
    """A kernel in the GPU's memory, and where its arguments are written before a launch."""

    handle: ctypes.c_void_p
    shape: tuple[int, int, int, int]
    """Threads of a block along x, y, z; shared bytes."""
    layout: struct.Struct
    scratch: tuple[int, ...]
    """Behind the arguments; no kernel uses any."""
    buffer: ctypes.Array[ctypes.c_char]
    size: ctypes.c_size_t
    extra: ctypes.Array[ctypes.c_void_p]


class Functions:
    """The kernels of one device: loaded when they are first used."""

    def __init__(self, compiled: Compiled, library: str, stream: Callable[[], int]) -> None:
        """`stream` says the handle of the stream to launch on."""
        self._compiled = compiled
        self._driver = ctypes.CDLL(library)
        self._driver.cuLaunchKernel.argtypes = _LAUNCH_TYPES
        self._stream = stream
        self._functions: dict[Specialisation, _Function] = {}

    def launch(self, specialisation: Specialisation, grid: Grid, values: Sequence[Value]) -> None:
        """Start the kernel on the current stream; the values are copied before this returns."""
        function = self._functions.get(specialisation) or self.load(specialisation)
        numbers = [one.data_ptr() if isinstance(one, torch.Tensor) else one for one in values]
        function.layout.pack_into(function.buffer, 0, *numbers, *function.scratch)
        where = (self._stream(), None, function.extra)
        status = self._driver.cuLaunchKernel(function.handle, *grid, *function.shape, *where)
        self._check(status, specialisation)

    def load(self, specialisation: Specialisation) -> _Function:
        """Bring the kernel into the GPU's memory; raises `ConfigInvalid` if it was not compiled."""
        entry = self._compiled.entries.get(specialisation.key)
        if entry is None:
            raise ConfigInvalid(f"{specialisation.key} was not compiled for this GPU")
        module, handle = ctypes.c_void_p(), ctypes.c_void_p()
        code = self._compiled.code_of(entry)
        self._check(self._driver.cuModuleLoadData(ctypes.byref(module), code), specialisation)
        symbol = entry.symbol.encode()
        status = self._driver.cuModuleGetFunction(ctypes.byref(handle), module, symbol)
        self._check(status, specialisation)
        if entry.shared_bytes > _ALWAYS_ALLOWED_BYTES:
            wanted = (_MAX_DYNAMIC_SHARED_BYTES, entry.shared_bytes)
            self._check(self._driver.cuFuncSetAttribute(handle, *wanted), specialisation)
        function = _prepare(handle, entry, len(specialisation.kernel.arguments))
        self._functions[specialisation] = function
        return function

    def _check(self, status: int, specialisation: Specialisation) -> None:
        if status == 0:
            return
        text = ctypes.c_char_p()
        self._driver.cuGetErrorString(status, ctypes.byref(text))
        said = text.value.decode() if text.value else "unknown error"
        raise EngineCrashed(f"{specialisation.key}: CUDA error {status}: {said}")


def _prepare(handle: ctypes.c_void_p, entry: Entry, num_arguments: int) -> _Function:
    layout = struct.Struct(entry.layout)
    buffer = ctypes.create_string_buffer(layout.size)
    size = ctypes.c_size_t(layout.size)
    places = (_POINTER, ctypes.addressof(buffer), _SIZE, ctypes.addressof(size), _END)
    return _Function(
        handle=handle,
        shape=(entry.num_threads, 1, 1, entry.shared_bytes),
        layout=layout,
        scratch=(0,) * (len(entry.params) - num_arguments),
        buffer=buffer,
        size=size,
        extra=(ctypes.c_void_p * len(places))(*places),
    )


@functools.cache
def find_functions(device: int) -> Functions:
    """The kernels for a GPU, from the cache of its generation."""
    torch.cuda.set_device(device)  # makes its context the current one of this thread
    major, minor = torch.cuda.get_device_capability(device)
    compiled = read_compiled(COMPILED, f"sm_{major}{minor}")
    return Functions(compiled, LIBRARY, lambda: torch.cuda.current_stream(device).cuda_stream)
