"""Sensitivity against evaluations of whole models, and its result."""

import dataclasses
import json
import logging

import keras
import numpy as np
import pytest

import tfprune
from tfprune import masks
from tfprune.channels import graph
from tfprune.sensitivity import reruns, sums
from tfprune.sensitivity.reruns import Reruns
from tfprune.sensitivity.result import Sensitivity, WeightSensitivity, load

L = keras.layers
LEVELS = (0.5, 0.9)


def functional():
    """A residual, a layer called twice, a nested model called twice, two inputs."""
    keras.utils.set_random_seed(1)
    image, extra = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="extra")
    inner_in = keras.Input((8, 8, 6))
    inner = keras.Model(inner_in, L.Conv2D(6, 3, padding="same", name="conv")(inner_in), name="in")
    x = L.Conv2D(6, 3, padding="same", name="stem")(image)
    shared = L.Conv2D(6, 1, activation="relu", name="shared")
    y = shared(x)
    y = L.BatchNormalization()(inner(y))
    x = L.Add()([x, y])
    x = inner(shared(x))
    x = L.GlobalAveragePooling2D()(x)
    x = L.Concatenate()([x, L.Dense(5, name="side")(extra)])
    x = L.Dropout(0.5)(x)
    return keras.Model([image, extra], L.Dense(4, activation="softmax", name="logits")(x))


def data(n=300):
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n, 8, 8, 3)), rng.normal(size=(n, 4))]
    return [x.astype("float32") for x in inputs], rng.integers(0, 4, n)


def pruned_accuracy(model, path, level, x, y):
    """Prune a kernel by hand, evaluate the whole model, put the kernel back."""
    layer = model
    for name in path.split("/"):
        layer = layer.get_layer(name)
    dense = layer.kernel.numpy()
    mask, _ = masks.top_k(np.abs(dense), masks.kept_count(dense.size, level))
    layer.kernel.assign(dense * mask)
    found = (model.predict(x, verbose=0).argmax(1) == y).mean()
    layer.kernel.assign(dense)
    return found


def test_it_is_what_evaluating_the_whole_model_gives():
    model = functional()
    x, y = data()
    found = tfprune.sensitivity(model, (x, y), LEVELS)
    assert [row.layer for row in found.weights] == ["stem", "shared", "in/conv", "side", "logits"]
    dense = (model.predict(x, verbose=0).argmax(1) == y).mean()
    assert found.dense == pytest.approx(dense)
    assert found.samples == 300
    for row in found.weights:
        for level, drop in zip(LEVELS, row.drops, strict=True):
            expected = dense - pruned_accuracy(model, row.layer, level, x, y)
            assert drop == pytest.approx(expected, abs=1e-6), (row.layer, level)


def test_the_model_is_as_it_was():
    model = functional()
    before = [w.numpy() for w in model.weights]
    tfprune.sensitivity(model, data(64), LEVELS)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def small(units=3, activation="softmax"):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10,)),
            L.Dense(16, "relu", name="a"),
            L.Dense(units, activation, name="b"),
        ]
    )


def small_data(n=40):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 10)).astype("float32"), rng.integers(0, 3, n)


def test_loss_is_that_of_the_compiled_model():
    model = small()
    x, y = small_data()
    model.compile(loss="sparse_categorical_crossentropy")
    found = tfprune.sensitivity(model, (x, y), (0.9,), "loss")
    dense = model.evaluate(x, y, verbose=0)
    assert found.dense == pytest.approx(-dense, rel=1e-5)
    kernel = model.get_layer("a").kernel
    before = kernel.numpy()
    mask, _ = masks.top_k(np.abs(before), masks.kept_count(160, 0.9))
    kernel.assign(before * mask)
    assert found.weights[0].drops[0] == pytest.approx(
        model.evaluate(x, y, verbose=0) - dense, rel=1e-4
    )


