"""How a kernel says what it is compiled for.

Knows names, argument types and constants; does not know Triton, torch or a driver. Each host file
declares its kernels and yields their specialisations; `compiler` builds exactly these, and `launch`
finds exactly these: there is nothing in between that could compile while a request waits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Constant = int | float | bool | None
"""What a `tl.constexpr` parameter may be."""
FLOATS = ("bf16", "fp16")
"""Element types that every kernel is compiled for; the interpreter runs float32 too."""


@dataclass(frozen=True, slots=True)
class Arch:
    """A generation of GPUs, as far as tables differ by it."""

    name: str
    """As `ptxas` spells it."""
    capability: int
    """Major version times 10 plus minor version."""
    shared_bytes: int
    """Shared memory that one block may use."""
    num_processors: int
    """Multiprocessors of the usual card, to size split work by."""

    @property
    def has_fp8(self) -> bool:
        """Whether its tensor cores multiply 8-bit floats."""
        return self.capability >= 89


ARCHS = {
    arch.name: arch
    for arch in (
        Arch("sm_80", 80, 166_912, 108),  # A100
        Arch("sm_90", 90, 232_448, 132),  # H100, H200
    )
}
"""Those there are tables for."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument that is passed at launch."""

    name: str
    type: str
    """`*T` is a pointer to elements of a type that specialisations name; else Triton's own names:
    `*i32`, `i32`, `i64`, `fp32`."""
    divisor: int
    """Its value is a multiple of this, which lets the compiler load 16 bytes at once: 16 or 1."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One function of a file in `device`."""

    module: str
    """Its file."""
    function: str
    signature: str
    """Arguments in order, `name type` or `name type:divisor`, with commas: `x_ptr *T, rows i32`.

    Pointers are multiples of 16 if nothing else is said, numbers of 1. Never specialised on more
    than that: sizes that vary from request to request must not ask for new code.
    """

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The signature, read."""
        return _read_signature(self.signature)

    def specialise(
        self,
        types: Mapping[str, str],
        constants: Mapping[str, Constant],
        num_warps: int,
        num_stages: int = 1,
    ) -> Specialisation:
        """The one specialisation with these values; equal values give the same object.

        types: placeholders of the signature → Triton's names of element types ({"T": "bf16"});
        num_stages: loads in flight of a software-pipelined loop.
        """
        return _specialise(
            self, tuple(types.items()), tuple(constants.items()), num_warps, num_stages
        )


@dataclass(frozen=True, slots=True, eq=False)
class Specialisation:
    """A kernel with everything fixed that machine code depends on; equal only to itself."""

    kernel: Kernel
    types: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Constant], ...]
    num_warps: int
    num_stages: int

    @property
    def key(self) -> str:
        """Its name in caches and messages: `w8a8.epilogue_kernel(T=bf16,BLOCK=128)w4s1`."""
        values = (*self.types, *self.constants)
        shown = ",".join(f"{name}={value}" for name, value in values)
        return (
            f"{self.kernel.module}.{self.kernel.function}({shown})w{self.num_warps}s"
            f"{self.num_stages}"
        )

    @property
    def signature(self) -> dict[str, str]:
        """Names of arguments → types, without placeholders."""
        types = dict(self.types)
        return {
            one.name: "*" + types.get(one.type[1:], one.type[1:])
            if one.type.startswith("*")
            else one.type
            for one in self.kernel.arguments
        }


@functools.cache
def _specialise(
    kernel: Kernel,
    types: tuple[tuple[str, str], ...],
    constants: tuple[tuple[str, Constant], ...],
    num_warps: int,
    num_stages: int,
) -> Specialisation:
    return Specialisation(kernel, types, constants, num_warps, num_stages)


@functools.cache
def _read_signature(signature: str) -> tuple[Argument, ...]:
    return tuple(_read_arguments(signature))


def _read_arguments(signature: str) -> Iterator[Argument]:
    for part in signature.split(","):
        name, spelled = part.split()
        type_, _, divisor = spelled.partition(":")
        default = 16 if type_.startswith("*") else 1
        yield Argument(name, type_, int(divisor) if divisor else default)
