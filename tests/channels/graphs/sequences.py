"""Recurrent graphs, and layers that are called at every step."""

import keras
from keras import layers

from channels.graphs.cases import LAST, case, finish

TIMES = {1: "", 3: "x3", 4: "x4"}


def unit(name, gates, bias="bias", inside="", axis=1):
    """Return where a unit of a recurrent layer lies: a column for each gate, and a row."""
    at, times = f"{name}.{inside}", TIMES[gates]
    kernels = f"{at}kernel{axis}{times} {at}recurrent_kernel{axis}{times}"
    return f"{kernels} {at}recurrent_kernel{axis - 1} {at}{bias}{times}"


def steps(length=5, channels=3):
    """Return a symbolic sequence."""
    return keras.Input((length, channels))


@case(
    f"4: {unit('a', 4)} b.kernel0",
    f"5: {unit('b', 3, 'bias1')} c.kernel0",
    f"6: {unit('c', 3)} d.kernel0",
    f"3: {unit('d', 1)} y.kernel0",
    ties=[
        ("a.recurrent_kernel0", 1, "a.kernel1", [1, 5, 9, 13]),
        ("b.recurrent_kernel0", 1, "b.bias1", [1, 6, 11]),
    ],
)
def recurrent_layers():
    x = steps()
    h = layers.LSTM(4, return_sequences=True, name="a")(x)
    h = layers.GRU(5, return_sequences=True, reset_after=True, name="b")(h)
    h = layers.GRU(6, return_sequences=True, reset_after=False, name="c")(h)
    return finish(x, layers.SimpleRNN(3, name="d")(h))


@case(
    # The states of the first start the second; `h` of the first is the sequence that it reads.
    f"4: {unit('a', 4)} {unit('b', 4)} b.kernel0 y.kernel0",
)
def states_that_are_passed_on():
    x = steps()
    h, one, two = layers.LSTM(4, return_sequences=True, return_state=True, name="a")(x)
    return finish(x, layers.LSTM(4, name="b")(h, initial_state=[one, two]))


@case(f"4: {unit('a', 3, 'bias1')} start.kernel1 start.bias y.kernel0")
def state_made_by_another_layer_and_a_mask():
    x, mask = steps(), keras.Input((5,), dtype="bool")
    start = layers.Dense(4, name="start")(x[:, 0])
    h = layers.GRU(4, name="a")(x, initial_state=start, mask=mask)
    return finish([x, mask], h)


@case(f"6: {unit('a', 4)} y.kernel0", "8: in.kernel1 in.bias a.kernel0")
def called_with_names_that_are_out_of_order():
    x, mask = steps(), keras.Input((5,), dtype="bool")
    h = layers.LSTM(6, name="a")(sequences=layers.Dense(8, name="in")(x), mask=mask)
    return finish([x, mask], h)


@case(f"4: {unit('a', 4)} a.rnn_state1 a.rnn_state1 y.kernel0")
def stateful():
    x = keras.Input(batch_shape=(2, 5, 3))
    return finish(x, layers.LSTM(4, stateful=True, name="a")(x))


def two_ways(name, count, mode):
    """Return a bidirectional layer that gives a sequence."""
    inner = layers.LSTM(count, return_sequences=True, name="in")
    return layers.Bidirectional(inner, merge_mode=mode, name=name)


FORWARD, BACKWARD = (unit("a", 4, inside=f"{way}_in/") for way in ("forward", "backward"))


@case(
    # Keras works out the shape of both ways from the first, so that they lose as many.
    f"4: {FORWARD} {BACKWARD} b.forward_in/kernel0x2 b.backward_in/kernel0x2",
    f"3: {unit('b', 4, inside='forward_in/')} {unit('b', 4, inside='backward_in/')} c.kernel0",
    "5: c.kernel1 c.bias y.kernel0",
    ties=[("a.backward_in/recurrent_kernel0", 1, "b.forward_in/kernel0", [1, 5])],
)
def both_ways_concatenated_and_summed():
    x = steps()
    h = two_ways("b", 3, "sum")(two_ways("a", 4, "concat")(x))
    return finish(x, layers.Dense(5, name="c")(h))