def test_a_metric_of_ones_own():
    model = small(1, None)
    x, _ = small_data()
    y = model.predict(x, verbose=0)[:, 0]

    def closeness(labels, outputs):
        return -float(np.abs(outputs[:, 0] - labels).max())

    found = tfprune.sensitivity(model, (x, y), (0.5, 0.95), closeness)
    assert found.metric == "closeness"
    assert found.dense == pytest.approx(0.0, abs=1e-6)
    assert all(row.drops[1] > row.drops[0] > 0 for row in found.weights)


def test_a_layer_is_computed_only_from_where_it_changed():
    model = functional()
    reruns = Reruns(model)
    x, _ = data(8)
    values = reruns.first(x)
    dependent = {
        "logits": ["logits"],
        "side": ["side", "concatenate", "dropout", "logits"],
    }
    for name, expected in dependent.items():
        layer = model.get_layer(name)
        before = layer.kernel.numpy()
        layer.kernel.assign(before * 0)
        _, needed, _ = reruns._rest(layer)
        names = {id(t): c.operation.name for c in graph.calls(model) for t in c.outputs}
        assert not {names.get(one) for one in needed} & set(expected)
        np.testing.assert_allclose(
            reruns.again(layer, values), model.predict(x, verbose=0), atol=1e-6
        )
        layer.kernel.assign(before)


def test_an_interrupted_measurement_goes_on(tmp_path):
    model = small()
    x, y = small_data(600)  # three batches
    whole = tfprune.sensitivity(model, (x, y), LEVELS)
    lines = []

    def stop(text):
        lines.append(text)
        if len(lines) == 2:
            raise KeyboardInterrupt

    record = tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt):
        tfprune.sensitivity(model, (x, y), LEVELS, record=record, tell=stop)
    assert json.loads(record.read_text())["samples"] == 256
    lines = ["", "", ""]
    found = tfprune.sensitivity(model, (x, y), LEVELS, record=record, tell=stop)
    assert lines[3].startswith("Batch 2")
    for a, b in zip(found.weights, whole.weights, strict=True):
        assert a.drops == pytest.approx(b.drops, abs=1e-9)


class Failing:
    """The accuracy, until a call at which something else happens; counts its calls."""

    __name__ = "accuracy_of_mine"

    def __init__(self, at=None, error=None):
        self.calls, self._at, self._error = 0, at, error

    def __call__(self, labels, outputs):
        self.calls += 1
        if self.calls == self._at:
            if self._error is not None:
                raise self._error
            return float("nan")
        return float((outputs.argmax(1) == labels).mean())


class Other(Failing):
    """Another metric of the same name."""

    def __call__(self, labels, outputs):
        return super().__call__(labels, outputs) / 2


