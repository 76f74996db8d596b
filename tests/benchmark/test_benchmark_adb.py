"""The phone, played by a script called `adb`."""

import pathlib
import re
import sys
import textwrap

import numpy as np
import pytest

import tfprune
from tfprune.benchmarking import BenchmarkFailure, MissingTool, native
from tfprune.benchmarking.adb import devices
from tfprune.benchmarking.inputs import seeded_inputs
from tfprune.benchmarking.model import read_model

DATA = pathlib.Path(__file__).parent / "data"
ONE = "List of devices attached\nR58M\tdevice\n\n"

ADB = """
    import pathlib, shlex, shutil, sys
    here = pathlib.Path(__file__).parent
    with open(here / "log.txt", "a") as log:
        log.write(shlex.join(sys.argv[1:]) + "\\n")
    words = sys.argv[1:]
    if words == ["devices"]:
        print((here / "devices.txt").read_text(), end="")
        sys.exit(0)
    serial = words.pop(0) == "-s" and words.pop(0)
    phone = here / "phone"
    on_phone = lambda path: phone / path.lstrip("/")
    if words[0] == "push":
        shutil.copy(words[1], on_phone(words[2]))
    elif words[0] == "pull":
        if not on_phone(words[1]).is_file():
            sys.exit("adb: error: failed to stat remote object")
        shutil.copy(on_phone(words[1]), words[2])
    elif words[0] == "shell":
        command = shlex.split(words[1])
        if command[0] == "mkdir":
            on_phone(command[2]).mkdir(parents=True)
        elif command[0] == "rm":
            shutil.rmtree(on_phone(command[2]))
        elif command[0] == "test":
            sys.exit(not on_phone(command[2]).is_file())
        elif command[0] == "getprop":
            known = {"ro.product.model": "Pixel 9", "ro.build.version.release": "16"}
            print(known.get(command[1], ""))
        elif command[0] == "uname":
            print("aarch64")
        elif command[0] == "cat":
            print("processor\\t: 0\\nFeatures\\t: fp asimd asimdhp\\nHardware\\t: Tensor")
        elif command[0].endswith("benchmark_model"):
            exec((here / "tool.py").read_text())
"""
# Computes what the real one would: the ReLU of the inputs times the matrix of the test's file.
TOOL = """
    flags = dict(word[2:].split("=", 1) for word in command[1:])
    print((here / "output.txt").read_text())
    if "output_filepath" in flags and (here / "answer.bin").exists():
        values = flags["input_layer_value_files"].split(":", 1)[1]
        assert on_phone(values).read_bytes() == (here / "input.bin").read_bytes()
        shutil.copy(here / "answer.bin", on_phone(flags["output_filepath"]))
"""


