"""The rules of XNNPACK's sparse inference on files, and what `explain` says of them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfprune
from tfprune.export.graph import read_graphs
from tfprune.export.sparse import decide, rewrite
from tfprune.export.xnnpack.nodes import label, nodes_of
from tfprune.export.xnnpack.verdict import channel_block, judge, pointwise


def trunk(x):
    """Return two 1x1 convolutions that count: 8 x 16 and 16 x 24 weights."""
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(8, 3, 2, "valid", activation="relu", name="entry")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="first")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    return layers.Conv2D(24, 1, name="second")(x)


def plain(middle=lambda x: x):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.GlobalAveragePooling2D()(middle(trunk(inputs)))
    return keras.Model(inputs, layers.Dense(10)(x))


def prune(model, zeros):
    """Set the first n weights of each named layer to zero."""
    for name, count in zeros.items():
        kernel = model.get_layer(name).kernel
        values = kernel.numpy().reshape(-1)
        values[:count] = 0
        kernel.assign(values.reshape(kernel.shape))
    return model


def content(model, tmp_path, **options):
    path = tmp_path / "model.tflite"
    tfprune.export_tflite(model, path, overwrite=True, **options)
    return path.read_bytes()


def test_more_than_two_thirds_of_all_1x1_weights_together(tmp_path):
    # 512 weights: 342 zeros are the first number above 341.33.
    for zeros, kind in [({"first": 0, "second": 341}, "dense"), ({"second": 342}, "fast")]:
        made = content(prune(plain(), zeros), tmp_path, sparse=False)
        graph = read_graphs(made)[0]
        verdict = judge(graph, {one.tensor for one in decide(made) if one.encoded})
        assert verdict.kind == kind
        if kind == "dense":
            assert verdict.reason.startswith("66.6% of the 512 weights")
            assert verdict.advice.startswith("prune 1 more")


def test_without_encoded_weights_nothing_is_switched(tmp_path):
    model = prune(plain(), {"first": 120, "second": 370})
    made = content(model, tmp_path, sparse=False)
    assert judge(read_graphs(made)[0]).kind == "dense"
    assert judge(read_graphs(rewrite(made, decide(made)))[0]).kind == "fast"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one", "1 1x1 convolution runs with sparse kernels"),
        ("two", "2 1x1 convolutions run with sparse kernels"),
    ],
)
def test_one_convolution_runs_and_two_run(tmp_path, name, words):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((16, 16, 3))
    x = layers.ReLU()(layers.Conv2D(8, 3, 2, "valid")(layers.ZeroPadding2D(1)(x)))
    x = layers.Conv2D(64, 1, activation="relu", name="first")(x)
    if name == "two":
        x = layers.Conv2D(64, 1, name="second")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    prune(model, {"first": 500} | ({"second": 4000} if name == "two" else {}))
    assert judge(read_graphs(content(model, tmp_path))[0]).reason.startswith(words)


def test_the_rows_of_the_result(tmp_path):
    made = content(prune(plain(), {"first": 128, "second": 192}), tmp_path)
    rows = pointwise(read_graphs(made)[0])
    assert [(row.name, row.zeros, row.encoded) for row in rows] == [
        ("first", 1.0, True),
        ("second", 0.5, True),
    ]


def test_zero_padding_is_taken_into_the_convolution(tmp_path):
    nodes = nodes_of(read_graphs(content(plain(), tmp_path))[0])
    assert [node.operation.kind for node in nodes] == [
        *["CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED"],
    ]
    assert nodes[0].window.padding == (1, 1, 1, 1)
    assert nodes[2].window.padding == (1, 1, 1, 1)  # "same" with a stride of 1


def test_a_1x1_convolution_leaves_the_padding_before_it(tmp_path):
    model = plain(lambda x: layers.Conv2D(24, 1, name="third")(layers.ZeroPadding2D(2)(x)))
    prune(model, {"first": 120, "second": 370, "third": 560})
    made = content(model, tmp_path, sparse=False)
    verdict = judge(read_graphs(made)[0], {s.tensor for s in decide(made) if s.encoded})
    assert verdict.kind == "wrong"
    assert verdict.reason.startswith("PAD 'zero_padding2d")
    assert "'second', its result would be laid out channel by channel" in verdict.reason
    assert "ZeroPadding2D right before a depthwise convolution" in verdict.advice
    older = nodes_of(read_graphs(made)[0], pads_pointwise=True)
    assert older[4].window.padding == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (layers.MaxPooling2D(), "MAX_POOL_2D 'max_pooling2d"),
        (layers.AveragePooling2D(2), "AVERAGE_POOL_2D 'average_pooling2d"),
        (layers.Softmax(), "SOFTMAX 'softmax"),
        (layers.PReLU(), "PRELU 'p_re_lu"),
        (lambda x: layers.Softmax()(layers.MaxPooling2D()(x)), "MAX_POOL_2D"),
    ],
)
def test_what_stands_right_before_the_pooling_is_named(tmp_path, end, kind):
    model = prune(plain(lambda x: end(x)), {"first": 120, "second": 370})
    verdict = judge(read_graphs(content(model, tmp_path))[0])
    assert verdict.kind == "dense"
    assert verdict.reason.startswith(kind)
    assert "is unknown to sparse inference" in verdict.reason
    assert "use only 1x1 and depthwise convolutions" in verdict.advice


def _gated(gate):
    return lambda x: layers.Multiply()([x, gate(x)])


def _beside(branch):
    """Return a model that gives out what a branch makes of the trunk, and its classes."""
    inputs = keras.Input((16, 16, 3), name="image")
    x = trunk(inputs)
    return keras.Model(inputs, [layers.Dense(10)(layers.GlobalAveragePooling2D()(x)), branch(x)])


@pytest.mark.parametrize(
    ("model", "reason", "advice"),
    [
        (
            lambda: plain(lambda x: layers.Dense(16, name="map")(layers.Activation("relu")(x))),
            "at FULLY_CONNECTED 'map'",
            "use Conv2D(units, 1) in the place of Dense",
        ),
        (
            lambda: _beside(layers.Conv2D(3, 1, name="mask")),
            "CONV_2D 'mask' ends in an output of the model",
            "a model of its own",
        ),
        (
            lambda: _beside(lambda x: layers.Flatten(name="flat")(layers.Conv2D(3, 1)(x))),
            "RESHAPE",
            "use only 1x1 and depthwise convolutions",
        ),
        (
            lambda: _beside(lambda x: layers.Conv2DTranspose(3, 2, 2)(layers.Conv2D(4, 1)(x))),
            "TRANSPOSE_CONV",
            "use only 1x1 and depthwise convolutions",
        ),
        (
            lambda: plain(
                _gated(
                    lambda x: layers.Reshape((1, 1, 24))(
                        layers.Dense(24)(layers.GlobalAveragePooling2D()(x))
                    )
                )
            ),
            "MUL 'multiply",
            "multiply by a 1x1 convolution of GlobalAveragePooling2D(keepdims=True)",
        ),
    ],
)
def test_what_stands_in_the_way_is_named_and_what_to_do(tmp_path, model, reason, advice):
    keras.utils.set_random_seed(0)
    made = content(prune(model(), {"first": 128, "second": 350}), tmp_path, sparse=False)
    encoded = {one.tensor for one in decide(made) if one.encoded}
    verdict = judge(read_graphs(made)[0], encoded)
    assert verdict.kind != "fast"
    assert reason in verdict.reason
    assert advice in verdict.advice


def test_fused_convolutions_are_called_after_their_layer_where_the_file_names_it(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    legacy = tf_keras.layers
    inputs = tf_keras.Input((8, 8, 4), name="image")
    x = legacy.ReLU(6.0, name="after")(legacy.Conv2D(6, 1, name="pointwise")(inputs))
    x = legacy.ReLU(6.0, name="second")(legacy.Conv2D(6, 3, groups=2, name="grouped")(x))
    model = tf_keras.Model(inputs, legacy.Dense(3)(legacy.Flatten()(x)))
    graph = read_graphs(content(model, tmp_path))[0]
    named = [label(graph, node) for node in nodes_of(graph)][:2]
    # The converter loses the name of a convolution that it takes apart, as that of groups.
    assert named == ["CONV_2D 'pointwise'", "CONV_2D 'second'"]


@pytest.mark.parametrize(("stride", "kind"), [(1, "fast"), (2, "wrong")])
def test_a_pool_of_one_pixel_is_a_clamp_unless_it_skips_pixels(tmp_path, stride, kind):
    pool = layers.MaxPooling2D(1, stride)
    model = plain(lambda x: layers.Conv2D(24, 1, name="third")(pool(x)))
    prune(model, {"first": 120, "second": 370, "third": 560})
    made = content(model, tmp_path, sparse=False)
    assert judge(read_graphs(made)[0], {s.tensor for s in decide(made) if s.encoded}).kind == kind


def test_a_graph_that_would_be_wrong_is_left_dense_and_told_why(tmp_path):
    model = prune(plain(lambda x: layers.Conv2D(24, 1, name="third")(layers.MaxPooling2D()(x))),
                  {"first": 128, "second": 350, "third": 560})  # fmt: skip
    path = tmp_path / "pool.tflite"
    result = tfprune.export_tflite(model, path)
    assert not any(weight.encoded for weight in result.weights)
    assert {w.reason for w in result.weights if w.zeros} == {"sparse it would be wrong on phones"}
    assert (result.verdict.kind, "MAX_POOL_2D" in result.verdict.reason) == ("dense", True)
    assert "MAX_POOL_2D" in str(result)
    with pytest.raises(ValueError, match=r"MAX_POOL_2D.*is unknown to sparse inference"):
        tfprune.export_tflite(model, tmp_path / "no.tflite", sparse=True)
    assert not (tmp_path / "no.tflite").exists()
    found = tfprune.explain(path)
    assert (found.verdict.kind, found.if_encoded.kind) == ("dense", "wrong")
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(rewrite(path.read_bytes(), decide(path.read_bytes())))
    found = tfprune.explain(bad)
    assert (found.verdict.kind, found.if_encoded) == ("wrong", None)
    assert "WRONG" in str(found)


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_other_forms(tmp_path, quantize):
    model, rng = plain(), np.random.default_rng(0)
    for name in ("first", "second"):
        kernel = model.get_layer(name).kernel
        kernel.assign(kernel.numpy() * (rng.random(kernel.shape) > 0.9))
    data = rng.random((8, 16, 16, 3), "float32")
    path = tmp_path / "model.tflite"
    tfprune.export_tflite(model, path, quantize, data)
    found = tfprune.explain(path)
    assert found.verdict.kind == ("fast" if quantize == "float16" else "dense")


def test_dynamic_range_weights_in_sparse_encoding_would_not_load(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, name="wide")])
    prune(model, {"wide": 4000})
    made = content(model, tmp_path, quantize="dynamic")
    storage = decide(made)
    assert not any(one.encoded for one in storage)
    forced = [type(one)(0, one.tensor, True, "", 0, 0) for one in storage]
    verdict = judge(read_graphs(rewrite(made, forced))[0])
    assert verdict.kind == "wrong"
    assert "would not load" in verdict.reason


@pytest.mark.parametrize(
    ("rows", "block"),
    [
        (np.ones((8, 6)), 4),
        (np.tile([[1], [1], [1], [0]], (2, 6)), 1),  # 3 of 4, and 1.5 of 2 on average
        (np.tile([[1], [1], [0], [0]], (2, 6)), 2),
        (np.tile([[1], [0]], (4, 6)), 1),
        (np.zeros((8, 6)), 1),
        (np.ones((3, 6)), 2),
        (np.ones((1, 6)), 1),
    ],
)
def test_neighbouring_output_channels(rows, block):
    assert channel_block(rows) == block


def test_the_block_pattern_makes_such_weights(tmp_path):
    keras.utils.set_random_seed(0)
    model = plain()
    pruned = tfprune.prune(
        model, [tfprune.Rule("first|second", schedule=0.75, pattern=tfprune.Block((1, 4)))]
    )
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((2, 16, 16, 3)), np.ones((2, 10)), verbose=0,
               callbacks=[tfprune.UpdatePruningStep()])  # fmt: skip
    path = tmp_path / "blocks.tflite"
    tfprune.export_tflite(pruned, path)
    found = tfprune.explain(path)
    assert [row.block for row in found.convolutions] == [4, 4]
    assert "4 channels at a time" in str(found)


def test_explanation_as_json(tmp_path):
    path = tmp_path / "model.tflite"
    tfprune.export_tflite(prune(plain(), {"first": 120, "second": 370}), path)
    found = tfprune.explain(path)
    assert json.loads(found.to_json(tmp_path / "e.json"))["verdict"]["kind"] == "fast"
    assert json.loads((tmp_path / "e.json").read_text())["encoded"] >= 2


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: b"", "Not a .tflite file"),
        (lambda c: c[: len(c) // 2], "damaged or cut short"),
        (lambda c: b"PK" + c[2:4] + b"ZIP!" + c[8:], "Not a .tflite file"),
        (lambda c: c[:64] + bytes(255 for _ in range(400)) + c[464:], "damaged or cut short"),
    ],
)
def test_files_that_are_none(tmp_path, damage, words):
    path = tmp_path / "bad.tflite"
    path.write_bytes(damage(content(plain(), tmp_path)))
    with pytest.raises(ValueError, match=words):
        tfprune.explain(path)


def test_a_file_of_another_schema_version(tmp_path):
    from tfprune.export import rewriting

    model = rewriting.unpack(content(plain(), tmp_path))
    model.version = 2
    path = tmp_path / "old.tflite"
    path.write_bytes(rewriting.pack(model))
    with pytest.raises(ValueError, match=r"schema version 3 was expected.*Received: .* 2"):
        tfprune.explain(path)


def test_files_that_only_the_runtime_refuses(tmp_path):
    from tfprune.export import rewriting

    made = content(prune(plain(), {"first": 120, "second": 370}), tmp_path)
    path = tmp_path / "refused.tflite"
    end = made.index(b"main\0") + 4
    path.write_bytes(made[:end] + b"x" + made[end + 1 :])  # a text without its end
    found = tfprune.explain(path)
    assert (found.verdict.kind, found.if_encoded) == ("wrong", None)
    assert "not a valid Flatbuffer" in found.verdict.reason

    model = rewriting.unpack(made)
    model.operatorCodes[0].version = 99
    path.write_bytes(rewriting.pack(model))
    found = tfprune.explain(path)
    assert found.verdict.kind == "wrong"
    assert "version '99'" in found.verdict.reason
    assert "newer than the runtime" in found.verdict.advice


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        tfprune.explain(tmp_path / "no.tflite")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        tfprune.explain(tmp_path)
    with pytest.raises(TypeError, match=r"path of a `.tflite` file.*Received: path=3$"):
        tfprune.explain(3)


def test_custom_operations_and_files_without_weights(tmp_path):
    betainc = tf.function(
        lambda x: tf.raw_ops.Betainc(a=x, b=x, x=x), input_signature=[tf.TensorSpec((1, 4))]
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([betainc])
    converter.allow_custom_ops = True
    (tmp_path / "a.tflite").write_bytes(converter.convert())
    found = tfprune.explain(tmp_path / "a.tflite")
    assert found.custom == ("Betainc",)
    assert found.verdict.reason == "it has no weights"
    assert "custom operations (Betainc): it loads only in an app" in " ".join(found.lines())
