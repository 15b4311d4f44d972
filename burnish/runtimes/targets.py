"""The table of targets: processors that an artifact is compiled for, and how they multiply bytes.

What a product of uint8 and int8 is on each is read from ONNX Runtime, `mlas/lib/`:

- x86 without VNNI: `amd64/QgemmU8X8KernelAvx2.asm`, `QgemmU8X8KernelAvx512Core.asm` and, for one
  row, `QgemvU8S8KernelAvx2.asm` give `vpmaddubsw` two neighbours of the inner axis at a time; it
  adds both products in 16 bits and saturates. `platform.cpp` takes these kernels unless the
  processor has AVX-VNNI, AVX512-VNNI or AMX.
- Arm with dot products: `platform.cpp` takes `qgemm_kernel_udot.cpp` (`ummla` with i8mm) for uint8
  activations. It flips the sign bit of int8 weights when they are packed, which for constants is at
  load, and adds in 32 bits. The kernel of int8 activations (`qgemm_kernel_sdot.cpp`) does as many
  products with an instruction, so nothing would be gained by making them int8, for which
  `DynamicQuantizeLinear` has no output.
"""

from __future__ import annotations

from dataclasses import dataclass

from burnish.optimizer import tuner

WIDE = ("amx_int8", "asimddp", "avx512_vnni", "avx_vnni")
"""Instruction sets of which each adds products of uint8 and int8 in 32 bits, without saturation."""

NATIVE = "native"
"""Stands for the processor at hand."""


@dataclass(frozen=True)
class Target:
    """A processor.

    Attributes:
        name: the value of `--target`.
        flags: its instruction set extensions that decide about kernels, as Linux calls them.
    """

    name: str
    flags: frozenset[str]

    @property
    def saturating(self) -> bool:
        """Whether neighbouring products of uint8 and int8 are added in 16 bits."""
        return self.flags.isdisjoint(WIDE)


_AVX512 = frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"})

TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target("avx2", frozenset({"avx2", "fma"})),
        Target("avx512", _AVX512),
        Target("avx512-vnni", _AVX512 | {"avx512_vnni"}),
        Target("arm", frozenset({"asimd", "asimddp"})),
    )
}
"""Those that are not at hand; see `target_of`."""


def target_of(name: str) -> Target:
    """The row of that name, or what the processor at hand is.

    Raises:
        KeyError: where there is no such row.
    """
    return Target(NATIVE, tuner.processor()[1]) if name == NATIVE else TARGETS[name]
