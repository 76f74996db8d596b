"""Masks against tfmot's own functions: equal bit for bit where tfmot is right, and where not, why.

tfmot runs once, in a process of its own: importing it sets `TF_USE_LEGACY_KERAS` for the process.
"""

import dataclasses
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tfprune import layouts, masks, patterns
from tfprune.layouts import Layout
from tfprune.schedules import PolynomialDecay

_WORKER = """
import pickle, sys
import tensorflow as tf
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_schedule

def schedule(arguments):
    if isinstance(arguments, float):
        return pruning_schedule.ConstantSparsity(arguments, 0, frequency=1)
    return pruning_schedule.PolynomialDecay(**arguments)

def run(job):
    weight = tf.Variable(job["weights"][0])
    mask = tf.Variable(tf.ones_like(weight))
    threshold = tf.Variable(tf.zeros([], weight.dtype))
    step = tf.Variable(0, dtype=tf.int64)
    pruning = pruning_impl.Pruning(
        lambda: step, [(weight, mask, threshold)], schedule(job["schedule"]),
        job["block"], job["pooling"], job["m_by_n"])
    seen = []
    for at, value in zip(job["steps"], job["weights"]):
        step.assign(at)
        weight.assign(value)
        pruning.conditional_mask_update()
        seen.append((mask.numpy().astype(bool), float(threshold.numpy())))
    return seen

def count(job):
    # The expression of `Pruning._update_mask`, line for line, so that large sizes need no memory.
    size, sparsity = job
    return int(tf.dtypes.cast(tf.math.maximum(tf.math.round(
        tf.dtypes.cast(size, tf.float32) * (1 - tf.constant(sparsity, tf.float32))), 1), tf.int32))

with open(sys.argv[1], "rb") as file:
    jobs, sizes = pickle.load(file)
with open(sys.argv[2], "wb") as file:
    pickle.dump(({k: run(v) for k, v in jobs.items()}, [count(s) for s in sizes]), file)
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """Weights at one or more steps, what tfmot is asked for, and the layout tfprune sees."""

    weights: list
    sparsity: float
    block: tuple = (1, 1)
    pooling: str = "AVG"
    m_by_n: tuple | None = None
    layout: Layout | None = None
    schedule: dict | None = None
    steps: tuple = (1,)

    def job(self):
        return {
            "weights": self.weights,
            "schedule": self.schedule or self.sparsity,
            "block": self.block,
            "pooling": self.pooling,
            "m_by_n": self.m_by_n,
            "steps": self.steps,
        }

    def mask(self):
        weight = self.weights[0]
        pattern = patterns.from_tfmot(self.block, self.pooling, self.m_by_n)
        layout = self.layout or layouts.of_kernel(weight.ndim)
        return pattern.mask(masks.magnitudes(weight), layout, self.sparsity, self.sparsity)


def normal(*shape, dtype="float32"):
    return np.random.default_rng(len(shape) + shape[-1]).normal(size=shape).astype(dtype)


SAME = {
    f"unstructured {shape} {sparsity} {dtype}": Case([normal(*shape, dtype=dtype)], sparsity)
    for shape in [(17,), (31, 13), (3, 3, 5, 7), (2, 2, 2, 3, 5)]
    for sparsity in (0.0, 0.1, 0.5, 0.8, 0.98)
    for dtype in ("float32", "float16")
    # float16 has ties, and ties are where tfmot keeps too many.
    if dtype == "float32" or np.unique(np.abs(normal(*shape, dtype=dtype))).size == np.prod(shape)
}
SAME |= {
    f"block {block} {pooling} {shape} {sparsity}": Case(
        [normal(*shape)], sparsity, block=block, pooling=pooling
    )
    for shape, block in [
        ((32, 24), (4, 4)),
        ((32, 32), (1, 16)),
        ((20, 12), (5, 1)),
        ((9, 7), (2, 2)),  # ragged by one: tfmot pads that at the far edge only, and is right
    ]
    for pooling in ("AVG", "MAX")
    for sparsity in (0.3, 0.5, 0.9)
}
SAME |= {
    f"{zeros}:{group} {shape}": Case([normal(*shape)], zeros / group, m_by_n=(zeros, group))
    for zeros, group in [(2, 4), (1, 4), (3, 4), (4, 8), (1, 2), (9, 20)]
    for shape in [(32, 6), (22, 5), (3, 3, 20, 4), (3, 2, 21, 5), (1, 1, 23, 8)]
}
SAME["2:4, ties"] = Case(
    [np.random.default_rng(0).integers(1, 4, (3, 3, 10, 6)).astype("float32")], 0.5, m_by_n=(2, 4)
)

TIES = Case([np.array([3, 1, 1, 1, 1, 1, 1, 1, 1, 2], "float32")], 0.5)
ZEROS = Case([np.array([0, 0, 0, 0, 0, 0, 4, 3, 2, 1], "float32")], 0.5)
RAGGED = Case(
    [np.outer([1, 1, 1, 9, 1, 1], [1, 1, 0.01, 0.01]).astype("float32")], 0.75, block=(4, 2)
)
TRANSPOSED = Case([normal(3, 3, 8, 4)], 0.5, m_by_n=(2, 4), layout=layouts.of_transposed_kernel(4))
EMBEDDING = Case([normal(6, 8)], 0.5, m_by_n=(2, 4), layout=layouts.of_embedding())
HALF = Case([np.arange(1, 11, dtype="float32")], 0.85)
DECAY = {
    "initial_sparsity": 0.0,
    "final_sparsity": 0.5,
    "begin_step": 100,
    "end_step": 300,
    "power": 1,
    "frequency": 100,
}
FROZEN = Case(
    [normal(8, 4), normal(8, 4), normal(8, 4)[::-1], normal(8, 4)[::-1]],
    0.5,
    m_by_n=(2, 4),
    schedule=DECAY,
    steps=(1, 100, 200, 300),
)
LATE = Case([normal(4, 4)] * 3, 0.5, schedule={**DECAY, "end_step": 350}, steps=(300, 349, 350))
DIFFERENT = {
    "ties": TIES,
    "zeros": ZEROS,
    "ragged": RAGGED,
    "transposed": TRANSPOSED,
    "embedding": EMBEDDING,
    "half": HALF,
    "frozen": FROZEN,
    "late": LATE,
}
COUNTS = [
    (n, s) for n in (10, 15, 25, 400, 4608, 54_000, 16_777_217) for s in (0.5, 0.7, 0.85, 0.9)
]
COUNTS += [(100_000_003, s) for s in (0.8, 0.9, 0.92, 0.99)]


@pytest.fixture(scope="module")
def tfmot(tmp_path_factory):
    """What tfmot answers to every case, by name; and its kept counts."""
    folder = tmp_path_factory.mktemp("tfmot")
    jobs = {name: case.job() for name, case in {**SAME, **DIFFERENT}.items()}
    (folder / "jobs").write_bytes(pickle.dumps((jobs, COUNTS)))
    result = subprocess.run(
        [sys.executable, "-c", _WORKER, str(folder / "jobs"), str(folder / "answers")],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return pickle.loads((folder / "answers").read_bytes())


# -- Equal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAME)
def test_bit_for_bit(tfmot, name):
    (theirs, threshold) = tfmot[0][name][0]
    ours, limit = SAME[name].mask()
    np.testing.assert_array_equal(ours, theirs)
    assert theirs.any()
    if SAME[name].m_by_n is None:
        assert limit == pytest.approx(threshold, rel=1e-6)


def test_the_copy_of_tfmots_count_is_true(tfmot):
    """`test_masks.py` compares a whole grid with this formula in numpy."""
    from_numpy = [
        int(max(np.float32(1), np.round(np.float32(n) * (np.float32(1) - np.float32(s)))))
        for n, s in COUNTS
    ]
    assert from_numpy == tfmot[1]


# -- Different, and why ----------------------------------------------------------------------------


def test_tfmot_keeps_every_tie(tfmot):
    """Half of ten weights: five. tfmot keeps all that reach the threshold, here all ten."""
    theirs, threshold = tfmot[0]["ties"][0]
    assert threshold == 1.0
    assert theirs.sum() == 10
    ours, limit = TIES.mask()
    assert np.flatnonzero(ours).tolist() == [0, 1, 2, 3, 9]
    assert limit == 1.0


def test_tfmot_loses_sparsity_below_the_zeros_that_are_there(tfmot):
    """60 % zeros and a target of 50 %: tfmot's threshold is 0, and every weight reaches that."""
    theirs, threshold = tfmot[0]["zeros"][0]
    assert threshold == 0.0
    assert theirs.all()
    ours, limit = ZEROS.mask()
    assert np.flatnonzero(ours).tolist() == [6, 7, 8, 9]
    assert limit == 1.0


