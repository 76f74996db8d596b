"""What processor this is, and whether XNNPACK uses its sparse kernels on it.

Source: XNNPACK's `xnn_is_chw_compatible_config`: false on any x86 with AVX, true elsewhere; the
kernels themselves exist for NEON, SSE, WASM SIMD, RVV and HVX.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform

CPUINFO = pathlib.Path("/proc/cpuinfo")
_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
_TOLD = (
    *("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw"),
    *("avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("neon", "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""The features that choose kernels, by the names of /proc/cpuinfo."""


@dataclasses.dataclass(frozen=True)
class Cpu:
    """A processor.

    Attributes:
        name: such as "AMD EPYC".
        architecture: such as "x86_64" or "aarch64".
        cores: logical processors that are there.
        features: those that decide between kernels; empty where the system does not tell.
    """

    name: str
    architecture: str
    cores: int
    features: tuple[str, ...]

    @property
    def sparse_kernels(self) -> bool | None:
        """Whether XNNPACK has sparse kernels here; None if the features are not known."""
        if self.architecture.lower() not in _X86:
            return True
        return "avx" not in self.features if self.features else None

    def statement(self) -> str:
        """Say what zeros can do for the speed on this processor."""
        if self.sparse_kernels is None:
            return (
                "Sparse kernels are not used on an x86 with AVX, which nearly every PC is; whether "
                "this CPU has AVX is not known here."
            )
        if self.sparse_kernels:
            return "This CPU has sparse kernels; XNNPACK uses them for float graphs that qualify."
        return (
            "Sparse kernels are not used on this CPU (x86 with AVX): zeros cannot make a file "
            "faster here. Measure on a phone (`--runtime adb`) or in a browser "
            "(`--runtime wasm`), which have them."
        )

    def __str__(self) -> str:
        told = ", ".join(self.features) or "features not known"
        return f"{self.name} ({self.architecture}, {self.cores} cores; {told})"


def this_cpu(cpuinfo: pathlib.Path = CPUINFO) -> Cpu:
    """Return the processor of this machine.

    Args:
        cpuinfo: the file that Linux tells about it in.
    """
    architecture = platform.machine() or "unknown"
    text = cpuinfo.read_text("utf-8", "replace") if cpuinfo.is_file() else ""
    found = from_cpuinfo(text, architecture)
    return dataclasses.replace(
        found,
        name=found.name or platform.processor() or "unknown CPU",
        cores=os.cpu_count() or found.cores,
    )


def from_cpuinfo(text: str, architecture: str) -> Cpu:
    """Return the processor that the text of a /proc/cpuinfo tells of; empty where it is silent."""
    fields: dict[str, str] = {}
    cores = 0
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        cores += key == "processor"
        fields.setdefault(key, value)
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    name = fields.get("model name") or fields.get("Hardware") or ""
    return Cpu(name, architecture, cores, tuple(flag for flag in _TOLD if flag in flags))