@pytest.mark.parametrize(
    ("error", "kind"), [(None, ValueError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
@pytest.mark.parametrize("seconds", [0.0, 1e9])  # written at each figure, and at the end
def test_what_is_found_in_a_batch_outlives_what_stops_it(
    tmp_path, monkeypatch, error, kind, seconds
):
    monkeypatch.setattr(sums, "_SECONDS", seconds)
    model, record = small(), tmp_path / "record.json"
    whole = tfprune.sensitivity(model, small_data(300), LEVELS, Failing())
    # Of five figures of the first batch three are found, then the other two and two of the second:
    # the second run judges the dense model twice, to compare and to go on.
    for at in (4, 7):
        failing = Failing(at, error)
        with pytest.raises(kind):
            tfprune.sensitivity(model, small_data(300), LEVELS, failing, record=record)
    kept = json.loads(record.read_text())
    assert kept["samples"] == 256
    (first, *missing), others = kept["begun"]["values"]
    assert isinstance(first, float)
    assert [*missing, *others] == [None] * 3
    rest = Failing()
    found = tfprune.sensitivity(model, small_data(300), LEVELS, rest, record=record)
    assert rest.calls == 1 + 1 + 3  # the first batch's dense model, the second's, what is missing
    assert found.samples == 300
    for one, other in zip(found.weights, whole.weights, strict=True):
        assert one.drops == pytest.approx(other.drops, abs=1e-9)


def test_a_batch_that_was_begun_is_of_these_data_and_this_metric(tmp_path):
    model, record, longer = small(), tmp_path / "record.json", tmp_path / "longer.json"
    x, y = small_data(300)

    def measured(x, y, metric, record):
        return tfprune.sensitivity(model, (x, y), LEVELS, metric, record=record)

    with pytest.raises(ValueError, match="finite number"):
        measured(x, y, Failing(3), record)
    before = record.read_bytes()
    assert json.loads(before)["digests"] == []
    with pytest.raises(ValueError, match=r"is of other data.*for batch 1 of 1 in the record"):
        measured(x + 1, y, Failing(), record)
    with pytest.raises(ValueError, match="another metric of that name"):
        measured(x, y, Other(), record)
    assert record.read_bytes() == before
    with pytest.raises(ValueError, match="finite number"):
        measured(x, y, Failing(8), longer)
    with pytest.raises(ValueError, match=r"none of that number for batch 2 of 2"):
        measured(x[:256], y[:256], Failing(), longer)
    broken = json.loads(longer.read_text())
    broken["begun"]["values"].pop()
    longer.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"no record of a sensitivity.*do not fit"):
        measured(x, y, Failing(), longer)


def test_a_record_of_something_else_is_left_alone(tmp_path):
    record = tmp_path / "record.json"
    tfprune.sensitivity(small(), small_data(), LEVELS, record=record)
    before = record.read_bytes()
    with pytest.raises(ValueError, match="another measurement"):
        tfprune.sensitivity(small(), small_data(), (0.5,), record=record)
    assert record.read_bytes() == before
    record.write_text("{}")
    with pytest.raises(ValueError, match="no record of a sensitivity"):
        tfprune.sensitivity(small(), small_data(), (0.5,), record=record)


def test_a_record_of_other_data_is_left_alone(tmp_path):
    model, record = small(), tmp_path / "record.json"
    x, y = small_data(300)  # two batches
    whole = tfprune.sensitivity(model, (x, y), LEVELS, record=record)
    before = record.read_bytes()
    moved = np.concatenate([x[:256], x[256:] + 1])
    for data in ((x, (y + 1) % 3), (x[::-1], y), (moved, y), (x[:256], y[:256])):
        with pytest.raises(ValueError, match=r"is of other data.*left as it is"):
            tfprune.sensitivity(model, data, LEVELS, record=record)
    assert record.read_bytes() == before
    assert tfprune.sensitivity(model, (x, y), LEVELS, record=record) == whole


def test_a_record_of_another_metric_of_that_name_is_left_alone(tmp_path):
    model, record = small(), tmp_path / "record.json"
    first, second = (lambda y, p: float(p.max())), (lambda y, p: float(p.min()))
    whole = tfprune.sensitivity(model, small_data(), LEVELS, first, record=record)
    with pytest.raises(ValueError, match="another metric of that name"):
        tfprune.sensitivity(model, small_data(), LEVELS, second, record=record)
    assert tfprune.sensitivity(model, small_data(), LEVELS, first, record=record) == whole


def test_a_record_that_cannot_be_written_is_told_before_any_batch(tmp_path):
    lines = []
    with pytest.raises(FileNotFoundError, match="create it first"):
        tfprune.sensitivity(
            small(), small_data(), record=tmp_path / "nowhere" / "r.json", tell=lines.append
        )
    assert not lines


RESULT = Sensitivity(
    model="m",
    metric="accuracy",
    dense=0.9,
    sparsities=(0.5, 0.8, 0.9),
    weights=(
        WeightSensitivity("a", "kernel", 10, (0.0, 0.005, 0.2)),
        WeightSensitivity("b", "kernel", 10, (0.02, 0.0, 0.0)),
        WeightSensitivity("c", "kernel", 10, (0.0, 0.0, 0.0)),
        WeightSensitivity("c", "recurrent_kernel", 20, (0.0, 0.01, 0.3)),
    ),
    samples=100,
)


def test_the_recommendation_by_hand():
    assert RESULT.recommended(0.01) == {"a": 0.8, "b": 0.0, "c": 0.8}
    assert RESULT.recommended(0.5) == {"a": 0.9, "b": 0.9, "c": 0.9}


def test_weights_of_one_layer_together():
    size, drops = RESULT.by_layer()["c"]
    assert size == 30
    assert drops == pytest.approx([0.0, 0.01, 0.3])


def test_a_loss_is_shown_as_what_is_added_and_recommended_by_its_own_scale():
    found = dataclasses.replace(RESULT, metric="negative loss", dense=-0.35)
    text = str(found)
    assert "loss added by pruning one weight of 'm'" in text
    assert "dense: loss 0.3500 on 100 samples" in text
    assert "each alone adds at most 0.035 up to: a 80%, b 90%, c 80%" in text
    assert found.recommended() == {"a": 0.8, "b": 0.9, "c": 0.8}
    import matplotlib

    matplotlib.use("Agg")
    heat, curves = found.plot()
    assert curves.get_ylabel() == "loss"
    assert curves.get_lines()[0].get_ydata() == pytest.approx([0.35, 0.355, 0.55])
    assert [axes.get_ylabel() for axes in heat.figure.axes].count("loss added") == 1


def test_what_is_small_for_a_metric():
    assert RESULT.usual_drop == 0.01
    assert "each alone costs at most 0.01 up to: a 80%, b 0%, c 80%" in str(RESULT)
    own = dataclasses.replace(RESULT, metric="psnr", dense=30.0)
    assert own.usual_drop == pytest.approx(0.3)
    assert own.recommended() == {"a": 0.9, "b": 0.9, "c": 0.9}


def test_it_prints_saves_loads_and_plots(tmp_path):
    assert "c/recurrent_kernel" in str(RESULT)
    RESULT.to_json(tmp_path / "s.json")
    assert load(tmp_path / "s.json") == RESULT
    (tmp_path / "bad.json").write_text('{"weights": 3}')
    with pytest.raises(ValueError, match="no sensitivity that"):
        load(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError, match=r"does not exist: .*`to_json`.*Received: path="):
        load(tmp_path / "no.json")
    import matplotlib

    matplotlib.use("Agg")
    heat, curves = RESULT.plot()
    assert len(heat.get_yticklabels()) == 4
    assert len(curves.get_lines()) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsities": (0.9, 0.5)}, "rising levels"),
        ({"sparsities": (50, 90)}, r"rising levels.*no per cent.*Received: sparsities=\(50, 90\)"),
        ({"sparsities": "0.5"}, "rising levels.*Received: sparsities='0.5'"),
        ({"sparsities": ()}, "rising levels"),
        ({"sparsities": 0.5}, "rising levels.*Received: sparsities=0.5"),
        ({"metric": "f1"}, "'accuracy', 'loss' or a function.*Received: metric='f1'"),
        ({"metric": "loss"}, "not compiled"),
        ({"metric": lambda y, p: float("nan")}, "finite number"),
        ({"layers": ["c"]}, "'a', 'b'. Received: 'c'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfprune.sensitivity(small(), small_data(), **arguments)


def test_data_without_labels_and_labels_that_do_not_fit():
    x, y = small_data()
    with pytest.raises(ValueError, match="shows only against labels"):
        tfprune.sensitivity(small(), x)
    with pytest.raises(ValueError, match="from 0 to 2"):
        tfprune.sensitivity(small(), (x, y + 5))


def test_a_model_that_remembers_is_tried_from_where_it_was():
    keras.utils.set_random_seed(0)
    gru = L.GRU(6, stateful=True, name="gru")
    model = keras.Sequential([keras.Input(batch_shape=(4, 3, 5)), gru, L.Dense(3, name="out")])
    x, y = np.random.default_rng(0).normal(size=(12, 3, 5)).astype("float32"), np.arange(12) % 3
    model.predict(x[:4], batch_size=4, verbose=0)
    (state,) = gru.states
    before = state.numpy()
    assert np.any(before)
    found = tfprune.sensitivity(model, (x, y), (0.5,), lambda y, p: -float(np.square(p).mean()))
    np.testing.assert_array_equal(state.numpy(), before)
    kernel = model.get_layer("out").kernel
    dense = kernel.numpy()
    mask, _ = masks.top_k(np.abs(dense), masks.kept_count(18, 0.5))
    drops = []
    for part in (x[:4], x[4:8], x[8:]):
        values = []
        for weights in (dense, dense * mask):
            kernel.assign(weights)
            state.assign(before)
            values.append(-np.square(model(part).numpy()).mean())
        drops.append(values[0] - values[1])
    assert found.weights[-1].drops[0] == pytest.approx(np.mean(drops), rel=1e-4)
    with pytest.raises(ValueError, match=r"takes 4 samples at a time.*Received: a batch of 3"):
        tfprune.sensitivity(model, (x[:11], y[:11]), (0.5,))


def test_a_plain_string_is_one_layer():
    model = keras.Sequential([keras.Input((10,)), L.Dense(4), L.Dense(3, "softmax", name="head")])
    found = tfprune.sensitivity(model, small_data(), (0.5,), layers="head")
    assert [row.layer for row in found.weights] == ["head"]


def test_why_nothing_can_be_pruned():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((10,)), L.Dense(2, name="a"), L.ReLU(name="r")])
    with pytest.raises(ValueError, match=r"in the pattern 3:64: a: .*Received: pattern='3:64'"):
        tfprune.sensitivity(model, small_data(), pattern="3:64")
    with pytest.raises(ValueError, match=r"`layers` names no layer.*Received: layers=\[\]"):
        tfprune.sensitivity(small(), small_data(), layers=[])


def test_all_samples_of_a_generator_are_measured():
    x, y = small_data(3000)
    parts = ((x[n : n + 500], y[n : n + 500]) for n in range(0, 3000, 500))
    found = tfprune.sensitivity(small(), parts, (0.9,))
    assert found.samples == 3000
    assert found.dense == pytest.approx((small().predict(x, verbose=0).argmax(1) == y).mean())


def test_tensorflow_gives_no_advice_against_tracing_each_part(monkeypatch, caplog):
    # TensorFlow gives it twice in a process, so that whether it does depends on earlier tests.
    logger = logging.getLogger("tensorflow")

    def advising(run):
        def advised(tensors):
            logger.warning("5 out of the last 6 calls to %r triggered tf.function retracing.", run)
            logger.warning("something else")
            return run(tensors)

        return advised

    monkeypatch.setattr(reruns, "_compiled", advising)
    tfprune.sensitivity(small(), small_data(), LEVELS)
    assert caplog.messages == ["something else"] * 4


def test_tensorflow_gives_no_advice_in_the_first_run_either(monkeypatch, caplog):
    # Keras compiles a grouped convolution for itself, in a run call by call too.
    class Advising(L.Layer):
        def call(self, x):
            logging.getLogger("tensorflow").warning("5 calls triggered tf.function retracing.")
            logging.getLogger("tensorflow").warning("something else")
            return x

    model = keras.Sequential([keras.Input((6,)), Advising(), L.Dense(3, name="d")])
    values = Reruns(model)
    caplog.clear()
    values.first([np.ones((2, 6), "float32")])
    assert caplog.messages == ["something else"]


def test_n_of_m_has_one_level():
    found = tfprune.sensitivity(small(), small_data(), pattern="2:4")
    assert found.sparsities == (0.5,)
