"""The Keras 3 wrapper: every layer type runs, prunes, saves and comes back."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tfprune.states import StepCounter
from tfprune.wrapper import PruneLowMagnitude, wrappers

# name -> (layer, input shapes, input dtype, names of the weights that are pruned)
CASES = {
    "Dense": (lambda: layers.Dense(4), [(8,)], "float32", ["kernel"]),
    "Conv1D": (lambda: layers.Conv1D(4, 3), [(8, 8)], "float32", ["kernel"]),
    "Conv2D": (lambda: layers.Conv2D(4, 3), [(8, 8, 8)], "float32", ["kernel"]),
    "Conv2D grouped": (lambda: layers.Conv2D(4, 3, groups=2), [(8, 8, 8)], "float32", ["kernel"]),
    "Conv3D": (lambda: layers.Conv3D(4, 3), [(4, 4, 4, 8)], "float32", ["kernel"]),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(4, 3), [(8, 8)], "float32", ["kernel"]),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(4, 3), [(4, 4, 8)], "float32", ["kernel"]),
    "Conv3DTranspose": (
        lambda: layers.Conv3DTranspose(4, 3), [(3, 3, 3, 8)], "float32", ["kernel"]
    ),
    "SeparableConv1D": (
        lambda: layers.SeparableConv1D(4, 3), [(8, 8)], "float32", ["pointwise_kernel"]
    ),
    "SeparableConv2D": (
        lambda: layers.SeparableConv2D(4, 3), [(8, 8, 8)], "float32", ["pointwise_kernel"]
    ),
    "Embedding": (lambda: layers.Embedding(20, 8), [(6,)], "int32", ["embeddings"]),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 4)),
        [(5, 8)], "float32", ["kernel"],
    ),
    "MultiHeadAttention": (
        lambda: layers.MultiHeadAttention(2, 4), [(5, 8), (6, 8)], "float32",
        ["query/kernel", "key/kernel", "value/kernel", "attention_output/kernel"],
    ),
    "GroupQueryAttention": (
        lambda: layers.GroupQueryAttention(4, 4, 2), [(5, 8), (6, 8)], "float32",
        ["query/kernel", "key/kernel", "value/kernel", "attention_output/kernel"],
    ),
    "SimpleRNN": (lambda: layers.SimpleRNN(8), [(5, 8)], "float32", ["kernel", "recurrent_kernel"]),
    "LSTM": (lambda: layers.LSTM(8), [(5, 8)], "float32", ["kernel", "recurrent_kernel"]),
    "GRU": (lambda: layers.GRU(8), [(5, 8)], "float32", ["kernel", "recurrent_kernel"]),
    "Bidirectional": (
        lambda: layers.Bidirectional(layers.GRU(8)), [(5, 8)], "float32",
        ["forward/kernel", "forward/recurrent_kernel",
         "backward/kernel", "backward/recurrent_kernel"],
    ),
    "TimeDistributed": (
        lambda: layers.TimeDistributed(layers.Dense(4)), [(5, 8)], "float32", ["kernel"]
    ),
    "ConvLSTM2D": (
        lambda: layers.ConvLSTM2D(8, 3), [(3, 6, 6, 8)], "float32", ["kernel", "recurrent_kernel"]
    ),
    "stacked cells": (
        lambda: layers.RNN([layers.LSTMCell(8), layers.GRUCell(8)]), [(5, 8)], "float32",
        ["cell_0/kernel", "cell_0/recurrent_kernel", "cell_1/kernel", "cell_1/recurrent_kernel"],
    ),
}  # fmt: skip


def _inputs(shapes, dtype):
    rng = np.random.default_rng(0)
    if dtype == "int32":
        return [rng.integers(0, 20, (2, *shape)).astype(dtype) for shape in shapes]
    return [rng.standard_normal((2, *shape)).astype(dtype) for shape in shapes]


def _wrapped(make, shapes, dtype, pattern="unstructured"):
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    wrapper = PruneLowMagnitude(make(), tfprune.ConstantSparsity(0.5, 0), pattern=pattern)
    return keras.Model(inputs, wrapper(*inputs)), wrapper


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("case", CASES)
def test_every_layer_type_prunes_and_comes_back_from_a_file(case, pattern, tmp_path):
    make, shapes, dtype, names = CASES[case]
    model, wrapper = _wrapped(make, shapes, dtype, pattern)
    data = _inputs(shapes, dtype)
    # Before any update the wrapper changes nothing.
    np.testing.assert_allclose(model(data), wrapper.layer(*data), rtol=1e-5, atol=1e-6)
    wrapper.update_masks(0)
    states = wrapper.states()
    assert [s.name for s in states] == names
    assert all(s.sparsity == 0.5 for s in states)
    outputs = np.asarray(model(data))
    # The wrapped layer itself, now that its weights hold the zeros, gives the same.
    np.testing.assert_allclose(outputs, wrapper.layer(*data), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(outputs, loaded(data), rtol=1e-5, atol=1e-6)
    (again,) = wrappers(loaded)
    assert str(again.pattern) == pattern
    assert again.pruning_schedule == wrapper.pruning_schedule
    for old, new in zip(states, again.states(), strict=True):
        np.testing.assert_array_equal(old.mask, new.mask)
    stripped = tfprune.strip_pruning(loaded)
    np.testing.assert_allclose(outputs, stripped(data), rtol=1e-5, atol=1e-6)
    assert not wrappers(stripped)


def test_the_mask_hides_weights_that_momentum_has_moved():
    model, wrapper = _wrapped(lambda: layers.Dense(4), [(8,)], "float32")
    wrapper.update_masks(0)
    data = _inputs([(8,)], "float32")
    before = np.asarray(model(data))
    ((kernel, mask, _),) = wrapper.pruning_vars
    hidden = np.where(np.asarray(mask), np.asarray(kernel), 7.0)
    kernel.assign(hidden)
    np.testing.assert_allclose(before, model(data), rtol=1e-6)
    wrapper.apply_masks()
    assert np.count_nonzero(np.asarray(kernel)) == 16


def test_gradients_of_pruned_weights_are_zero_and_of_others_are_the_dense_ones():
    import tensorflow as tf

    model, wrapper = _wrapped(lambda: layers.Dense(4), [(8,)], "float32")
    wrapper.update_masks(0)
    ((kernel, mask, _),) = wrapper.pruning_vars
    (data,) = _inputs([(8,)], "float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(data) ** 2)
    (gradient,) = tape.gradient(loss, [kernel.value])
    by_hand = 2 * data.T @ (data @ np.asarray(kernel))
    np.testing.assert_allclose(gradient, by_hand * np.asarray(mask), rtol=1e-4, atol=1e-5)


def test_masks_take_one_byte_a_weight():
    _, wrapper = _wrapped(lambda: layers.Dense(64), [(64,)], "float32")
    ((_, mask, _),) = wrapper.pruning_vars
    assert np.asarray(mask).nbytes == 64 * 64
    inside = {id(v) for v in wrapper.layer.weights}
    own = sum(np.asarray(v).nbytes for v in wrapper.weights if id(v) not in inside)
    assert own == 64 * 64 + 4 + 4  # and the threshold and the step


def test_a_weight_once_cut_stays_cut():
    _, wrapper = _wrapped(lambda: layers.Dense(4), [(8,)], "float32")
    ((kernel, mask, _),) = wrapper.pruning_vars
    wrapper.update_masks(0)
    first = np.asarray(mask).copy()
    kernel.assign(np.where(first, 0.001, 9.0))  # momentum made the cut ones large
    wrapper.update_masks(1)
    np.testing.assert_array_equal(np.asarray(mask), first)


def test_zero_sparsity_leaves_weights_alone():
    inputs = keras.Input((4,))
    wrapper = PruneLowMagnitude(
        layers.Dense(2), tfprune.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=10)
    )
    wrapper(inputs)
    kernel, mask, _ = wrapper.pruning_vars[0]
    kernel.assign([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    wrapper.update_masks(0)
    assert np.asarray(mask).all()  # a zero that nobody pruned may still learn
    wrapper.update_masks(10)
    np.testing.assert_array_equal(np.asarray(kernel), [[0, 0], [0, 0], [4, 5], [6, 7]])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_in_half_and_keeps_weights_in_full(policy):
    keras.config.set_dtype_policy(policy)
    model, wrapper = _wrapped(lambda: layers.Conv2D(4, 3), [(8, 8, 8)], "float32")
    dense = layers.Conv2D(4, 3)
    data = _inputs([(8, 8, 8)], "float32")
    dense(data[0])
    dense.set_weights(wrapper.layer.get_weights())
    assert model.output.dtype == policy.removeprefix("mixed_")
    np.testing.assert_array_equal(
        np.asarray(model(data), "float32"), np.asarray(dense(data[0]), "float32")
    )
    kernel = wrapper.layer.kernel
    kernel.assign(np.asarray(kernel) * (1 + 2**-16))  # not a half-precision number
    expected = np.asarray(kernel).copy()
    wrapper.update_masks(0)
    now = np.asarray(kernel)
    assert kernel.dtype == "float32"
    np.testing.assert_array_equal(now[now != 0], expected[now != 0])


def test_pure_half_precision_weights_are_ranked():
    keras.config.set_dtype_policy("bfloat16")
    model, wrapper = _wrapped(lambda: layers.Dense(4), [(8,)], "float32")
    wrapper.update_masks(0)
    assert wrapper.states()[0].sparsity == 0.5
    assert model.output.dtype == "bfloat16"


def test_statistics_seeds_and_losses_inside_the_wrapped_layer_live_on():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l1")
            self.norm = layers.BatchNormalization(momentum=0.5)
            self.dropout = layers.Dropout(0.5, seed=1)

        def build(self, shape):
            self.dense.build(shape)
            self.norm.build((shape[0], 4))
            self.built = True

        def call(self, x, training=None):
            return self.dropout(self.norm(self.dense(x), training=training), training=training)

        def get_prunable_weights(self):
            return [self.dense.kernel]

    block = Block()
    wrapper = PruneLowMagnitude(block)
    data = np.random.default_rng(0).standard_normal((16, 8)).astype("float32") + 3.0
    wrapper(data)
    wrapper.attach(StepCounter())
    mean = np.asarray(block.norm.moving_mean).copy()
    seed = np.asarray(block.dropout.seed_generator.state).copy()
    wrapper(data, training=True)
    assert not np.allclose(mean, np.asarray(block.norm.moving_mean))
    assert (seed != np.asarray(block.dropout.seed_generator.state)).any()
    plain = Block()
    plain(data)
    plain.set_weights(block.get_weights())
    plain(data, training=True)
    assert len(wrapper.losses) == len(plain.losses) == 2
    np.testing.assert_allclose(sorted(wrapper.losses), sorted(plain.losses), rtol=1e-5)


def test_timestep_masks_pass_through_a_wrapped_embedding_and_lstm():
    words = np.array([[3, 1, 0, 0], [2, 2, 2, 0]])

    def build(wrap):
        inputs = keras.Input((4,), dtype="int32")
        x = wrap(layers.Embedding(5, 4, mask_zero=True))(inputs)
        return keras.Model(inputs, wrap(layers.LSTM(3))(x))

    plain = build(lambda layer: layer)
    pruned = build(tfprune.prune_low_magnitude)
    for old, new in zip(plain.layers[1:], pruned.layers[1:], strict=True):
        new.layer.set_weights(old.get_weights())
    np.testing.assert_allclose(plain(words), pruned(words), rtol=1e-5)


def test_initial_state_and_keyword_arguments_reach_the_wrapped_layer():
    lstm = layers.LSTM(4)
    wrapper = PruneLowMagnitude(lstm)
    x = np.ones((2, 3, 8), "float32")
    state = [np.ones((2, 4), "float32"), np.zeros((2, 4), "float32")]
    np.testing.assert_allclose(
        wrapper(x, initial_state=state), lstm(x, initial_state=state), rtol=1e-6
    )
    attention = layers.MultiHeadAttention(2, 4)
    wrapped = PruneLowMagnitude(attention)
    y = np.ones((2, 5, 6), "float32")
    np.testing.assert_allclose(wrapped(query=x, value=y), attention(query=x, value=y), rtol=1e-6)
    assert attention.key_dense.kernel.shape == (6, 2, 4)


def test_calls_of_attention_with_masks_and_flags_reach_it_as_without_the_wrapper():
    attention = layers.MultiHeadAttention(2, 4)
    wrapped = PruneLowMagnitude(attention)
    x = np.random.default_rng(0).random((2, 5, 6), np.float32)
    mask = np.tril(np.ones((1, 5, 5), bool))
    for kwargs in (
        {"attention_mask": mask, "use_causal_mask": True},
        {"key": x * 2, "return_attention_scores": True},
        {"query": x, "value": x, "use_causal_mask": True},
    ):
        args = () if "query" in kwargs else (x, x)
        for ours, theirs in zip(
            keras.tree.flatten(wrapped(*args, **kwargs)),
            keras.tree.flatten(attention(*args, **kwargs)),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_functional_model_that_calls_attention_so_is_wrapped_saved_and_stripped(tmp_path):
    x = keras.Input((5, 6))
    mask = keras.Input((5, 5), dtype="bool")
    y = layers.MultiHeadAttention(2, 4, name="m")(x, x, attention_mask=mask, use_causal_mask=True)
    model = keras.Model([x, mask], y)
    pruned = tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0))
    pruned.save(tmp_path / "p.keras")
    again = keras.models.load_model(tmp_path / "p.keras")
    rng = np.random.default_rng(0)
    inputs = [rng.random((2, 5, 6), np.float32), np.tril(np.ones((2, 5, 5), bool))]
    with pytest.warns(UserWarning, match="not pruned as its schedules say"):
        stripped = tfprune.strip_pruning(again)
    for other in (pruned, again, stripped):
        np.testing.assert_allclose(model(inputs), other(inputs), rtol=1e-6)


def test_a_stateful_rnn_keeps_its_state_and_forgets_it_when_told():
    rnn = layers.LSTM(4, stateful=True)
    plain = keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), rnn])
    pruned = tfprune.prune_low_magnitude(plain)
    x = np.random.default_rng(0).random((2, 5, 3), np.float32)
    first = np.array(plain(x))
    for _ in range(2):
        np.testing.assert_allclose(pruned(x), first, rtol=1e-5)
        first = np.array(plain(x))
    assert pruned.layers[0].stateful
    pruned.layers[0].reset_state()
    rnn.reset_state()
    np.testing.assert_allclose(pruned(x), plain(x), rtol=1e-5)


class Counting(layers.Dense):
    """Has a metric, which Keras does not count among a layer's variables."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.mean = keras.metrics.Mean()

    def call(self, x, scale=1.0, other=None):
        y = super().call(x) * scale
        self.mean.update_state(y)
        return y if other is None else y + other


