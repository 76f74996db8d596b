"""Small `.tflite` files, made once, and some that were tampered with."""

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

L = keras.layers


def converted(function, *specs, **options):
    """Return the bytes of a traced function as a `.tflite` file."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [tf.function(function).get_concrete_function(*specs)]
    )
    for name, value in options.items():
        setattr(converter, name, value)
    return converter.convert()


def changed(content, change):
    """Return the bytes of a file after a change to its tables."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    change(model)
    builder = flatbuffers.Builder(len(content) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def dense(seed, inputs=256, outputs=1024):
    """Return a function with a matrix of 1 MiB, unless told otherwise."""
    kernel = np.random.default_rng(seed).standard_normal((inputs, outputs)).astype("float32")
    return lambda x: tf.nn.relu(tf.matmul(x, kernel))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Paths of files by name."""
    folder = tmp_path_factory.mktemp("files")
    spec = tf.TensorSpec((1, 256), tf.float32, name="x")
    one = converted(dense(0), spec)
    table = np.eye(9, 4, dtype="float32")

    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 3), tf.float32, name="a")])
        def double(self, a):
            return {"out": a * 2}

        @tf.function(input_signature=[tf.TensorSpec((1, 3), tf.float32, name="b")])
        def triple(self, b):
            return {"out": b * 3}

    two = Two()
    tf.saved_model.save(
        two, str(folder / "two"), signatures={"double": two.double, "triple": two.triple}
    )

    def samples():
        for seed in range(4):
            yield [np.random.default_rng(seed).standard_normal((1, 256)).astype("float32")]

    def make_custom(model):
        model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].customCode = b"Mystery"

    def make_new(model):
        model.version = 7

    def point_outside(model):  # as files beyond 2 GB keep their data
        model.buffers[-1].data = None
        model.buffers[-1].offset, model.buffers[-1].size = 64, 2**40

    def add_subgraph(model):
        model.subgraphs.append(model.subgraphs[0])

    contents = {
        "one": one,
        "other": converted(dense(1), spec),
        "free_batch": converted(dense(0), tf.TensorSpec((None, 256), tf.float32, name="x")),
        "tokens": converted(
            lambda tokens: tf.reduce_mean(tf.gather(table, tokens), axis=1),
            tf.TensorSpec((1, None), tf.int32, name="tokens"),
        ),
        "text": converted(
            lambda text: tf.strings.length(text), tf.TensorSpec((1,), tf.string, name="text"),
            allow_custom_ops=True,
        ),
        "two": tf.lite.TFLiteConverter.from_saved_model(str(folder / "two")).convert(),
        "int8": converted(
            dense(0), spec, optimizations=[tf.lite.Optimize.DEFAULT],
            representative_dataset=samples, inference_input_type=tf.int8,
            inference_output_type=tf.int8,
        ),
        "custom": changed(one, make_custom),
        "new": changed(one, make_new),
        "outside": changed(one, point_outside),
        "subgraphs": changed(one, add_subgraph),
        "cut": one[: len(one) * 2 // 3],
        "empty": b"",
        "note": b"not a model, just a note that somebody wrote",
    }  # fmt: skip
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / f"{name}.tflite"
        paths[name].write_bytes(content)
    return paths
