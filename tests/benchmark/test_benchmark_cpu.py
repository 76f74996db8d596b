"""Processors, from the texts that they give."""

import pytest

from tfprune.benchmarking.cpu import Cpu, from_cpuinfo, this_cpu

EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9354
flags\t\t: fpu sse sse2 ssse3 sse4_1 sse4_2 avx f16c avx2 avx512f

processor\t: 1
model name\t: AMD EPYC 9354
flags\t\t: fpu sse sse2 ssse3 sse4_1 sse4_2 avx f16c avx2 avx512f
"""
NEHALEM = "processor\t: 0\nmodel name\t: Core i7 9xx\nflags\t\t: fpu sse sse2 ssse3 sse4_1\n"
PHONE = """processor\t: 0
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes asimdhp cpuid asimddp
CPU implementer\t: 0x51

Hardware\t: Qualcomm Technologies, Inc SM8250
"""


def test_avx_has_no_sparse_kernels():
    cpu = from_cpuinfo(EPYC, "x86_64")
    assert (cpu.name, cpu.cores) == ("AMD EPYC 9354", 2)
    told = ("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "avx2", "avx512f")
    assert cpu.features == told
    assert cpu.sparse_kernels is False
    assert cpu.statement().startswith("Sparse kernels are not used on this CPU (x86 with AVX)")
    assert "--runtime wasm" in cpu.statement()


def test_the_first_avx_counts_too():
    cpu = from_cpuinfo(NEHALEM.replace("sse4_1", "sse4_1 avx"), "x86_64")
    assert cpu.sparse_kernels is False


@pytest.mark.parametrize(("text", "machine"), [(NEHALEM, "x86_64"), (PHONE, "aarch64")])
def test_others_have_them(text, machine):
    cpu = from_cpuinfo(text, machine)
    assert cpu.sparse_kernels is True
    assert "has sparse kernels" in cpu.statement()


def test_a_phone_tells_its_chip():
    cpu = from_cpuinfo(PHONE, "aarch64")
    assert cpu.name == "Qualcomm Technologies, Inc SM8250"
    assert cpu.features == ("asimd", "asimdhp", "asimddp")


def test_an_x86_that_does_not_tell():
    cpu = Cpu("Intel", "AMD64", 8, ())
    assert cpu.sparse_kernels is None
    assert "not known here" in cpu.statement()


def test_this_machine(tmp_path):
    assert this_cpu().cores >= 1
    silent = this_cpu(tmp_path / "none")
    assert silent.features == ()
    assert silent.name
