"""tf_keras models go the same way."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfprune import legacy
from tfprune.criteria import Criterion
from tfprune.export import export_tflite
from tfprune.schedules import ConstantSparsity
from tfprune.tfmot import tfmot_keras

tf_keras = pytest.importorskip("tf_keras")
L = tf_keras.layers


@pytest.fixture(scope="module")
def lstm(cut):
    x = tf_keras.Input((6, 40), name="steps")
    return cut(tf_keras.Model(x, L.Dense(3)(L.LSTM(16)(x))))


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_lstm_gives_the_same_answer_twice(lstm, tmp_path, quantize, zeros_of):
    """TFLite's fused LSTM would keep its state from the first call."""
    data = np.random.default_rng(0).normal(size=(9, 6, 40)).astype("float32")
    result = export_tflite(lstm, tmp_path / "a.tflite", quantize, representative_data=data)
    runner = Interpreter(model_path=str(tmp_path / "a.tflite")).get_signature_runner()
    first, second = (runner(steps=data[:1])["output"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, lstm(data[:1]), atol=0.1 if quantize else 1e-6)
    assert sum(w.zeros for w in result.weights) >= zeros_of(lstm)


def test_wrapped_by_tfmot(tmp_path):
    wide = L.Dense(16, activation="relu")
    wrapper = legacy.wrap(wide, ConstantSparsity(0.5, 0), Criterion("unstructured"))
    model = tf_keras.Sequential([tf_keras.Input((12,)), wrapper, L.Dense(3)])
    mask = (np.arange(12 * 16).reshape(12, 16) % 2).astype("float32")
    wrapper.pruning_vars[0][1].assign(mask)
    result = export_tflite(model, tmp_path / "a.tflite")
    assert result.weights[0].zeros == 96


def test_mixed_precision_is_exported_in_float32(tmp_path):
    policy = tf_keras.mixed_precision.Policy("mixed_float16")
    x = tf_keras.Input((9, 8))
    y = L.MultiHeadAttention(2, 4, dtype=policy)(x, x)
    inner = tf_keras.Sequential([L.Dense(5, dtype=policy), L.Dense(6, dtype=policy)])
    model = tf_keras.Model(x, L.Dense(3, dtype="float32")(inner(y)))
    result = export_tflite(model, tmp_path / "a.tflite")
    assert result.max_rel_error < 1e-4  # float16 rounds off a thousandth
    assert {w.dtype for w in result.weights} == {"float32"}
    assert model.layers[1].compute_dtype == "float16"


def test_autograph_in_a_subclassed_model(tmp_path):
    class Model(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.out = L.Dense(2)

        def call(self, x):
            if x.shape[-1] > 3:
                x = x * 2.0
            return self.out(x)

    model = Model()
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    model(x)
    assert export_tflite(model, tmp_path / "a.tflite", sample_inputs=x).samples == 3


class Pruned(tf_keras.Model):
    """Wrapped by hand, as tfmot's guide shows it for subclassed models."""

    def __init__(self, wrap):
        super().__init__()
        self.wide, self.out = wrap(L.Dense(16, name="wide")), L.Dense(3)

    def call(self, x, training=False):
        return self.out(self.wide(x, training=training))


def wrappings():
    by_tfmot = tfmot_keras().prune.prune_low_magnitude
    by_tfprune = legacy.wrap
    constant = tfmot_keras().pruning_schedule.ConstantSparsity(0.5, 0)
    return {
        "tfmot": lambda layer: by_tfmot(layer, constant),
        "tfprune": lambda layer: by_tfprune(
            layer, ConstantSparsity(0.5, 0), Criterion("unstructured")
        ),
    }


@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("kind", ["tfmot", "tfprune"])
def test_a_subclassed_model_wrapped_by_hand(tmp_path, kind, quantize):
    model = Pruned(wrappings()[kind])
    x = np.random.default_rng(0).normal(size=(30, 12)).astype("float32")
    model(x)
    mask = (np.arange(12 * 16).reshape(12, 16) % 2).astype("float32")
    model.wide.pruning_vars[0][1].assign(mask)
    path = tmp_path / "a.tflite"
    result = export_tflite(model, path, quantize, representative_data=x, sample_inputs=x)
    assert result.weights[0].zeros >= 96
    assert (result.weights[0].zeros == 96) or quantize
    (got,) = Interpreter(model_path=str(path)).get_signature_runner()(input=x[:1]).values()
    np.testing.assert_allclose(got, model(x[:1]), atol=0.1 if quantize else 1e-5)

    # The model is as it was: it trains on, and masks its weights in every call.
    kernel = model.wide.layer.kernel
    assert (kernel.numpy() == 0).sum() == 96
    kernel.assign_add(np.ones((12, 16)))
    tf.function(model)(x)
    assert (kernel.numpy() == 0).sum() == 96


def test_a_layer_that_keeps_state_is_still_refused(tmp_path):
    class Counter(L.Layer):
        def build(self, shape):
            self.calls = self.add_weight("calls", (), trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            return x * 2.0

    model = tf_keras.Sequential([tf_keras.Input((4,)), Counter()])
    with pytest.raises(ValueError, match=r"layers of your own.*assign nothing.*AssignAddVariable"):
        export_tflite(model, tmp_path / "a.tflite")
