# Copyright 2020 The TensorFlow Authors.
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
"""The guide `pruning_with_keras`: train, prune, strip, compress, quantize, evaluate."""

import tempfile

import keras
import numpy as np
import tensorflow as tf

import tfprune

from .data import mnist


class Guide:
    """The cells of the guide; what a cell leaves to the next is an attribute."""

    def __init__(self):
        (train_images, train_labels), (test_images, test_labels) = mnist()
        self.train_images = train_images / 255.0
        self.test_images = test_images / 255.0
        self.train_labels, self.test_labels = train_labels, test_labels

    def train_a_model_without_pruning(self):
        model = keras.Sequential(
            [
                keras.layers.InputLayer(input_shape=(28, 28)),
                keras.layers.Reshape(target_shape=(28, 28, 1)),
                keras.layers.Conv2D(filters=12, kernel_size=(3, 3), activation="relu"),
                keras.layers.MaxPooling2D(pool_size=(2, 2)),
                keras.layers.Flatten(),
                keras.layers.Dense(10),
            ]
        )

        # Train the digit classification model
        model.compile(
            optimizer="adam",
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )

        model.fit(
            self.train_images,
            self.train_labels,
            epochs=4,
            validation_split=0.1,
        )
        self.model = model

        _, self.baseline_model_accuracy = model.evaluate(
            self.test_images, self.test_labels, verbose=0
        )

        _, self.keras_file = tempfile.mkstemp(".h5")
        keras.models.save_model(model, self.keras_file, include_optimizer=False)

    def define_the_model(self):
        prune_low_magnitude = tfprune.prune_low_magnitude

        # Compute end step to finish pruning after 2 epochs.
        self.batch_size = 128
        self.epochs = 2
        self.validation_split = 0.1

        num_images = self.train_images.shape[0] * (1 - self.validation_split)
        end_step = np.ceil(num_images / self.batch_size).astype(np.int32) * self.epochs

        # Define model for pruning.
        pruning_params = {
            "pruning_schedule": tfprune.PolynomialDecay(
                initial_sparsity=0.50, final_sparsity=0.80, begin_step=0, end_step=end_step
            )
        }

        self.model_for_pruning = prune_low_magnitude(self.model, **pruning_params)

        # `prune_low_magnitude` requires a recompile.
        self.model_for_pruning.compile(
            optimizer="adam",
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )

        self.model_for_pruning.summary()

    def train_and_evaluate(self):
        self.logdir = tempfile.mkdtemp()

        callbacks = [
            tfprune.UpdatePruningStep(),
            tfprune.PruningSummaries(log_dir=self.logdir),
        ]

        self.model_for_pruning.fit(
            self.train_images,
            self.train_labels,
            batch_size=self.batch_size,
            epochs=self.epochs,
            validation_split=self.validation_split,
            callbacks=callbacks,
        )

        _, self.model_for_pruning_accuracy = self.model_for_pruning.evaluate(
            self.test_images, self.test_labels, verbose=0
        )

    def export(self):
        self.model_for_export = tfprune.strip_pruning(self.model_for_pruning)

        _, self.pruned_keras_file = tempfile.mkstemp(".h5")
        keras.models.save_model(
            self.model_for_export, self.pruned_keras_file, include_optimizer=False
        )

        converter = tf.lite.TFLiteConverter.from_keras_model(self.model_for_export)
        pruned_tflite_model = converter.convert()

        _, self.pruned_tflite_file = tempfile.mkstemp(".tflite")

        with open(self.pruned_tflite_file, "wb") as f:
            f.write(pruned_tflite_model)

    def get_gzipped_model_size(self, file):
        # Returns size of gzipped model, in bytes.
        import os
        import zipfile

        _, zipped_file = tempfile.mkstemp(".zip")
        with zipfile.ZipFile(zipped_file, "w", compression=zipfile.ZIP_DEFLATED) as f:
            f.write(file)

        return os.path.getsize(zipped_file)

    def quantize(self):
        converter = tf.lite.TFLiteConverter.from_keras_model(self.model_for_export)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        self.quantized_and_pruned_tflite_model = converter.convert()

        _, self.quantized_and_pruned_tflite_file = tempfile.mkstemp(".tflite")

        with open(self.quantized_and_pruned_tflite_file, "wb") as f:
            f.write(self.quantized_and_pruned_tflite_model)

    def evaluate_model(self, interpreter):
        input_index = interpreter.get_input_details()[0]["index"]
        output_index = interpreter.get_output_details()[0]["index"]

        # Run predictions on every image in the "test" dataset.
        prediction_digits = []
        for test_image in self.test_images:
            # Pre-processing: add batch dimension and convert to float32 to match with
            # the model's input data format.
            test_image = np.expand_dims(test_image, axis=0).astype(np.float32)
            interpreter.set_tensor(input_index, test_image)

            # Run inference.
            interpreter.invoke()

            # Post-processing: remove batch dimension and find the digit with highest
            # probability.
            output = interpreter.tensor(output_index)
            digit = np.argmax(output()[0])
            prediction_digits.append(digit)

        # Compare prediction results with ground truth labels to calculate accuracy.
        prediction_digits = np.array(prediction_digits)
        accuracy = (prediction_digits == self.test_labels).mean()
        return accuracy

    def evaluate_the_quantized_model(self):
        interpreter = tf.lite.Interpreter(model_content=self.quantized_and_pruned_tflite_model)
        interpreter.allocate_tensors()

        return self.evaluate_model(interpreter)
