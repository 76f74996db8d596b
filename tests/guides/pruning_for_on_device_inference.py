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
"""The guide `pruning_for_on_device_inference`: a pruning policy for convolutional models."""

import tempfile

import keras
import tensorflow as tf

import tfprune

from .data import cifar10


class Guide:
    """The cells of the guide; what a cell leaves to the next is an attribute."""

    def __init__(self):
        ds_train, ds_val, ds_test = cifar10()

        # Normalize the input image so that each pixel value is between 0 and 1.
        def normalize_img(image, label):
            """Normalizes images: `uint8` -> `float32`."""
            return tf.image.convert_image_dtype(image, tf.float32), label

        # Load the data in batches of 128 images.
        batch_size = 128

        def prepare_dataset(ds, buffer_size=None):
            ds = ds.map(normalize_img, num_parallel_calls=tf.data.experimental.AUTOTUNE)
            ds = ds.cache()
            if buffer_size:
                ds = ds.shuffle(buffer_size)
            ds = ds.batch(batch_size)
            ds = ds.prefetch(tf.data.experimental.AUTOTUNE)
            return ds

        self.ds_train = prepare_dataset(ds_train, buffer_size=len(ds_train))
        self.ds_val = prepare_dataset(ds_val)
        self.ds_test = prepare_dataset(ds_test)

    def build_model(self, **pooling):
        """Return the guide's network, which it writes out twice: `keepdims` differs."""
        return keras.Sequential(
            [
                keras.layers.InputLayer(input_shape=(32, 32, 3)),
                keras.layers.ZeroPadding2D(padding=1),
                keras.layers.Conv2D(filters=8, kernel_size=(3, 3), strides=(2, 2), padding="valid"),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.DepthwiseConv2D(kernel_size=(3, 3), padding="same"),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Conv2D(filters=16, kernel_size=(1, 1)),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.ZeroPadding2D(padding=1),
                keras.layers.DepthwiseConv2D(kernel_size=(3, 3), strides=(2, 2), padding="valid"),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Conv2D(filters=32, kernel_size=(1, 1)),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(**pooling),
                keras.layers.Flatten(),
                keras.layers.Dense(10),
            ]
        )

    def train_the_dense_model(self):
        self.dense_model = self.build_model()

        # Compile and train the dense model.
        self.dense_model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer="adam",
            metrics=["accuracy"],
        )

        # Changed: 2 epochs, not 10.
        self.dense_model.fit(self.ds_train, epochs=2, validation_data=self.ds_val)

        # Evaluate the dense model.
        _, self.dense_model_accuracy = self.dense_model.evaluate(self.ds_test, verbose=0)

    def define_parameters(self):
        # Compute end step to finish pruning after after 5 epochs.
        end_epoch = 5

        num_iterations_per_epoch = len(self.ds_train)
        end_step = num_iterations_per_epoch * end_epoch

        # Define parameters for pruning.
        self.pruning_params = {
            "pruning_schedule": tfprune.PolynomialDecay(
                initial_sparsity=0.25, final_sparsity=0.75, begin_step=0, end_step=end_step
            ),
            "pruning_policy": tfprune.PruneForLatencyOnXNNPack(),
        }

    def build_the_sparse_model(self):
        """Return the message of the first attempt.

        Changed: tfmot's policy turns the first model down, for its pooling without `keepdims`.
        Today's runtimes take it, and so does tfprune; the guide goes on with the second one.
        """
        prune_low_magnitude = tfprune.prune_low_magnitude
        message = ""

        # Try to apply pruning wrapper with pruning policy parameter.
        try:
            self.model_for_pruning = prune_low_magnitude(self.dense_model, **self.pruning_params)
        except ValueError as e:
            message = str(e)

        fixed_dense_model = self.build_model(keepdims=True)

        # Use the pretrained model for pruning instead of training from scratch.
        fixed_dense_model.set_weights(self.dense_model.get_weights())

        # Try to reapply pruning wrapper.
        self.model_for_pruning = prune_low_magnitude(fixed_dense_model, **self.pruning_params)
        return message

    def fine_tune_the_sparse_model(self):
        self.logdir = tempfile.mkdtemp()

        callbacks = [
            tfprune.UpdatePruningStep(),
            tfprune.PruningSummaries(log_dir=self.logdir),
        ]

        self.model_for_pruning.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer="adam",
            metrics=["accuracy"],
        )

        # Changed: 6 epochs, not 15.
        self.model_for_pruning.fit(
            self.ds_train, epochs=6, validation_data=self.ds_val, callbacks=callbacks
        )

        # Evaluate the pruned model.
        _, self.pruned_model_accuracy = self.model_for_pruning.evaluate(self.ds_test, verbose=0)

    def convert(self):
        converter = tf.lite.TFLiteConverter.from_keras_model(self.dense_model)
        dense_tflite_model = converter.convert()

        _, self.dense_tflite_file = tempfile.mkstemp(".tflite")
        with open(self.dense_tflite_file, "wb") as f:
            f.write(dense_tflite_model)

        self.model_for_export = tfprune.strip_pruning(self.model_for_pruning)

        converter = tf.lite.TFLiteConverter.from_keras_model(self.model_for_export)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        pruned_tflite_model = converter.convert()

        _, self.pruned_tflite_file = tempfile.mkstemp(".tflite")
        with open(self.pruned_tflite_file, "wb") as f:
            f.write(pruned_tflite_model)