def test_metrics_inside_the_wrapped_layer_are_updated_and_mixed_arguments_arrive():
    layer = Counting(3)
    wrapper = PruneLowMagnitude(layer)
    x = np.ones((2, 4), "float32")
    y = wrapper(x, scale=2.0, other=np.ones((2, 3), "float32"))
    np.testing.assert_allclose(layer.mean.result(), np.mean(y) - 1.0, rtol=1e-5)


class Pair(layers.Layer):
    """Holds two layers whose kernels have one name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(16, name="first")
        self.second = layers.Dense(4, name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 16))

    def call(self, x):
        return self.second(self.first(x))

    def get_prunable_weights(self):
        return [self.first.kernel, self.second.kernel]


def test_two_weights_of_one_name_in_a_layer_are_told_apart(tmp_path):
    wrapper = PruneLowMagnitude(Pair(name="pair"), pattern="2:4")
    model = keras.Sequential([keras.Input((3,)), wrapper])
    # 3 inputs are too few for 2:4 in the first; the second, 16 inputs, is pruned all the same.
    assert list(wrapper.skipped) == ["first/kernel"]
    assert [state.name for state in wrapper.states()] == ["second/kernel"]

    model = keras.Sequential([keras.Input((8,)), PruneLowMagnitude(Pair(name="pair"))])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).random((16, 8), np.float32)
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path)]
    model.fit(x, x[:, :4], 4, 2, verbose=0, callbacks=callbacks)
    assert [s.sparsity for s in model.layers[0].states()] == [0.5, 0.5]


@pytest.mark.parametrize(
    "offer", [lambda self: [self.kernel, self.bias], lambda self: self.kernel, lambda self: [1.0]]
)
def test_what_is_no_list_of_variables_is_refused(offer):
    kind = type("Odd", (layers.Dense,), {"get_prunable_weights": offer})
    with pytest.raises(ValueError, match="`get_prunable_weights` of the layer 'odd' must return"):
        PruneLowMagnitude(kind(3, use_bias=False, name="odd")).build((None, 4))


@pytest.mark.parametrize("change", [lambda a: a.enable_lora(2), lambda a: a.quantize("int8")])
def test_a_layer_changed_behind_the_wrapper_is_refused(change):
    model = tfprune.prune_low_magnitude(keras.Sequential([keras.Input((8,)), layers.Dense(4)]))
    change(model.layers[0].layer)
    with pytest.raises(ValueError, match="changed after it was wrapped"):
        model(np.ones((1, 8), "float32"))


def test_a_saved_model_loads_wherever_tfprune_is_imported(run_python, tmp_path):
    model = tfprune.prune_low_magnitude(keras.Sequential([keras.Input((8,)), layers.Dense(4)]))
    loads = []
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        loads.append(f"print(keras.models.load_model({str(tmp_path / name)!r}).layers)")
    scoped = f"\nwith tfprune.prune_scope(): {'; '.join(loads)}"
    for code in (f"import tfprune, keras; {'; '.join(loads)}", f"import keras, tfprune{scoped}"):
        assert run_python(code).count("PruneLowMagnitude") == 2


def test_a_model_that_is_not_built_yet_can_be_saved(tmp_path):
    keras.Sequential([PruneLowMagnitude(layers.Dense(2))]).save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again(np.ones((1, 3))).shape == (1, 2)


def test_training_without_the_callback_says_so(small_model, batch):
    pruned = tfprune.prune_low_magnitude(small_model)
    pruned.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="without the callback `UpdatePruningStep`"):
        pruned.fit(*batch, verbose=0)
    pruned.evaluate(*batch, verbose=0)
    pruned.fit(*batch, verbose=0, callbacks=[tfprune.UpdatePruningStep()])


def test_a_wrapped_layer_alone_or_twice_or_not_a_layer_is_refused():
    with pytest.raises(ValueError, match="wrapped for pruning already"):
        PruneLowMagnitude(PruneLowMagnitude(layers.Dense(2)))
    with pytest.raises(ValueError, match=r"wraps a Keras 3 layer.*Received: 3"):
        PruneLowMagnitude(3)


def test_lora_and_quantized_layers_are_refused():
    dense = layers.Dense(4)
    dense.build((None, 8))
    dense.enable_lora(2)
    with pytest.raises(ValueError, match="LoRA"):
        PruneLowMagnitude(dense)
    quantized = layers.Dense(4)
    quantized.build((None, 8))
    quantized.quantize("int8")
    with pytest.raises(ValueError, match="quantized already"):
        PruneLowMagnitude(quantized)
    attention = layers.MultiHeadAttention(2, 4)
    attention.build((None, 3, 8), (None, 3, 8))
    attention.query_dense.enable_lora(2)
    with pytest.raises(ValueError, match="LoRA"):
        PruneLowMagnitude(attention)


def test_not_finite_weights_are_refused_by_name():
    _, wrapper = _wrapped(lambda: layers.Dense(4, name="head"), [(8,)], "float32")
    kernel = wrapper.layer.kernel
    values = np.asarray(kernel).copy()
    values[1, 2] = np.nan
    kernel.assign(values)
    with pytest.raises(ValueError, match=r"head: .*NaN or infinite.*1 of 32"):
        wrapper.update_masks(0)
    np.testing.assert_array_equal(np.isnan(np.asarray(kernel)), np.isnan(values))


def test_wrappers_are_forgotten_with_their_models():
    model, wrapper = _wrapped(lambda: layers.Dense(4), [(8,)], "float32")
    reference = weakref.ref(wrapper)
    del model, wrapper
    keras.utils.clear_session()
    gc.collect()
    assert reference() is None


def test_a_layer_from_a_newer_tfprune_is_refused_and_one_without_a_format_is_read():
    config = PruneLowMagnitude(layers.Dense(3), tfprune.ConstantSparsity(0.5, 0)).get_config()
    assert config["format"] == 2
    with pytest.raises(ValueError, match=r"newer tfprune.*--upgrade.*format 3, where 2"):
        PruneLowMagnitude.from_config({**config, "format": 3})
    old = {name: value for name, value in config.items() if name != "format"}
    assert PruneLowMagnitude.from_config(old).get_config() == config


def pruned_dense():
    """Return a wrapped Dense layer with 3 x 5 weights, a third of them zero."""
    wrapper = PruneLowMagnitude(layers.Dense(5), tfprune.ConstantSparsity(1 / 3, 0))
    wrapper.build((None, 3))
    wrapper.update_masks(0)
    return wrapper


def test_a_file_has_one_bit_for_each_weight():
    wrapper, store = pruned_dense(), {}
    wrapper.save_own_variables(store)
    mask = wrapper.pruning_vars[0][1].numpy()
    (bits,) = [value for value in store.values() if isinstance(value, np.ndarray)]
    digits = "".join(f"{byte:08b}" for byte in bits)
    assert digits == "".join("01"[int(kept)] for kept in mask.ravel()) + "0"
    other = pruned_dense()
    other.pruning_vars[0][1].assign(~mask)
    other.load_own_variables(store)
    np.testing.assert_array_equal(other.pruning_vars[0][1].numpy(), mask)


def test_masks_of_one_byte_a_weight_from_older_files_are_read():
    wrapper, other, store = pruned_dense(), pruned_dense(), {}
    keras.layers.Layer.save_own_variables(wrapper, store)
    store = {key: np.asarray(value) for key, value in store.items()}
    assert {value.dtype for value in store.values() if value.ndim} == {np.dtype(bool)}
    mask = wrapper.pruning_vars[0][1].numpy()
    other.pruning_vars[0][1].assign(~mask)
    other.load_own_variables(store)
    np.testing.assert_array_equal(other.pruning_vars[0][1].numpy(), mask)


@pytest.mark.parametrize("bits", [[255], [255, 255], [255, 254, 0]])
def test_a_damaged_packed_mask_is_refused(bits):
    wrapper, store = pruned_dense(), {}
    wrapper.save_own_variables(store)
    key = next(key for key, value in store.items() if isinstance(value, np.ndarray))
    store[key] = np.array(bits, np.uint8)
    with pytest.raises(ValueError, match=r"packed mask of a weight of shape \(3, 5\) has 2 bytes"):
        wrapper.load_own_variables(store)
