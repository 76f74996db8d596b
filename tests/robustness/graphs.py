"""Small random models: plain layers, shortcuts and concatenations, whatever fits what is there."""

import hypothesis.strategies as st
import keras

L = keras.layers

PATTERNS = ("unstructured", "2:4", "1x4")
SCORES = ("magnitude", "movement")


@st.composite
def models(draw):
    """Return a built model of images of 8 x 8 pixels with two channels, and three classes."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(draw(st.integers(0, 1000)))
    inputs = x = keras.Input((8, 8, 2))
    for number in range(draw(st.integers(1, 4))):
        x = draw(st.sampled_from(BLOCKS))(x, draw(st.sampled_from((4, 8))), number)
    x = draw(st.sampled_from((L.Flatten, L.GlobalAveragePooling2D)))()(x)
    if draw(st.booleans()):
        x = L.Dense(8, "relu", name="hidden")(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="random")


def _convolution(x, width, number):
    x = L.Conv2D(width, _kernel(number), padding="same", name=f"conv{number}")(x)
    return L.ReLU()(L.BatchNormalization()(x))


def _kernel(number):
    return (3, 1)[number % 2]


def _depthwise(x, width, number):
    x = L.DepthwiseConv2D(3, padding="same", name=f"depthwise{number}")(x)
    return L.Conv2D(width, 1, activation="relu", name=f"pointwise{number}")(x)


def _shortcut(x, width, number):
    y = L.Conv2D(x.shape[-1], 3, padding="same", activation="relu", name=f"side{number}")(x)
    return L.Add()([x, y])


def _concatenation(x, width, number):
    y = L.Conv2D(width, 1, name=f"branch{number}")(x)
    return L.Concatenate()([x, y])


def _pooling(x, width, number):
    kind = (L.MaxPooling2D, L.AveragePooling2D)[width % 8 > 0]
    return kind(2, padding="same")(x)


BLOCKS = (_convolution, _depthwise, _shortcut, _concatenation, _pooling)
