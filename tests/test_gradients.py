"""What a wrapper records of its gradients is what numpy says, in every way to train."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tfprune.wrapper import PruneLowMagnitude

RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 6)).astype("float32")
Y = RNG.standard_normal((16, 3)).astype("float32")
LATE = tfprune.ConstantSparsity(0.5, 1000)
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 16, 4)]


def linear(score="movement", schedule=LATE, **compile_arguments):
    """Return a model that never learns, `y = x @ kernel`, and its wrapper."""
    wrapper = PruneLowMagnitude(layers.Dense(3, use_bias=False), schedule, score=score)
    model = keras.Sequential([keras.Input((6,)), wrapper])
    model.compile(**{"optimizer": keras.optimizers.SGD(0.0), "loss": "mse", **compile_arguments})
    return model, wrapper


def gradients(kernel):
    """Return the gradient of each batch, of the mean square of `x @ kernel - y`."""
    return [(2 / y.size) * x.T @ (x @ kernel - y) for x, y in BATCHES]


def products(wrapper):
    kernel = np.asarray(wrapper.layer.kernel)
    return [kernel * gradient for gradient in gradients(kernel)]


def recorded(wrapper):
    (total,) = (v for v in wrapper.own_weights if v.name.endswith("_gradient"))
    (steps,) = (v for v in wrapper.own_weights if v.name.endswith("_gradient_steps"))
    return np.asarray(total), float(np.asarray(steps))


def callback_for(model):
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    return callback


def fit(model):
    model.fit(X, Y, 4, verbose=0, shuffle=False, callbacks=[tfprune.UpdatePruningStep()])


def on_batches(model):
    callback = callback_for(model)
    for x, y in BATCHES:
        callback.on_train_batch_begin(-1)
        model.train_on_batch(x, y)
    callback.on_epoch_end(0)


def tape(model, **training):
    import tensorflow as tf

    callback = callback_for(model)
    for x, y in BATCHES:
        callback.on_train_batch_begin(-1)
        with tf.GradientTape() as recorder:
            loss = tf.reduce_mean((model(x, **training) - y) ** 2)
        recorder.gradient(loss, model.trainable_variables)
    callback.on_epoch_end(0)


WAYS = {
    "fit": (fit, {}),
    "xla": (fit, {"jit_compile": True}),
    "eager": (fit, {"run_eagerly": True}),
    "several steps": (fit, {"steps_per_execution": 3}),
    "accumulating": (
        fit, {"optimizer": lambda: keras.optimizers.SGD(0.0, gradient_accumulation_steps=2)}
    ),
    "train_on_batch": (on_batches, {}),
    "tape": (lambda model: tape(model, training=True), {}),
    "tape that does not say training": (tape, {}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_products_of_weight_and_gradient_are_summed(way):
    run, arguments = WAYS[way]
    model, wrapper = linear(**{k: v() if callable(v) else v for k, v in arguments.items()})
    run(model)
    total, steps = recorded(wrapper)
    expected = sum(products(wrapper))
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-6)
    assert steps == 4


def test_squares_and_gradients_are_summed():
    model, wrapper = linear("taylor")
    fit(model)
    squares = [product**2 for product in products(wrapper)]
    np.testing.assert_allclose(recorded(wrapper)[0], sum(squares), rtol=1e-4)

    schedule = tfprune.ConstantSparsity(0.5, 0, 1000, frequency=1000)
    wrapper = PruneLowMagnitude(layers.Dense(3, use_bias=False), schedule, regrowth="rigl")
    model = keras.Sequential([keras.Input((6,)), wrapper])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    fit(model)
    kernel = np.asarray(wrapper.layer.kernel)
    assert np.count_nonzero(kernel) == 9  # and yet the gradient is that of all 18
    total, _ = recorded(wrapper)
    np.testing.assert_allclose(total, sum(gradients(kernel)), rtol=1e-4, atol=1e-6)
    assert np.count_nonzero(total) == 18


def test_snip_looks_at_the_steps_before_the_first_cut_only():
    model, wrapper = linear("snip", tfprune.ConstantSparsity(0.5, 2, 4, frequency=1))
    expected = sum(products(wrapper)[:2])
    fit(model)
    total, steps = recorded(wrapper)
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-6)
    assert steps == -2
    # The nine connections that matter most stay.
    best = np.sort(np.argsort(-np.abs(expected).ravel())[:9])
    assert np.flatnonzero(np.asarray(wrapper.pruning_vars[0][1])).tolist() == best.tolist()


def test_taylor_starts_again_after_each_update_and_movement_does_not():
    for score, steps in (("taylor", 1), ("movement", 4)):
        model, wrapper = linear(score, tfprune.ConstantSparsity(0.5, 1, 3, frequency=2))
        fit(model)
        assert recorded(wrapper)[1] == steps


def test_a_layer_used_twice_sums_both_uses():
    wrapper = PruneLowMagnitude(layers.Dense(6, use_bias=False), LATE, score="movement")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, wrapper(wrapper(inputs)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(X, X, 16, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    kernel = np.asarray(wrapper.layer.kernel)
    outer = (2 / X.size) * (X @ kernel @ kernel - X)
    gradient = (X @ kernel).T @ outer + X.T @ (outer @ kernel.T)
    np.testing.assert_allclose(recorded(wrapper)[0], kernel * gradient, rtol=1e-3, atol=1e-6)


def test_the_gradient_of_a_table_is_recorded():
    """TensorFlow hands on a sparse one."""
    wrapper = PruneLowMagnitude(layers.Embedding(5, 3), LATE, score="movement")
    model = keras.Sequential([keras.Input((2,), dtype="int32"), wrapper])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    words, target = np.array([[0, 1], [1, 1]]), np.zeros((2, 2, 3), "float32")
    model.fit(words, target, 2, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    table = np.asarray(wrapper.layer.embeddings)
    uses = np.array([1, 3, 0, 0, 0])[:, None]
    np.testing.assert_allclose(recorded(wrapper)[0], 2 / 12 * uses * table**2, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_scaled_losses_do_not_scale_what_is_recorded(policy):
    keras.config.set_dtype_policy(policy)
    model, wrapper = linear()
    fit(model)
    total, steps = recorded(wrapper)
    expected = sum(products(wrapper))
    np.testing.assert_allclose(total, expected, rtol=0.05, atol=5e-3)
    assert (total.dtype, steps) == ("float32", 4)


def test_a_loss_scaled_too_far_leaves_no_infinity():
    keras.config.set_dtype_policy("mixed_float16")
    model, wrapper = linear()
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0), initial_scale=2.0**40),
        "mse",
    )
    fit(model)
    assert np.isfinite(recorded(wrapper)[0]).all()


MIRRORED = """
import json, keras, numpy as np, tensorflow as tf, tfprune
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x, y = (rng.standard_normal((16, n)).astype("float32") for n in (6, 3))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    wrapper = tfprune.PruneLowMagnitude(
        keras.layers.Dense(3, use_bias=False), tfprune.ConstantSparsity(0.5, 0, 100, 100),
        regrowth="rigl")
    model = keras.Sequential([keras.Input((6,)), wrapper])
    model.compile(keras.optimizers.SGD(0.0), "mse")