def test_tfmot_shifts_ragged_blocks(tfmot):
    """Six rows in blocks of four: rows 0-3 and 4-5. One block of four is kept.

    tfmot pools with the padding on both sides, over rows 0-2 and 3-5, but lays the mask on rows
    0-3 and 4-5. So the large weight of row 3 speaks for the second block, and is itself cut.
    """
    theirs, threshold = tfmot[0]["ragged"][0]
    assert theirs.astype(int).tolist() == [[0, 0, 0, 0]] * 4 + [[1, 1, 0, 0]] * 2
    assert threshold == pytest.approx(11 / 3)
    ours, limit = RAGGED.mask()
    assert ours.astype(int).tolist() == [[1, 1, 0, 0]] * 4 + [[0, 0, 0, 0]] * 2
    assert limit == 3.0


def groups_of_four(mask, axis):
    """Return the kept counts of the groups of four along an axis."""
    return set(np.moveaxis(mask, axis, -1).reshape(-1, 4).sum(axis=1).tolist())


def test_tfmot_groups_transposed_convolutions_along_their_outputs(tfmot):
    """The kernel is (h, w, out, in); tfmot takes the third axis, inputs elsewhere, for inputs.

    TFLite stores it as (out, h, w, in), so the groups of tfmot's mask lie across its rows.
    """
    theirs, _ = tfmot[0]["transposed"][0]
    ours, _ = TRANSPOSED.mask()
    assert groups_of_four(theirs, axis=2) == groups_of_four(ours, axis=3) == {2}
    assert groups_of_four(theirs, axis=3) != {2}