@case(f"4: {FORWARD} {BACKWARD} y.kernel0")
def both_ways_multiplied():
    x = steps()
    return finish(x, two_ways("a", 4, "mul")(x))


@case(f"4: {FORWARD} {BACKWARD} y.kernel0")
def both_ways_averaged():
    x = steps()
    return finish(x, two_ways("a", 4, "ave")(x))


@case(
    f"4: {FORWARD} {BACKWARD} y.kernel0 b.kernel0",
    "5: b.kernel1 b.bias y.kernel0",
)
def both_ways_apart():
    x = steps()
    forward, backward = two_ways("a", 4, None)(x)
    b = layers.Dense(5, name="b")(backward)
    return finish(x, layers.Concatenate()([forward, b]))


@case(
    f"4: {unit('a', 4)} start.kernel1x2 start.biasx2 y.kernel0",
    ties=[("a.recurrent_kernel0", 2, "start.kernel1", [2, 6])],
)
def start_for_hidden_state_and_cell():
    x = steps()
    start = layers.Dense(8, name="start")(x[:, 0])
    h = layers.LSTM(4, name="a")(x, initial_state=[start[:, :4], start[:, 4:]])
    return finish(x, h)


@case(
    "4: a.in/kernel3 a.in/bias n.in/gamma n.in/beta n.in/moving_mean n.in/moving_variance "
    "b.in/kernel0x4",
    "5: b.in/kernel1 b.in/bias y.kernel0",
    ties=[("a.in/kernel3", 1, "b.in/kernel0", [1, 5, 9, 13])],
)
def layers_at_every_step():
    x = keras.Input((3, 4, 4, 2))
    h = layers.TimeDistributed(layers.Conv2D(4, 3, name="in"), name="a")(x)
    h = layers.TimeDistributed(layers.BatchNormalization(name="in"), name="n")(h)
    h = layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layers.ReLU())(h))
    return finish(x, layers.TimeDistributed(layers.Dense(5, name="in"), name="b")(h))


@case()  # its channels stay, unseen
def model_at_every_step():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(6, name="out")], name="in")
    x = steps()
    return finish(x, layers.TimeDistributed(inner, name="net")(x))


@case(
    f"4: {unit('a', 4, axis=3)} n.* b.kernel2",
    f"3: {unit('b', 4, axis=3)} y.kernel0",
    frozen=LAST,
)
def convolutional_recurrent():
    x = keras.Input((3, 5, 5, 2))
    h = layers.ConvLSTM2D(4, 3, return_sequences=True, padding="same", name="a")(x)
    h = layers.BatchNormalization(name="n")(h)
    return finish(x, layers.ConvLSTM2D(3, 3, padding="same", name="b")(h))


@case(
    "4: e.embeddings1 c.kernel1",
    "6: c.kernel2 c.bias y.kernel0",
)
def embedding_and_convolution():
    x = keras.Input((7,), dtype="int32")
    h = layers.SpatialDropout1D(0.1)(layers.Embedding(11, 4, name="e")(x))
    return finish(x, layers.Conv1D(6, 3, padding="causal", name="c")(h))


@case(
    "4: e.embeddings1 a.kernel0 a.kernel1 a.bias b.kernel0",
    "4: u.embeddings1 u.reverse_embeddings0 b.kernel1 b.bias",
    frozen={},
    also=("e",),  # makes and reads with the same values
)
def tied_and_untied_tables():
    x = keras.Input((7,), dtype="int32")
    tied = layers.ReversibleEmbedding(11, 4, name="e")
    untied = layers.ReversibleEmbedding(11, 4, tie_weights=False, name="u")
    one = layers.Dense(4, name="a")(layers.GlobalAveragePooling1D(keepdims=True)(tied(x)) * 0.5)
    h, g = tied(x) + one, untied(x)
    g = g + layers.Dense(4, name="b")(layers.GlobalAveragePooling1D(keepdims=True)(h))
    return keras.Model(x, [tied(h, reverse=True), untied(g, reverse=True)])


@case(
    frozen={"a.kernel1": (4, "all channels of a step"), **LAST},
)
def masking():
    x = steps()
    h = layers.Masking()(layers.Dense(4, name="a")(x))
    return finish(x, h[:, 0])
