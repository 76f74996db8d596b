"""Attention: heads, what is in a head, and the stream that is read and written."""

import keras
from keras import layers

from channels.graphs.cases import LAST, OUTPUT, case, finish


def steps(length=5, channels=3):
    """Return a symbolic sequence."""
    return keras.Input((length, channels))


def head(name, parts=("query", "key", "value"), biases=True):
    """Return where a head lies: in every projection, and where the result is read."""
    made = " ".join(f"{name}.{part}/kernel1" for part in parts)
    made += " " + " ".join(f"{name}.{part}/bias0" for part in parts) if biases else ""
    return f"{made} {name}.attention_output/kernel0"


def within(name, parts, biases=True, read=False):
    """Return where a dimension within heads lies."""
    made = " ".join(f"{name}.{part}/kernel2" for part in parts)
    made += " " + " ".join(f"{name}.{part}/bias1" for part in parts) if biases else ""
    return f"{made} {name}.attention_output/kernel1" if read else made


READS = "m.query/kernel0 m.key/kernel0 m.value/kernel0"


@case(
    f"6: a.kernel1 a.bias {READS} m.attention_output/kernel2 m.attention_output/bias y.kernel0",
    f"2: {head('m')}",
    f"4: {within('m', ['query', 'key'])}",
    f"5: {within('m', ['value'], read=True)}",
)
def residual_self_attention():
    x = steps()
    h = layers.Dense(6, name="a")(x)
    return finish(x, h + layers.MultiHeadAttention(2, 4, 5, name="m")(h, h))


@case(
    "6: a.kernel1 a.bias m.query/kernel0",
    "5: b.kernel1 b.bias m.value/kernel0",
    "4: c.kernel1 c.bias m.key/kernel0",
    f"3: {head('m', biases=False)}",
    f"4: {within('m', ['query', 'key'], False)}",
    f"2: {within('m', ['value'], False, read=True)}",
    "7: m.attention_output/kernel2 y.kernel0",
)
def cross_attention_without_biases():
    x, other = steps(), steps(4, 2)
    query, value = layers.Dense(6, name="a")(x), layers.Dense(5, name="b")(other)
    key = layers.Dense(4, name="c")(other)
    m = layers.MultiHeadAttention(3, 4, 2, use_bias=False, output_shape=7, name="m")
    return finish([x, other], m(query, value, key=key))


@case(
    f"6: a.kernel1 a.bias {READS} m.gate/kernel0",
    f"2: {head('m', ['query', 'key', 'value', 'gate'])}",
    f"4: {within('m', ['query', 'key'])}",
    f"3: {within('m', ['value', 'gate'], read=True)}",
    "6: m.attention_output/kernel2 m.attention_output/bias y.kernel0",
)
def gated_heads():
    x = steps()
    h = layers.Dense(6, name="a")(x)
    return finish(x, layers.MultiHeadAttention(2, 4, 3, use_gate=True, name="m")(h, h))


@case(
    f"6: a.kernel1 a.bias {READS}",
    f"2: {head('m')}",
    f"4: {within('m', ['query', 'key'])}",
    f"4: {within('m', ['value'], read=True)}",
    "6: m.attention_output/kernel2 m.attention_output/bias y.kernel0",
)
def attention_along_one_of_two_axes():
    x = keras.Input((3, 4, 2))
    h = layers.EinsumDense("abcd,de->abce", (None, 4, 6), bias_axes="e", name="a")(x)
    h = layers.MultiHeadAttention(2, 4, attention_axes=2, name="m")(h, h)
    return finish(x, h)


@case(
    f"4: {within('m', ['query', 'key'])}",
    f"4: {within('m', ['value'], read=True)}",
    f"2: {head('m')}",
    "3: m.attention_output/kernel2 m.attention_output/bias y.kernel0",
)
def attention_with_a_mask_and_its_scores():
    x, mask = steps(), keras.Input((5, 5), dtype="bool")
    m = layers.MultiHeadAttention(2, 4, name="m")
    h, scores = m(x, x, attention_mask=mask, return_attention_scores=True)
    del scores
    return finish([x, mask], h)


