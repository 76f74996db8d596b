"""Any small model, any way of pruning: trained, saved, loaded, trained on, stripped, exported.

`TFPRUNE_EXAMPLES=200` tries more models than the usual few, other ones each time.
"""

import os
import tempfile

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import tfprune
from robustness import graphs

EXAMPLES = int(os.environ.get("TFPRUNE_EXAMPLES", "0"))
STEPS, BATCH = 2, 4
END = 2 * STEPS  # two runs of `fit`

schedules = st.sampled_from(
    [
        tfprune.ConstantSparsity(0.5, begin_step=0, frequency=1),
        tfprune.ConstantSparsity(0.75, begin_step=STEPS, frequency=2),
        tfprune.PolynomialDecay(0.2, 0.8, begin_step=0, end_step=END, frequency=1),
        tfprune.OneShot(0.5, step=1),
    ]
)
regrowths = st.sampled_from([None, None, tfprune.RigL(), tfprune.SoftPruning()])


def fit(model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * BATCH, 8, 8, 2)).astype("float32")
    y = rng.integers(0, 3, STEPS * BATCH)
    callbacks = [tfprune.UpdatePruningStep(verbose=False)]
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=callbacks)
    return x


def run(path, x):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    rows = []
    for row in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(rows)


def pruned_weights(model):
    """Yield (layer, weight, mask) of the wrapped layers as arrays."""
    for layer in model.layers:
        if isinstance(layer, tfprune.PruneLowMagnitude):
            for weight, mask, _ in layer.pruning_vars:
                yield layer, np.asarray(weight), np.asarray(mask)


def expected_zeros(layer, size):
    """Return how many zeros the schedule wants in a weight at the end; any pattern rounds."""
    return layer.pruning_schedule.final_sparsity * size


@pytest.mark.journey
@hypothesis.settings(
    max_examples=EXAMPLES or 10,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.generate],  # making a failure smaller takes minutes
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    graphs.models(),
    schedules,
    st.sampled_from(graphs.PATTERNS),
    st.sampled_from(graphs.SCORES),
    regrowths,
)
def test_whatever_is_pruned_stays_so(model, schedule, pattern, score, regrowth):
    try:
        rule = tfprune.Rule(schedule=schedule, pattern=pattern, score=score, regrowth=regrowth)
        wrapped = tfprune.prune(model, [rule])
    except ValueError as error:  # such as 2:4 at another sparsity, or nothing that it fits
        assert "Received:" in str(error) or "can be pruned" in str(error)  # noqa: PT017
        return
    before = [np.array(weight) for weight in model.get_weights()]
    wrapped.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(True))
    x = fit(wrapped)
    with tempfile.TemporaryDirectory() as folder:
        wrapped.save(f"{folder}/w.keras")
        loaded = keras.models.load_model(f"{folder}/w.keras")
        np.testing.assert_array_equal(
            loaded.predict(x, verbose=0), wrapped.predict(x, verbose=0), "loaded"
        )
        fit(loaded)
        found = list(pruned_weights(loaded))
        assert found
        for layer, weight, mask in found:
            if not isinstance(regrowth, tfprune.SoftPruning):  # it keeps what it cuts till the end
                assert not weight[~mask.astype(bool)].any(), layer.name
            cut = mask.size - np.count_nonzero(mask)
            wanted = expected_zeros(layer, mask.size)
            # Blocks are kept or cut whole, and one of them stays in any weight.
            assert abs(cut - wanted) <= (1 if pattern == "unstructured" else 4 + 0.3 * mask.size)
        stripped = tfprune.strip_pruning(loaded)
        kept = loaded.predict(x, verbose=0)
        np.testing.assert_allclose(stripped.predict(x, verbose=0), kept, 1e-5, 1e-5)
        assert not any(isinstance(one, tfprune.PruneLowMagnitude) for one in stripped.layers)
        path = f"{folder}/m.tflite"
        tfprune.export_tflite(stripped, path)
        np.testing.assert_allclose(run(path, x), kept, 1e-3, 1e-4)
        zeros = sum(row.size - row.nonzero for row in tfprune.inspect_file(path).weights)
        assert zeros >= sum(int(np.sum(mask == 0)) for _, _, mask in found)
    for was, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, weight, "the model given was changed")
