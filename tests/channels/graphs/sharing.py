"""Graphs in which something is used more than once, or from outside, or is not known."""

import keras
from keras import layers

from channels.graphs.cases import LAST, OUTPUT, case, conv, finish, image, norm


@case("4: a.kernel3 a.bias b.kernel2x2", "5: b.kernel3 b.bias y.kernel0")
def concatenation_with_itself():
    x = image()
    h = conv(x, 4, "a")
    return finish(x, conv(layers.Concatenate()([h, h]), 5, "b"))


@case(
    # Channels 0-1, 2-3 and 4-5 of the sum: a with c, b's first two with c's last two, b with d.
    "2: a.kernel3 a.bias c.kernel3 c.bias y.kernel0",
    "2: b.kernel3 b.bias c.kernel3 c.bias y.kernel0",
    "2: b.kernel3 b.bias d.kernel3 d.bias y.kernel0",
    ties=[("b.kernel3", 1, "c.kernel3", [3]), ("b.kernel3", 2, "d.kernel3", [0])],
)
def sum_of_concatenations_that_do_not_line_up():
    x = image()
    a, b, c, d = (conv(x, n, name) for n, name in [(2, "a"), (4, "b"), (4, "c"), (2, "d")])
    return finish(x, layers.Concatenate()([a, b]) + layers.Concatenate()([c, d]))


@case("4: a.kernel1 a.bias b.kernel1 b.bias y.kernel0x2")
def dropout_with_one_shape_of_noise():
    x = keras.Input((5, 3))
    shared = layers.Dropout(0.5, noise_shape=(None, 1, 4))
    ends = [shared(layers.Dense(4, name=name)(x)) for name in "ab"]
    return finish(x, layers.Concatenate()(ends))


@case("4: s.kernel3 s.bias sn.* y.kernel0x2")
def siamese():
    left, right = image(), image()
    shared, shared_norm = layers.Conv2D(4, 3, name="s"), layers.BatchNormalization(name="sn")
    pool = layers.GlobalMaxPooling2D()
    ends = [pool(layers.ReLU()(shared_norm(shared(x)))) for x in (left, right)]
    return finish([left, right], layers.Concatenate()(ends))


@case(
    # The second call of `s` reads what the first makes.
    "4: a.kernel3 a.bias s.kernel2 s.kernel3 s.bias y.kernel0",
)
def layer_called_on_its_own_output():
    x = image()
    shared = layers.Conv2D(4, 3, padding="same", name="s")
    return finish(x, shared(shared(conv(x, 4, "a"))))


@case(
    "5: b.kernel3 b.bias y.kernel0",
    frozen={"a.kernel3": (4, "works on what has no channels there"), **LAST},
)
def norm_shared_with_the_input():
    x = image(channels=4)
    shared = layers.BatchNormalization(name="n")
    h = conv(layers.Concatenate()([shared(x), shared(conv(x, 4, "a"))]), 5, "b")
    return finish(x, h)


def backbone():
    """A nested model for images of any size."""
    x = keras.Input((None, None, 4))
    inner = keras.Sequential([layers.Conv2D(6, 1, name="c"), layers.ReLU()], name="inner")
    h = norm(inner(conv(x, 5, "a")), "n")
    return keras.Model(x, conv(h, 4, "b"), name="net")


@case(
    "5: net/a.kernel3 net/a.bias net/inner/c.kernel2",
    "6: net/inner/c.kernel3 net/inner/c.bias net/n.* net/b.kernel2",
    "4: stem.kernel3 stem.bias net/a.kernel2 net/b.kernel3 net/b.bias y.kernel0",
)
def nested_model_called_twice_on_different_sizes():
    x = image(8)
    net = backbone()
    once = net(conv(x, 4, "stem"))
    return finish(x, net(layers.MaxPooling2D()(once)))


@case(
    # One configuration for both calls, so that both inputs lose the same.
    "4: in.kernel1 in.bias g.kernel1 g.bias r.kernel0x2 y.kernel0x2",
    "3: r.kernel1 r.bias y.kernel0",
)
def nested_model_without_weights_called_twice():
    x = keras.Input((5,))
    inner = keras.Input((4,))
    twice = keras.Model(inner, layers.Concatenate()([inner, layers.ReLU()(inner)]))
    h, g = (layers.Dense(4, name=name)(x) for name in ("in", "g"))
    r = layers.Dense(3, name="r")(twice(h))
    return finish(x, layers.Concatenate()([twice(g), r]))


