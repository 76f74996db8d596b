"""One contract on three backends of Keras: each has a process, which is asked the same questions.

The processes start together and live as long as this file's tests; `contract.py` is what they run.
"""

import importlib.util
import itertools
import os
import pathlib

import numpy as np
import pytest

from tfprune.child import Child

pytestmark = pytest.mark.journey

NAMES = ("tensorflow", "jax", "torch")
CODE = (
    "import os; os.environ['KERAS_BACKEND'] = {name!r}; "
    "os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3'); "
    "os.environ['OMP_NUM_THREADS'] = '1'; "  # PyTorch's threads wait for each other on a busy core
    "from backends import contract; contract.answer()"
)
SECONDS = 300.0
PAIRS = [pair for pair in itertools.product(NAMES, NAMES) if pair[0] != pair[1]]


def installed(name):
    return importlib.util.find_spec(name) is not None


@pytest.fixture(scope="module")
def children():
    """The processes of all backends that are installed."""
    started = {name: Child(CODE.format(name=name), name) for name in NAMES if installed(name)}
    yield started
    for one in started.values():
        one.close()


@pytest.fixture(scope="module")
def ask(children):
    """Return a function that asks the process of a backend to do something."""

    def asked(name, what, **arguments):
        if name not in children:
            advice = f"{name} is not installed: `pip install '.[backends]'`"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(advice)
        return children[name].ask({"do": what, **arguments}, SECONDS)["value"]

    return asked


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backends")


@pytest.fixture(scope="module")
def halves(ask, folder):
    """Return a function that tells of the half-pruned model that a backend saved, once."""
    made = {}

    def saved(name):
        if name not in made:
            made[name] = ask(name, "save_half", folder=str(folder))
        return made[name]

    return saved


@pytest.mark.parametrize("name", NAMES)
def test_each_process_has_its_backend(ask, name):
    assert ask(name, "backend") == name


@pytest.mark.parametrize("name", ["jax", "torch"])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1x4"])
def test_equal_weights_get_equal_masks_bit_for_bit(ask, name, pattern):
    ours, theirs = ask(name, "masks", pattern=pattern), ask("tensorflow", "masks", pattern=pattern)
    assert ours == theirs
    assert len(ours["masks"]) >= 10
    assert len(set(ours["masks"])) == len(ours["masks"])


@pytest.mark.parametrize("name", NAMES)
def test_fit_prunes_and_strips(ask, name):
    got = ask(name, "train")
    assert got["reached"] == [0.5, 0.5]
    assert got["steps"] == [16, 16]
    assert got["learns"]
    assert got["zeros"] == 8 * 16 // 2
    assert got["apart"] < 1e-5
    # Adam keeps zeros on every backend, so that the forward pass is spared the masks.
    assert got["seen"] == [[True, True]]


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 4}, {"unknown": True}])
@pytest.mark.parametrize("name", NAMES)
def test_batches_may_end_before_they_are_told_of(ask, name, options):
    """Keras on JAX starts the next step meanwhile, if no callback must be told at once."""
    if name == "torch" and "steps_per_execution" in options:
        return  # Keras refuses it
    got = ask(name, "told", watched=False, **options)
    want = ask(name, "told", watched=True, **options)
    assert (got.pop("beside") > 0) == (name == "jax")
    assert want.pop("beside") == 0
    assert got == want
    counted, stored = zip(*(steps for _, *steps in got["seen"]), strict=True)
    assert counted == ((12,) if "unknown" in options else (6, 12))
    assert stored == ((None,) if "unknown" in options else (6, 12))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tensorflow", {"jit_compile": True}),
        ("jax", {"jit_compile": True}),
        ("jax", {"steps_per_execution": 2}),
        ("torch", {"jit_compile": True}),
    ],
)
def test_fit_compiled(ask, name, options):
    got = ask(name, "train", **options)
    assert got["reached"] == [0.5, 0.5]
    assert got["steps"] == [16, 16]
    assert got["seen"] == [[True, True]]
    assert got["apart"] < 1e-5


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_rules_patterns_and_regrowth(ask, name):
    for pattern, regrowth in (("2:4", None), ("1x4", None), ("unstructured", "soft")):
        got = ask(name, "chosen", pattern=pattern, regrowth=regrowth)
        assert got["reached"][0] == 0.5
        assert got["zeros"] == 8 * 16 // 2
        assert got["apart"] < 1e-5


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}])
@pytest.mark.parametrize(
    "what",
    [{"score": "movement"}, {"score": "taylor"}, {"score": "snip"}, {"regrowth": "rigl"}],
    ids=lambda what: next(iter(what.values())),
)
def test_gradients_choose_the_same_masks_on_pytorch(ask, what, options):
    got = ask("torch", "chosen_by", by=what, **options)
    assert got == ask("tensorflow", "chosen_by", by=what)
    assert got["reached"][0] == 0.5
    assert got["zero"]


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_optimizers_that_keep_zeros_keep_them_here(ask, name):
    got = ask(name, "optimizers")
    assert len(got) == 8
    assert all(seen == [[True, True]] for seen in got.values()), got


