"""Launches reach the driver with every argument where machine code reads it.

The driver is a C library of the tests, called through the same functions as CUDA's.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stoker_runtime.errors import ConfigInvalid, EngineCrashed
from stoker_runtime.kernels.gpu.cache import Compiled, Entry
from stoker_runtime.kernels.gpu.driver import Functions
from stoker_runtime.kernels.gpu.registry import Kernel, Specialisation

SOURCE = Path(__file__).parents[3] / "support/libcuda.c"
KERNEL = Kernel("rows", "round_kernel", "x_ptr *T, rows i32, place i64, eps fp32, out_ptr *T")
ONE = KERNEL.specialise({"T": "bf16"}, {"BLOCK": 64}, num_warps=4)
PARAMS = ("u64", "u32", "u64", "f32", "u64", "u64", "u64")
"""What PTX says of the arguments and of two pointers to scratch memory."""
STREAM = 0xABCD


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("libcuda") / "libcuda.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(SOURCE)], check=True)
    return str(path)


def make_functions(library: str, shared_bytes: int = 512) -> Functions:
    entry = Entry(ONE.key, "round_kernel", PARAMS, 128, shared_bytes, 32, 0, 2, 4)
    ctypes.c_int.in_dll(ctypes.CDLL(library), "status").value = 0
    return Functions(Compiled({ONE.key: entry}, b"..\x7fELF"), library, lambda: STREAM)


def test_a_launch_passes_its_arguments_as_c_lays_them_out(library: str) -> None:
    functions, seen = make_functions(library), ctypes.CDLL(library)
    x, out = torch.zeros(4), torch.zeros(4)
    for rows in (3, -7):
        functions.launch(ONE, (5, 6, 7), (x, rows, 1 << 40, 0.5, out))
        passed = bytes((ctypes.c_ubyte * 256).in_dll(seen, "arguments"))
        size = ctypes.c_size_t.in_dll(seen, "num_argument_bytes").value
        expected = struct.pack(
            "=Qi4xQf4xQQQ", x.data_ptr(), rows, 1 << 40, 0.5, out.data_ptr(), 0, 0
        )
        assert passed[:size] == expected
    assert list((ctypes.c_uint * 7).in_dll(seen, "launched")) == [5, 6, 7, 128, 1, 1, 512]
    assert ctypes.c_void_p.in_dll(seen, "stream_of_launch").value == STREAM


def test_machine_code_is_loaded_once(library: str) -> None:
    functions, seen = make_functions(library), ctypes.CDLL(library)
    before = ctypes.c_int.in_dll(seen, "num_loads").value
    for _ in range(3):
        functions.launch(ONE, (1, 1, 1), (torch.zeros(1), 1, 1, 1.0, torch.zeros(1)))
    assert ctypes.c_int.in_dll(seen, "num_loads").value == before + 1
    assert ctypes.c_ubyte.in_dll(seen, "first_code_byte").value == 0x7F
    assert ctypes.c_char.in_dll(seen, "symbol").value == b"r"


def test_much_shared_memory_is_asked_for(library: str) -> None:
    make_functions(library, 100_000).load(ONE)
    assert ctypes.c_int.in_dll(ctypes.CDLL(library), "shared_limit").value == 100_000


def test_errors_have_their_name(library: str) -> None:
    functions = make_functions(library)
    ctypes.c_int.in_dll(ctypes.CDLL(library), "status").value = 700
    with pytest.raises(EngineCrashed, match=r"round_kernel.*CUDA error 700: an illegal memory"):
        functions.load(ONE)


def test_what_was_not_compiled_is_named(library: str) -> None:
    other: Specialisation = KERNEL.specialise({"T": "fp16"}, {"BLOCK": 64}, num_warps=4)
    with pytest.raises(
        ConfigInvalid, match=r"round_kernel\(T=fp16,BLOCK=64\)w4s1 was not compiled"
    ):
        make_functions(library).load(other)


def test_a_launch_imports_no_compiler() -> None:
    program = (
        "import sys, stoker_runtime.kernels.gpu.driver, stoker_runtime.kernels.gpu.linear, "
        "stoker_runtime.kernels.gpu.ops; sys.exit('triton' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
