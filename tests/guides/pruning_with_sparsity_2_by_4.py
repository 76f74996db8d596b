# Copyright 2021 The TensorFlow Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
# https://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
#
# Changed for this project: see the package's docstring.
"""The guide `pruning_with_sparsity_2_by_4`: 2:4 and random pruning, looked at in the `.tflite`."""

import tempfile

import keras
import numpy as np
import tensorflow as tf

import tfprune

from .data import mnist

prune_low_magnitude = tfprune.prune_low_magnitude

# The value 24 is chosen for convenience.
width = height = 24


def train():
    (train_images, train_labels), (test_images, test_labels) = mnist(train=256)
    train_images = train_images / 255.0
    test_images = test_images / 255.0

    pruning_params_2_by_4 = {
        "sparsity_m_by_n": (2, 4),
    }

    pruning_params_sparsity_0_5 = {
        "pruning_schedule": tfprune.ConstantSparsity(
            target_sparsity=0.5, begin_step=0, frequency=100
        )
    }

    model = keras.Sequential(
        [
            prune_low_magnitude(
                keras.layers.Conv2D(
                    32,
                    5,
                    padding="same",
                    activation="relu",
                    input_shape=(28, 28, 1),
                    name="pruning_sparsity_0_5",
                ),
                **pruning_params_sparsity_0_5,
            ),
            keras.layers.MaxPooling2D((2, 2), (2, 2), padding="same"),
            prune_low_magnitude(
                keras.layers.Conv2D(64, 5, padding="same", name="structural_pruning"),
                **pruning_params_2_by_4,
            ),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D((2, 2), (2, 2), padding="same"),
            keras.layers.Flatten(),
            prune_low_magnitude(
                keras.layers.Dense(1024, activation="relu", name="structural_pruning_dense"),
                **pruning_params_2_by_4,
            ),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(10),
        ]
    )

    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    model.summary()

    batch_size = 128
    epochs = 2

    model.fit(
        train_images,
        train_labels,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=tfprune.UpdatePruningStep(),
        validation_split=0.1,
    )

    _, pruned_model_accuracy = model.evaluate(test_images, test_labels, verbose=0)

    model = tfprune.strip_pruning(model)
    return model, pruned_model_accuracy


def convert(model):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    tflite_model = converter.convert()

    _, tflite_file = tempfile.mkstemp(".tflite")
    with open(tflite_file, "wb") as f:
        f.write(tflite_model)
    return tflite_file


def load(tflite_file):
    # Load tflite file with the created pruned model
    interpreter = tf.lite.Interpreter(
        model_path=tflite_file, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    return interpreter


# Changed: the guide looks for these two names with `find_tensor`. Keras 3 numbers the scopes when
# it exports a model, and calls a convolution so; a plain Keras 3 model has the same names.
GUIDE_DENSE, DENSE = "structural_pruning_dense/MatMul", "structural_pruning_dense_1/MatMul"
GUIDE_CONV, CONV = "pruning_sparsity_0_5/Conv2D", "pruning_sparsity_0_5_1/convolution"


def find_tensor(interpreter, tensor_name):
    """Return the first tensor with a name in its name, as the guide's cells do it twice."""
    details = interpreter.get_tensor_details()

    detail = [x for x in details if tensor_name in x["name"]]

    # We need the first layer.
    return interpreter.tensor(detail[0]["index"])()


def dense_values_to_display(tensor_data):
    subset_values_to_display = tensor_data[0:height, 0:width]

    val_ones = np.ones([height, width])
    val_zeros = np.zeros([height, width])
    return np.where(abs(subset_values_to_display) > 0, val_ones, val_zeros)


def plot_separation_lines(plt, height, width):
    block_size = [1, 4]

    # Add separation lines to the figure.
    num_hlines = int((height - 1) / block_size[0])
    num_vlines = int((width - 1) / block_size[1])
    line_y_pos = [y * block_size[0] for y in range(1, num_hlines + 1)]
    line_x_pos = [x * block_size[1] for x in range(1, num_vlines + 1)]

    for y_pos in line_y_pos:
        plt.plot([-0.5, width], [y_pos - 0.5, y_pos - 0.5], color="w")

    for x_pos in line_x_pos:
        plt.plot([x_pos - 0.5, x_pos - 0.5], [-0.5, height], color="w")


def show(plt, subset_values_to_display, title):
    plot_separation_lines(plt, height, width)

    plt.axis("off")
    plt.imshow(subset_values_to_display)
    plt.colorbar()
    plt.title(title)
    plt.show()


def conv_tensor(interpreter):
    # Get weights of the convolutional layer that has been pruned with 2 by 4 sparsity.
    op_details = interpreter._get_ops_details()
    op_name = "CONV_2D"
    op_detail = [x for x in op_details if op_name in x["op_name"]]
    return interpreter.tensor(op_detail[1]["inputs"][1])()


def conv_values_to_display(tensor_data):
    weights_to_display = tf.reshape(tensor_data, [tf.reduce_prod(tensor_data.shape[:-1]), -1])
    weights_to_display = weights_to_display[0:width, 0:height]

    val_ones = np.ones([height, width])
    val_zeros = np.zeros([height, width])
    return np.where(abs(weights_to_display) > 1e-9, val_ones, val_zeros)


def random_values_to_display(tensor_data):
    weights_to_display = tf.reshape(
        tensor_data, [tensor_data.shape[0], tf.reduce_prod(tensor_data.shape[1:])]
    )
    weights_to_display = weights_to_display[0:width, 0:height]

    val_ones = np.ones([height, width])
    val_zeros = np.zeros([height, width])
    return np.where(abs(weights_to_display) > 0, val_ones, val_zeros)
