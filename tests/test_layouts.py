"""Which axes are inputs and outputs: by hand, and by what Keras's own layers do with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfprune import layouts
from tfprune.layouts import Layout

quick = settings(max_examples=50, deadline=None, derandomize=True)


# -- By hand ---------------------------------------------------------------------------------------


def test_a_dense_kernel():
    kernel = np.array([[1, 2, 3], [4, 5, 6]])  # 2 inputs, 3 outputs
    layout = layouts.of_kernel(2)
    assert layout == Layout((0,), (1,))
    assert layout.input_size(kernel.shape) == 2
    assert layout.rows(kernel).tolist() == [[1, 4], [2, 5], [3, 6]]
    assert layout.matrix(kernel).tolist() == kernel.tolist()
    assert layout.matrix_shape(kernel.shape) == (2, 3)


def test_a_conv2d_kernel():
    kernel = np.arange(2 * 1 * 3 * 2).reshape(2, 1, 3, 2)  # h, w, in, out
    layout = layouts.of_kernel(4)
    assert (layout.inputs, layout.outputs, layout.spatial(4)) == ((2,), (3,), (0, 1))
    # TFLite's order: out, h, w, in.
    assert layout.rows(kernel).tolist() == [[0, 2, 4], [6, 8, 10], [1, 3, 5], [7, 9, 11]]
    assert layout.matrix(kernel).tolist() == kernel.reshape(6, 2).tolist()


def test_a_conv2d_transpose_kernel():
    kernel = np.arange(2 * 1 * 2 * 3).reshape(2, 1, 2, 3)  # h, w, out, in
    layout = layouts.of_transposed_kernel(4)
    assert (layout.inputs, layout.outputs) == ((3,), (2,))
    assert layout.rows(kernel).tolist() == [[0, 1, 2], [6, 7, 8], [3, 4, 5], [9, 10, 11]]
    # (h * w * in, out)
    assert layout.matrix(kernel).tolist() == [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]]


def test_an_embedding_table():
    table = np.arange(6).reshape(3, 2)  # vocabulary, dimension
    layout = layouts.of_embedding()
    assert layout.input_size(table.shape) == 2
    assert layout.rows(table).tolist() == table.tolist()
    assert layout.matrix(table).tolist() == table.tolist()


def test_an_attention_output_kernel_has_heads_and_their_dimensions_as_inputs():
    kernel = np.arange(2 * 3 * 4).reshape(2, 3, 4)  # heads, head dimension, out
    layout = layouts.of_einsum("abnh,nhd->abd", 3)
    assert layout == Layout((0, 1), (2,))
    assert layout.input_size(kernel.shape) == 6
    assert layout.rows(kernel).tolist() == kernel.reshape(6, 4).T.tolist()
    assert layout.matrix(kernel).tolist() == kernel.reshape(6, 4).tolist()


@pytest.mark.parametrize(
    ("equation", "rank", "inputs", "outputs", "spatial"),
    [
        ("ab,bc->ac", 2, (0,), (1,), ()),
        ("abc,cd->abd", 2, (0,), (1,), ()),
        ("abc,dc->abd", 2, (1,), (0,), ()),  # a kernel stored the other way round
        ("abc,cde->abde", 3, (0,), (1, 2), ()),  # attention: query, key, value
        ("abcd,cde->abe", 3, (0, 1), (2,), ()),  # attention: output
        ("abnh,nhd->abd", 3, (0, 1), (2,), ()),
        ("bcd,cde->bce", 3, (1,), (2,), (0,)),  # one kernel for each c
        ("...x,xy->...y", 2, (0,), (1,), ()),
        (" abc , cd -> abd ", 2, (0,), (1,), ()),
    ],
)
def test_einsum_equations(equation, rank, inputs, outputs, spatial):
    layout = layouts.of_einsum(equation, rank)
    assert (layout.inputs, layout.outputs, layout.spatial(rank)) == (inputs, outputs, spatial)


@pytest.mark.parametrize(
    ("equation", "rank"),
    [
        ("abc,bc->abc", 2),  # a scale: nothing is contracted
        ("ab,b->a", 1),  # no output axis
        ("abc,cd->abd", 3),  # a kernel of another rank
    ],
)
def test_einsum_kernels_without_inputs_and_outputs(equation, rank):
    assert layouts.of_einsum(equation, rank) is None


@pytest.mark.parametrize("rank", [0, 1])
def test_vectors_and_scalars_have_no_layout(rank):
    assert layouts.of_kernel(rank) is None


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_convolutions_of_any_rank(rank):
    assert layouts.of_kernel(rank) == Layout((rank - 2,), (rank - 1,))
    assert layouts.of_transposed_kernel(rank) == Layout((rank - 1,), (rank - 2,))


# -- There and back --------------------------------------------------------------------------------


@st.composite
def kernels(draw):
    rank = draw(st.integers(2, 5))
    axes = draw(st.permutations(range(rank)))
    inputs = draw(st.integers(1, rank - 1))
    outputs = draw(st.integers(1, rank - inputs))
    layout = Layout(tuple(axes[:inputs]), tuple(axes[inputs : inputs + outputs]))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    return layout, np.arange(np.prod(shape)).reshape(shape)


@quick
@given(kernels())
def test_rows_and_matrix_can_be_undone(case):
    layout, kernel = case
    rows, matrix = layout.rows(kernel), layout.matrix(kernel)
    assert rows.shape[1] == np.prod([kernel.shape[a] for a in layout.inputs])
    assert matrix.shape == layout.matrix_shape(kernel.shape)
    for back in (layout.from_rows(rows, kernel.shape), layout.from_matrix(matrix, kernel.shape)):
        np.testing.assert_array_equal(back, kernel)
        assert back.flags.c_contiguous


@quick
@given(kernels())
def test_a_row_holds_the_inputs_of_one_output_and_place(case):
    layout, kernel = case
    for row in layout.rows(kernel):
        places = np.unravel_index(row, kernel.shape)
        for axis in range(kernel.ndim):
            if axis not in layout.inputs:
                assert len(set(places[axis].tolist())) == 1


# -- What Keras does with the axes -----------------------------------------------------------------
# If column j of `rows` is zero, the layer must not look at input channel j any more.

CASES = {
    "dense": (lambda k: k.Dense(3), (5,)),
    "conv1d": (lambda k: k.Conv1D(3, 2), (6, 5)),
    "conv2d": (lambda k: k.Conv2D(3, 2), (4, 4, 5)),
    "conv3d": (lambda k: k.Conv3D(3, 2), (3, 3, 3, 5)),
    "conv1d_transpose": (lambda k: k.Conv1DTranspose(3, 2), (6, 5)),
    "conv2d_transpose": (lambda k: k.Conv2DTranspose(3, 2), (4, 4, 5)),
    "conv3d_transpose": (lambda k: k.Conv3DTranspose(3, 2), (3, 3, 3, 5)),
    "einsum_query": (lambda k: k.EinsumDense("abc,cde->abde", (None, 2, 3)), (4, 5)),
    "einsum_back": (lambda k: k.EinsumDense("abc,dc->abd", (None, 3)), (4, 5)),
    "einsum_places": (lambda k: k.EinsumDense("bcd,cde->bce", (4, 3)), (4, 5)),
    "einsum_output": (lambda k: k.EinsumDense("abnh,nhd->abd", (None, 3)), (4, 2, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_inputs_are_what_keras_reads(name):
    import keras

    from tfprune import registry

    make, shape = CASES[name]
    layer = make(keras.layers)
    layer.build((None, *shape))
    (weight,) = registry.prunable_weights(layer)
    kernel_shape = tuple(weight.variable.shape)
    channels = weight.layout.input_size(kernel_shape)
    rng = np.random.default_rng(0)
    contracted = 2 if name == "einsum_output" else 1
    inputs = rng.normal(size=(1, *shape)).astype("float32")
    dead = 2
    rows = weight.layout.rows(rng.uniform(0.5, 1.0, kernel_shape).astype("float32")).copy()
    rows[:, dead] = 0.0
    weight.variable.assign(weight.layout.from_rows(rows, kernel_shape))
    before = np.asarray(layer(inputs))
    for channel in range(channels):
        flat = inputs.reshape(*inputs.shape[: inputs.ndim - contracted], channels).copy()
        flat[..., channel] += 1.0
        changed = not np.allclose(before, np.asarray(layer(flat.reshape(inputs.shape))), atol=1e-5)
        assert changed == (channel != dead)


def test_attention_kernels_as_keras_reads_them():
    import keras

    from tfprune import registry

    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3)
    layer.build((None, 4, 5), (None, 4, 5))
    found = {w.name: w for w in registry.prunable_weights(layer)}
    assert sorted(found) == [f"{n}/kernel" for n in ("attention_output", "key", "query", "value")]
    for weight in found.values():
        sublayer = getattr(layer, f"_{weight.name.split('/')[0].replace('attention_', '')}_dense")
        equation = sublayer.equation
        rank = len(weight.variable.shape)
        assert weight.layout == layouts.of_einsum(equation, rank)


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
def test_rows_are_stored_so_in_a_tflite_file():
    """The tensors in the file, their last axis the innermost, are `rows` number for number.

    Not among them: 3-D convolutions and kernels with places of their own ("bcd,cde->bce"), which
    TFLite leaves in Keras's order.
    """
    import keras
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    from tfprune import registry

    names = [n for n in CASES if "3d" not in n and n != "einsum_places"]
    inputs = [keras.Input(CASES[name][1], batch_size=1) for name in names]
    stack = [CASES[name][0](keras.layers) for name in names]
    model = keras.Model(inputs, [layer(x) for layer, x in zip(stack, inputs, strict=True)])
    expected = {}
    for i, (name, layer) in enumerate(zip(names, stack, strict=True)):
        (weight,) = registry.prunable_weights(layer)
        shape = tuple(weight.variable.shape)
        rows = 1000 * (i + 1) + np.arange(np.prod(shape), dtype="float32")
        expected[name] = rows.reshape(-1, weight.layout.input_size(shape))
        weight.variable.assign(weight.layout.from_rows(expected[name], shape))
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    details = [d for d in interpreter.get_tensor_details() if d["dtype"] == np.float32]
    tensors = [interpreter.get_tensor(d["index"]) for d in details]
    for name, rows in expected.items():
        same = [t for t in tensors if t.size == rows.size and (t.ravel() == rows.ravel()).all()]
        assert [t.shape[-1] for t in same] == [rows.shape[1]], name