@pytest.mark.parametrize("name", NAMES)
def test_mean_squares_are_kept_from_zero_where_its_root_is_slow(ask, name):
    least = ask(name, "mean_squares")
    if name == "torch":
        assert all(0 < one < 1e-12 for one in least)
    else:
        assert set(least) == {0.0}


@pytest.mark.parametrize("name", NAMES)
def test_penalties_count_once_whether_masks_are_spared_or_not(ask, name):
    got = ask(name, "penalties")
    dense, wrapped = got["losses"]
    assert wrapped == pytest.approx(dense, rel=1e-5)
    assert got["seen"] == [[True, True]]


def test_pytorch_masks_gradients_as_long_as_fit_runs(ask):
    assert ask("torch", "after_fit") == [0.0, 1.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "transposed"), [((3, 5), False), ((3, 5), True), ((700, 800), False)]
)
def test_pytorch_masks_in_place_to_the_bit(ask, shape, transposed, dtype):
    """The last shape has more weights than are masked together."""
    got = ask("torch", "masking", shape=shape, dtype=dtype, transposed=transposed)
    assert got == []


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_an_optimizer_of_ones_own_is_not_trusted(ask, name):
    got = ask(name, "own_optimizer")
    assert {spared for spared, _ in got["seen"]} == {False}
    assert got["reached"] == [0.5, 0.5]


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_an_optimizer_of_the_same_model_is_no_stranger(ask, name):
    assert ask(name, "refitted") == ["accumulating", "average", "adafactor", "scaled"]


def test_a_layer_may_be_frozen_behind_its_optimizer_where_that_looks_weights_up(ask):
    assert ask("torch", "frozen_later") == "nothing"
    assert "in the place of that of" in ask("jax", "frozen_later")


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_half_pruned_file_goes_on_elsewhere(ask, halves, folder, first, second):
    before, own = halves(first), ask(first, "go_on", folder=str(folder), other=first)
    got = ask(second, "go_on", folder=str(folder), other=first)
    loaded = got["loaded"]
    assert loaded["masks"] == before["masks"]
    assert loaded["step"] == [4, 4]
    assert loaded["updates"] == 4
    assert loaded["rate"] == pytest.approx(0.01)
    assert len(loaded["slots"]) == 10
    assert loaded["slots"] == pytest.approx(before["slots"], rel=1e-6)
    assert min(loaded["slots"]) > 0

    assert got["step"] == [8, 8]
    assert got["updates"] == 8
    assert got["reached"] == [0.5, 0.5]
    assert got["masks"] == own["masks"]
    ours, theirs = (_weights(folder / f"{first}-{name}.npz") for name in (second, first))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def _weights(path):
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_of_ones_own(ask, name):
    assert ask(name, "loop") == {"reached": [0.5, 0.5], "steps": [8, 8], "zero": True}


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_recurrent_layers_and_attention(ask, folder, name):
    got = ask(name, "sequences", folder=str(folder))
    assert got["reached"] == pytest.approx([0.5] * len(got["reached"]), abs=0.01)
    assert len(got["reached"]) == 12  # embedding, 4 of attention, 4 + 2 recurrent, dense
    assert got["apart"] < 1e-5