model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
kernel = wrapper.layer.kernel.numpy()
total, steps = (v.numpy() for v in wrapper.own_weights[2:4])
expected = 2 * (2 / y.size) * x.T @ (x @ kernel - y)
print(json.dumps([bool(np.allclose(total, expected, rtol=1e-4, atol=1e-6)), float(steps)]))
"""


def test_replicas_record_the_gradient_of_the_whole_batch(run_python):
    assert json.loads(run_python(MIRRORED).strip().splitlines()[-1]) == [True, 2.0]


def test_no_gradient_is_an_error_that_says_why():
    model, wrapper = linear(schedule=tfprune.ConstantSparsity(0.5, 2))
    wrapper.trainable = False
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"^dense: the masks are chosen by gradients .*kernel"):
        fit(model)


def test_nothing_is_recorded_where_nobody_asks():
    wrapper = PruneLowMagnitude(layers.Dense(3), LATE)
    wrapper.build((None, 6))
    assert [v.name for v in wrapper.own_weights] == ["kernel_mask", "kernel_threshold",
                                                     "pruning_step"]  # fmt: skip


JAX = """
import keras, tfprune
for arguments in ({"score": "taylor"}, {"regrowth": "rigl"}):
    try:
        tfprune.PruneLowMagnitude(
            keras.layers.Dense(3), tfprune.ConstantSparsity(0.5, 1, 9), **arguments)
    except ValueError as error:
        print("TensorFlow and PyTorch as backend of Keras, not with 'jax'" in str(error))
"""


def test_another_backend_is_refused_at_once(run_python):
    pytest.importorskip("jax")
    assert run_python(JAX, KERAS_BACKEND="jax").split() == ["True", "True"]
