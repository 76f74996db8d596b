"""Outputs that are taken from the trunk itself, and several of them."""

import keras

from zoo.blocks import before, depthwise, entry, head, image, pointwise
from zoo.registry import graph

L = keras.layers


@graph("broken")
def second_output_of_the_trunk():
    inputs = image()
    middle = pointwise(depthwise(entry(inputs)))
    return keras.Model(inputs, [head(pointwise(middle, 24)), middle])


def given_out(more):
    """A network that gives out a value of its trunk, and what other steps make of later ones."""
    inputs = image(20)
    middle = pointwise(entry(inputs, 8), 8)
    after = depthwise(middle)
    return keras.Model(inputs, [*more(after, middle), middle])


@graph("broken")
def given_out_and_later_pooled():
    """A pooling would keep the trunk dense, were it not cut in front of it."""
    return given_out(lambda after, _: [head(pointwise(after, 24)), L.MaxPooling2D(2)(after)])


@graph("broken")
def given_out_and_pooled():
    return given_out(lambda after, given: [head(pointwise(after, 24)), L.MaxPooling2D(2)(given)])


@graph("broken")
def given_out_and_later_vector_added():
    def more(after, _):
        mean = L.GlobalAveragePooling2D(keepdims=True)(after)
        return [head(pointwise(L.Add()([after, L.Conv2D(8, 1)(mean)]), 24))]

    return given_out(more)


@graph("dense")
def second_output_of_the_entry():
    inputs = image()
    first = entry(inputs)
    return keras.Model(inputs, [head(pointwise(first, 24)), first])


@graph("dense")
def last_feature_map_and_head():
    return before(lambda x: [head(x), x])


@graph("dense")
def feature_map_alone():
    return before(lambda x: x)


@graph("dense")
def feature_map_linear():
    return before(L.Conv2D(5, 1))


@graph("dense")
def two_feature_maps():
    return before(lambda x: [depthwise(x, 3, 2), pointwise(x)])


@graph("fast")
def two_heads():
    return before(lambda x: [head(x), head(pointwise(x), 4)])


@graph("broken")
def early_exit_with_keepdims():
    inputs = image()
    middle = pointwise(entry(inputs))
    exit_ = L.GlobalAveragePooling2D(keepdims=True)(middle)
    return keras.Model(inputs, [head(pointwise(middle, 24)), exit_])


@graph("fast")
def early_exit():
    inputs = image()
    middle = pointwise(entry(inputs))
    return keras.Model(inputs, [head(pointwise(depthwise(middle), 24)), head(middle, 4)])


@graph("fast")
def head_and_average():
    return before(lambda x: [head(x), L.GlobalAveragePooling2D()(x)])


@graph("dense")
def head_and_flattened_map():
    return before(lambda x: [head(x), L.Flatten()(x)])


@graph("fast")
def scores_and_probabilities():
    def end(x):
        scores = head(x)
        return [scores, keras.ops.softmax(scores)]

    return before(end)


@graph("fast")
def input_passed_through():
    inputs = image()
    return keras.Model(inputs, [head(pointwise(entry(inputs))), inputs * 2.0])


@graph("dense")
def detector():
    """Boxes and scores from two scales, as SSD has them."""
    inputs = image(24)
    large = pointwise(depthwise(entry(inputs)))
    small = pointwise(depthwise(large, 3, 2), 24)
    boxes = [L.Reshape((-1, 4))(L.Conv2D(8, 1)(x)) for x in (large, small)]
    scores = [L.Reshape((-1, 3))(L.Conv2D(6, 1)(x)) for x in (large, small)]
    return keras.Model(inputs, [L.Concatenate(axis=1)(boxes), L.Concatenate(axis=1)(scores)])