def test_tfmot_groups_embeddings_along_the_vocabulary(tfmot):
    """The table is (vocabulary, dimension); a lookup reads a row, so groups belong in rows.

    Along the vocabulary, whether a word keeps a number depends on the word that stands before it.
    """
    theirs, _ = tfmot[0]["embedding"][0]
    ours, _ = EMBEDDING.mask()
    assert set(theirs[:4].sum(axis=0).tolist()) == {2}
    assert groups_of_four(ours, axis=1) == {2}
    assert groups_of_four(theirs, axis=1) != {2}


def test_tfmot_counts_in_single_precision(tfmot):
    """10 weights at 85 % keep 1.5, to even: 2. In float32, 10 * (1 - 0.85) is just below 1.5.

    Among 100 million weights the count is several off: there float32 holds every eighth number.
    """
    theirs, _ = tfmot[0]["half"][0]
    assert theirs.sum() == 1
    assert np.flatnonzero(HALF.mask()[0]).tolist() == [8, 9]
    counts = dict(zip(COUNTS, tfmot[1], strict=True))
    assert counts[100_000_003, 0.92] == 7_999_998
    assert masks.kept_count(100_000_003, 0.92) == 8_000_000


def test_tfmot_fixes_n_of_m_at_step_one(tfmot):
    """A schedule from 0 % at step 100 to 50 % at step 300.

    tfmot prunes all groups at step 1, on weights that have not trained, and never looks again:
    the code asks `step == 1` where it asks the schedule otherwise. Here groups go as the schedule
    says, on the weights of that moment.
    """
    theirs = [mask for mask, _ in tfmot[0]["frozen"]]
    assert 1 - theirs[0].mean() == 0.5
    for later in theirs[1:]:
        np.testing.assert_array_equal(later, theirs[0])

    schedule = PolynomialDecay(**DECAY)
    pattern, layout = patterns.NM(2, 4), layouts.of_kernel(2)
    assert schedule.update_between(-1, 1) is None
    reached = []
    for step, weight in zip(FROZEN.steps[1:], FROZEN.weights[1:], strict=True):
        assert schedule.update_between(step - 1, step) == step
        mask, _ = pattern.mask(masks.magnitudes(weight), layout, schedule.sparsity(step), 0.5)
        reached.append(1 - mask.mean())
    assert reached == [0.0, 0.25, 0.5]
    assert (mask != theirs[-1]).any()  # the weights have changed since step 1


def test_tfmot_misses_the_last_update_off_the_grid(tfmot):
    """Updates every 100 steps from 100, the end at 350: tfmot stops at 300, 40 % not 50 %."""
    at_300, at_349, at_350 = (mask.sum() for mask, _ in tfmot[0]["late"])
    assert at_300 == at_349 == at_350 == 10  # 16 * 0.6 = 9.6
    schedule = PolynomialDecay(**LATE.schedule)
    assert schedule(300)[0]
    assert not schedule(349)[0]
    assert schedule(350) == (True, 0.5)