@pytest.mark.parametrize(
    ("name", "policy"), [("jax", "mixed_float16"), ("torch", "mixed_bfloat16")]
)
def test_mixed_precision(ask, name, policy):
    assert ask(name, "mixed", policy=policy) == {"reached": [0.5, 0.5], "weights": ["float32"]}


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_summaries(ask, tmp_path, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    assert ask(name, "summaries", folder=str(tmp_path)) == [0.5, 0.5]
    events = EventAccumulator(str(tmp_path / "metrics"))
    events.Reload()
    last = events.Tensors("sparsity/wide/kernel")[-1]
    assert last.step == 8
    assert tensor_util.make_ndarray(last.tensor_proto) == 0.5


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_channels(ask, name):
    # The figures of `test_importance_jax.py`, worked by hand there.
    assert ask(name, "channels") == {
        "taylor": [30.0, 20.0],
        "activation": [0.667, 1.333],
        "soft": 1,
        "slim": 8,
    }


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_what_needs_no_training_gives_the_figures_of_tensorflow(ask, name):
    ours, theirs = ask(name, "without_training"), ask("tensorflow", "without_training")
    assert ours.keys() == theirs.keys()
    for what, figure in theirs.items():
        assert ours[what] == pytest.approx(figure, rel=1e-3), what


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_distilled_student(ask, name):
    assert ask(name, "distill") == [0.5, 0.5]


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_what_cannot_be_says_so(ask, name):
    said = ask(name, "errors")
    for what in ("score", "rigl"):
        refused = "works with TensorFlow and PyTorch as backend of Keras, not with 'jax'"
        assert refused in said[what] if name == "jax" else said[what] == "nothing"
    for what in ("optimizer", "thawed", "reordered"):
        assert "holds the state of other weights" in said[what]
    assert "written by a newer tfprune" in said["newer"]
    assert "format 99, where 2 is expected" in said["newer"]
    for what in ("no callback", "interrupted"):
        assert "without the callback `UpdatePruningStep`" in said[what]
    assert "was changed after it was wrapped for pruning" in said["adapted"]
    assert ("must be 1 with the PyTorch backend" in said["steps"]) == (name == "torch")


@pytest.mark.parametrize("name", ["jax", "torch"])
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_export_goes_through_tensorflow(ask, folder, name, quantize):
    got = ask(name, "export", folder=str(folder), quantize=quantize)
    path = folder / f"{name}-{quantize}.tflite"
    assert got["class"] == "ExportResult"
    assert got["path"] == str(path)
    assert got["samples"] == 32
    assert got["zeros"][0] >= 64  # half of 8 x 16
    assert got["bytes"][0] == got["bytes"][1]
    assert got["apart"] < (0.1 if quantize else 1e-5)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_class_that_can_be_imported_is_exported(ask, folder, name):
    got = ask(name, "export_own_class", folder=str(folder))
    assert got["zeros"] == 8 * 4 // 2
    assert got["error"] < 1e-5
    assert got["there"] == [True, True]


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_exports_that_cannot_be_leave_nothing(ask, folder, name):
    said = ask(name, "refused_exports", folder=str(folder))
    assert "cannot find a class or loss of the model" in said["own class"]
    assert "KERAS_BACKEND=tensorflow" in said["own class"]
    assert said["quantize"].startswith("ValueError: `quantize` must be None")
    assert "'wide/kernel' holds NaN" in said["not finite"]
    for what in ("savings", "variants"):
        assert "needs Keras on the TensorFlow backend" in said[what]
        assert repr(name) in said[what]
    assert said["left"] == []


def test_the_command_exports_whatever_keras_is_set_to(ask, halves, folder, run_python):
    halves("jax")
    out = folder / "out"
    run_python(
        "import sys; from tfprune.cli import main; "
        f"sys.argv[1:] = ['export', {str(folder / 'jax.keras')!r}, '--out', {str(out)!r}, "
        "'--variants', 'float32', '--runs', '5']; main()",
        KERAS_BACKEND="jax",
    )
    assert pathlib.Path(out / "jax-float32.tflite").read_bytes()[4:8] == b"TFL3"