@case(
    # Two query heads belong to each key-value head; `head_dim` is one for all.
    "6: a.kernel1 a.bias m.query/kernel0 m.key/kernel0 m.value/kernel0 m.gate/kernel0 "
    "m.attention_output/kernel2 m.attention_output/bias y.kernel0",
    "2: m.query/kernel1x2 m.query/bias0x2 m.gate/kernel1x2 m.gate/bias0x2 m.key/kernel1 "
    "m.key/bias0 m.value/kernel1 m.value/bias0 m.attention_output/kernel0x2",
    f"4: {within('m', ['query', 'key', 'value', 'gate'], read=True)}",
    ties=[("m.key/kernel1", 1, "m.query/kernel1", [2, 3])],
)
def grouped_queries_with_a_gate():
    x = steps()
    h = layers.Dense(6, name="a")(x)
    return finish(x, layers.GroupQueryAttention(4, 4, 2, use_gate=True, name="m")(h, h))


@case(
    "6: a.kernel1 a.bias m.query/kernel0 m.key/kernel0 m.value/kernel0 "
    "m.attention_output/kernel2 m.attention_output/bias y.kernel0",
    "4: m.query/kernel1 m.query/bias0 m.attention_output/kernel0",
    f"4: {within('m', ['query', 'key', 'value'], read=True)}",
    frozen={
        "m.key/kernel1": (1, "only channel"),
        "m.value/kernel1": (1, "only channel"),
        **LAST,
    },
)
def one_key_value_head():
    x = steps()
    h = layers.Dense(6, name="a")(x)
    return finish(x, layers.GroupQueryAttention(4, 4, 1, name="m")(h, h))


@case(
    # Each head has a map of scores: those of `m` are an output, those of `n` are read.
    f"6: a.kernel1 a.bias {READS} m.attention_output/kernel2 m.attention_output/bias y.kernel0 "
    f"{READS.replace('m.', 'n.')} n.attention_output/kernel2 n.attention_output/bias",
    f"4: {within('m', ['query', 'key'])}",
    f"4: {within('m', ['value'], read=True)}",
    "2: n.query/kernel1x2 n.query/bias0x2 n.attention_output/kernel0x2 "
    "n.key/kernel1 n.key/bias0 n.value/kernel1 n.value/bias0 z.kernel0x50",
    f"3: {within('n', ['query', 'key', 'value'], read=True)}",
    frozen={
        **{f"m.{part}/kernel1": (2, OUTPUT) for part in ("query", "key", "value")},
        "z.kernel1": (2, OUTPUT),
        **LAST,
    },
)
def scores_that_are_used():
    x = steps()
    h = layers.Dense(6, name="a")(x)
    m, maps = layers.MultiHeadAttention(2, 4, name="m")(h, h, return_attention_scores=True)
    n = layers.GroupQueryAttention(3, 4, 2, use_bias=True, name="n")
    n, read = n(h, h, return_attention_scores=True)
    ends = [maps, layers.Dense(2, name="z")(layers.Flatten()(read))]
    return keras.Model(x, [finish(x, m + n).output, *ends])


@case(
    "4: q.kernel1 q.bias k.kernel1 k.bias",
    "5: v.kernel1 v.bias y.kernel0",
    also=("q",),  # read by nothing but the product with the keys
)
def dot_product_attention():
    x = steps()
    q, v, k = (layers.Dense(n, name=name)(x) for n, name in [(4, "q"), (5, "v"), (4, "k")])
    return finish(x, layers.Attention(use_scale=True)([q, v, k]))


@case(
    "4: a.kernel1 a.bias e.kernel0",
    "6: e.kernel1 e.bias y.kernel0",
    frozen={
        "split.kernel1": (2, "several channel axes"),
        "split.kernel2": (3, "several channel axes"),
        **LAST,
    },
)
def einsum_layers():
    x = steps()
    h = layers.Dense(4, name="a", activation="gelu")(x)
    h = layers.EinsumDense("...x,xy->...y", 6, bias_axes="y", name="e")(h)
    split = layers.EinsumDense("abc,cde->abde", (None, 2, 3), name="split")(x)
    ends = [layers.GlobalMaxPooling1D()(h), layers.GlobalMaxPooling2D()(split)]
    return finish(x, layers.Concatenate()(ends))


@case(
    # What is read lies along axis 1, what follows it is not named.
    "4: a.kernel1 a.bias e.kernel0",
    "6: e.kernel1 e.bias0 y.kernel0x5",
)
def einsum_with_the_ellipsis_behind():
    x = steps()
    h = layers.Permute((2, 1))(layers.Dense(4, name="a")(x))
    h = layers.EinsumDense("ab...,bc->ac...", 6, bias_axes="c", name="e")(h)
    return finish(x, layers.Flatten()(h))