class FakePhone:
    """What the script reads and writes."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        (folder / "phone" / "data" / "local" / "tmp").mkdir(parents=True)
        self.tmp = folder / "phone" / "data" / "local" / "tmp"
        script = folder / "adb"
        script.write_text(f"#!{sys.executable} -S" + textwrap.dedent(ADB))
        script.chmod(0o755)
        self.set("devices.txt", ONE)
        self.set("output.txt", (DATA / "benchmark_model.txt").read_text())
        self.set("tool.py", textwrap.dedent(TOOL))
        self.set("benchmark_model", "the binary")
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("TFPRUNE_BENCHMARK_MODEL", raising=False)

    def set(self, name, text):
        (self.folder / name).write_text(text)

    @property
    def binary(self):
        return self.folder / "benchmark_model"

    @property
    def log(self):
        return (self.folder / "log.txt").read_text().splitlines()

    def turns(self):
        """Return the timed runs of the tool, in order."""
        return [line for line in self.log if "--graph=" in line and "--output_filepath" not in line]

    def answer(self, path, factor=1.0):
        """Let the phone compute what the file at `path` does, or nearly."""
        model = read_model(path)
        arrays = seeded_inputs(model)
        (self.folder / "input.bin").write_bytes(arrays[0].tobytes())
        [values] = native.plain_outputs(model, arrays, 60.0)
        (self.folder / "answer.bin").write_bytes((values * np.float32(factor)).tobytes())


@pytest.fixture
def phone(tmp_path, monkeypatch):
    return FakePhone(tmp_path, monkeypatch)


def measure(files, phone, **options):
    return tfprune.benchmark(files, "adb", **{"binary": phone.binary, **options})


def test_figures_of_the_phone(phone, made):
    phone.answer(made["one"])
    done = measure(made["one"], phone)
    [file] = done.files
    assert (file.median_ms, file.p5_ms, file.p95_ms) == (33.252, 32.944, 34.410)
    assert (file.load_ms, file.first_ms) == (21.385, 41.890)
    assert file.peak_memory_bytes == 36.5 * 2**20
    assert file.runs == 5 * 50  # the recorded output says 50 each time
    assert file.max_rel_error == 0
    assert done.device == "benchmark_model on Pixel 9, Android 16"
    assert (done.cpu.name, done.cpu.architecture) == ("Tensor", "aarch64")
    assert done.cpu.features == ("asimd", "asimdhp")
    assert "This CPU has sparse kernels" in str(done)
    assert done.energy == "no meter"


def test_what_the_tool_is_asked(phone, made):
    measure([made["one"], made["other"]], phone, threads=4, runs=50, warmup=7, time_limit=100)
    turns = phone.turns()
    assert len(turns) == 2 * 5
    folders = [re.search(r"tfprune-\w+/(\d)/model", turn).group(1) for turn in turns]
    assert "".join(folders) == "0110011001"
    command = turns[0]
    for flag in (
        *("--num_threads=4", "--num_runs=10", "--warmup_runs=7", "--max_secs=100"),
        *("--use_xnnpack=true", "--input_layer=input0", "--input_layer_shape=1,256"),
    ):
        assert flag in command
    assert command.startswith("-s R58M shell ")


def test_nothing_stays_on_the_phone(phone, made):
    measure(made["one"], phone)
    assert list(phone.tmp.iterdir()) == []


def test_wrong_numbers_on_the_phone_show(phone, made):
    phone.answer(made["one"], factor=1.001)
    [file] = measure(made["one"], phone).files
    assert file.wrong
    assert file.max_rel_error == pytest.approx(0.001, rel=0.01)


def test_a_tool_that_writes_no_outputs(phone, made):
    done = measure(made["one"], phone)
    assert done.files[0].max_rel_error is None
    assert any("does not write outputs" in note for note in done.notes)


def test_an_old_tool(phone, made):
    phone.set("output.txt", (DATA / "benchmark_model_old.txt").read_text())
    done = measure(made["one"], phone)
    [file] = done.files
    assert (file.median_ms, file.p5_ms, file.peak_memory_bytes) == (130.3, None, None)
    assert any("the mean only" in note for note in done.notes)


def test_a_failing_run(phone, made):
    text = (DATA / "benchmark_model_failed.txt").read_text()
    phone.set("tool.py", f"print({text!r}, file=sys.stderr); sys.exit(1)")
    with pytest.raises(BenchmarkFailure, match="unresolved custom op: Mystery"):
        measure(made["one"], phone)
    assert list(phone.tmp.iterdir()) == []


def test_one_failing_file_leaves_the_other(phone, made):
    tool = '\nif "/0/model" in words[1]:\n    sys.exit("Segmentation fault")\n'
    phone.set("tool.py", tool + textwrap.dedent(TOOL))
    failed, other = measure([made["one"], made["other"]], phone).files
    assert "Segmentation fault" in failed.failure
    assert other.median_ms == 33.252


def test_no_adb(tmp_path, monkeypatch, made):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match=r"apt install adb.*platform-tools.*Received: "):
        tfprune.benchmark(made["one"], "adb")


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("", "switch on its developer options"),
        ("R58M\tunauthorized\n", "waits for you to allow this computer"),
        ("R58M\toffline\n", "adb reconnect"),
        ("R58M\tno permissions (user in plugdev group?); see [http://...]\n", "udev rules"),
        ("R58M\trescue\n", "is not ready \\(rescue\\)"),
        ("R58M\tdevice\nemulator-5554\tdevice\n", r"2 phones.*--serial.*R58M.*emulator-5554"),
    ],
)
def test_phones_that_cannot_be_used(phone, made, listed, said):
    phone.set("devices.txt", f"List of devices attached\n{listed}\n")
    with pytest.raises(MissingTool, match=said) as caught:
        measure(made["one"], phone)
    assert "Received: " in str(caught.value)


def test_one_of_several_phones(phone, made):
    phone.set("devices.txt", "List of devices attached\nA1\tdevice\nB2\tdevice\n")
    measure(made["one"], phone, serial="B2")
    assert all(line.startswith(("-s B2 ", "devices")) for line in phone.log)
    with pytest.raises(MissingTool, match="'C3'"):
        measure(made["one"], phone, serial="C3")


def test_the_only_phone_that_is_ready_is_taken(phone, made):
    phone.set("devices.txt", "List of devices attached\nA1\toffline\nB2\tdevice\n")
    measure(made["one"], phone)
    assert phone.log[1].startswith("-s B2 ")


def test_where_the_binary_is(phone, made, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"litert/models/measurement.*Received: "):
        measure(made["one"], phone, binary=phone.folder / "none")
    with pytest.raises(MissingTool, match=r"neither given nor on the phone.*Received: "):
        measure(made["one"], phone, binary=None)
    (phone.tmp / "benchmark_model").write_text("pushed before")
    measure(made["one"], phone, binary=None)
    assert "shell /data/local/tmp/benchmark_model" in phone.turns()[0].replace("'", "")
    monkeypatch.setenv("TFPRUNE_BENCHMARK_MODEL", str(phone.binary))
    measure(made["one"], phone, binary=None)
    assert any("push" in line and str(phone.binary) in line for line in phone.log)


def test_devices_as_adb_lists_them():
    text = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n" + ONE
    assert devices(text) == [("R58M", "device")]