@case(
    # The reshape has one target for both calls.
    "4: a.kernel3 a.bias b.kernel3 b.bias y.kernel0x8",
    ties=[("a.kernel3", 1, "y.kernel0", [1, 5, 9, 13, 17, 21, 25, 29])],
)
def reshape_called_twice():
    x = image(2)
    shared = layers.Reshape((16,))
    ends = [shared(conv(x, 4, name)) for name in "ab"]
    return finish(x, layers.Concatenate()(ends))


@case(
    "4: a.kernel3 a.bias b.kernel2 y.kernel0",
    "5: b.kernel3 b.bias c.kernel2",
    frozen={
        "c.kernel3": (2, OUTPUT),
        "mid.kernel3": (3, OUTPUT),
        "y.kernel1": (3, OUTPUT),
    },
)
def several_inputs_and_outputs_in_a_dictionary():
    inputs = {"image": image(), "more": image()}
    h = conv(inputs["image"], 4, "a")
    mid = conv(inputs["more"], 3, "mid")  # an output, and read as well
    tail = conv(layers.Concatenate()([conv(h, 5, "b"), mid]), 2, "c")
    y = layers.Dense(3, name="y")(layers.GlobalAveragePooling2D()(h))
    return keras.Model(inputs, {"class": y, "maps": [mid, tail]})


@case(
    "4: a.kernel3 a.bias b.kernel2",
    frozen={"b.kernel3": (5, "a Lambda, for which no rule is known"), **LAST},
    unknown=("Lambda",),
)
def unknown_layer():
    x = image()
    h = conv(conv(x, 4, "a"), 5, "b")
    return finish(x, layers.Lambda(lambda t: t * 2.0, output_shape=(6, 6, 5))(h))


@keras.saving.register_keras_serializable("channels")
class Doubled(layers.Conv2D):
    """Not what its base class is: the rule of `Conv2D` would be a guess."""

    def call(self, inputs):
        return 2.0 * super().call(inputs)


@case(
    "5: b.kernel3 b.bias y.kernel0",
    frozen={"a.kernel3": (4, "a Doubled, for which no rule is known"), **LAST},
    unknown=("Doubled",),
)
def subclass_of_a_known_layer():
    x = image()
    h = Doubled(4, 3, name="sub")(conv(x, 4, "a"))
    return finish(x, conv(h, 5, "b"))


@case("4: a.kernel3 a.bias b.kernel2", "5: b.kernel3 b.bias y.kernel0")
def layers_called_outside_the_model_too():
    x = image()
    first, second = (layers.Conv2D(n, 3, name=name) for n, name in [(4, "a"), (5, "b")])
    model = finish(x, second(first(x)))
    # Another model reads the same layer in another way; it is none of this one's business.
    other = keras.Input((9, 9, 3))
    keras.Model(other, layers.Softmax()(first(other)))
    return model


@case(
    "4: a.kernel1 a.bias b.kernel0",
    "5: b.kernel1 b.bias y.kernel0",
)
def sequential_built_by_its_first_call():
    import numpy as np

    model = keras.Sequential(
        [layers.Dense(4, name="a"), layers.Dense(5, name="b"), layers.Dense(3, name="y")]
    )
    model(np.zeros((2, 7), "float32"))
    return model


@case("4: net/a.kernel1 net/a.bias y.kernel0")
def model_within_its_own_sequence():
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu", name="a")], name="net")
    return keras.Sequential([keras.Input((5,)), inner, layers.Dense(3, name="y")])


@case(
    "4: a.kernel3 a.bias n.* b.kernel2",
    "5: b.kernel3 b.bias y.kernel0",
)
def mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    x = image()
    h = conv(layers.ReLU()(norm(conv(x, 4, "a"), "n")), 5, "b")
    model = finish(x, h)
    keras.config.set_dtype_policy(policy)
    return model
