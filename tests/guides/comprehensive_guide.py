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
"""The guide `comprehensive_guide`: every way to wrap, train, save and export."""

import tempfile

import keras
import numpy as np
import tensorflow as tf

import tfprune

input_shape = [20]
x_train = np.random.randn(1, 20).astype(np.float32)
y_train = keras.utils.to_categorical(np.random.randn(1), num_classes=20)


def setup_model():
    model = keras.Sequential(
        [
            keras.layers.Dense(20, input_shape=input_shape),
            keras.layers.Flatten(),
        ]
    )
    return model


def setup_pretrained_weights():
    model = setup_model()

    model.compile(
        loss=keras.losses.categorical_crossentropy, optimizer="adam", metrics=["accuracy"]
    )

    model.fit(x_train, y_train)

    # Changed: the name ended in ".tf", a format that Keras 3 itself no longer writes.
    _, pretrained_weights = tempfile.mkstemp(".weights.h5")

    model.save_weights(pretrained_weights)

    return pretrained_weights


def get_gzipped_model_size(model):
    # Returns size of gzipped model, in bytes.
    import os
    import zipfile

    _, keras_file = tempfile.mkstemp(".h5")
    model.save(keras_file, include_optimizer=False)

    _, zipped_file = tempfile.mkstemp(".zip")
    with zipfile.ZipFile(zipped_file, "w", compression=zipfile.ZIP_DEFLATED) as f:
        f.write(keras_file)

    return os.path.getsize(zipped_file)


def prune_whole_model(pretrained_weights):
    base_model = setup_model()
    base_model.load_weights(pretrained_weights)  # optional but recommended.

    model_for_pruning = tfprune.prune_low_magnitude(base_model)

    model_for_pruning.summary()
    return base_model, model_for_pruning


def prune_some_layers(pretrained_weights):
    # Create a base model
    base_model = setup_model()
    base_model.load_weights(pretrained_weights)  # optional but recommended for model accuracy

    # Helper function uses `prune_low_magnitude` to make only the
    # Dense layers train with pruning.
    def apply_pruning_to_dense(layer):
        if isinstance(layer, keras.layers.Dense):
            return tfprune.prune_low_magnitude(layer)
        return layer

    # Use `keras.models.clone_model` to apply `apply_pruning_to_dense`
    # to the layers of the model.
    model_for_pruning = keras.models.clone_model(
        base_model,
        clone_function=apply_pruning_to_dense,
    )

    model_for_pruning.summary()
    print(base_model.layers[0].name)
    return base_model, model_for_pruning


def functional_example():
    # Use `prune_low_magnitude` to make the `Dense` layer train with pruning.
    i = keras.Input(shape=(20,))
    x = tfprune.prune_low_magnitude(keras.layers.Dense(10))(i)
    o = keras.layers.Flatten()(x)
    model_for_pruning = keras.Model(inputs=i, outputs=o)

    model_for_pruning.summary()
    return model_for_pruning


def sequential_example():
    # Use `prune_low_magnitude` to make the `Dense` layer train with pruning.
    model_for_pruning = keras.Sequential(
        [
            tfprune.prune_low_magnitude(keras.layers.Dense(20, input_shape=input_shape)),
            keras.layers.Flatten(),
        ]
    )

    model_for_pruning.summary()
    return model_for_pruning


class MyDenseLayer(keras.layers.Dense, tfprune.PrunableLayer):
    def get_prunable_weights(self):
        # Prune bias also, though that usually harms model accuracy too much.
        return [self.kernel, self.bias]


def custom_layer():
    # Use `prune_low_magnitude` to make the `MyDenseLayer` layer train with pruning.
    model_for_pruning = keras.Sequential(
        [
            tfprune.prune_low_magnitude(MyDenseLayer(20, input_shape=input_shape)),
            keras.layers.Flatten(),
        ]
    )

    model_for_pruning.summary()
    return model_for_pruning


def model_fit(pretrained_weights):
    # Define the model.
    base_model = setup_model()
    base_model.load_weights(pretrained_weights)  # optional but recommended for model accuracy
    model_for_pruning = tfprune.prune_low_magnitude(base_model)

    log_dir = tempfile.mkdtemp()
    callbacks = [
        tfprune.UpdatePruningStep(),
        # Log sparsity and other metrics in Tensorboard.
        tfprune.PruningSummaries(log_dir=log_dir),
    ]

    model_for_pruning.compile(
        loss=keras.losses.categorical_crossentropy, optimizer="adam", metrics=["accuracy"]
    )

    model_for_pruning.fit(
        x_train,
        y_train,
        callbacks=callbacks,
        epochs=2,
    )
    return model_for_pruning, log_dir


def custom_training_loop(pretrained_weights, batches=1):
    # Define the model.
    base_model = setup_model()
    base_model.load_weights(pretrained_weights)  # optional but recommended for model accuracy
    model_for_pruning = tfprune.prune_low_magnitude(base_model)

    # Boilerplate
    loss = keras.losses.categorical_crossentropy
    optimizer = keras.optimizers.Adam()
    log_dir = tempfile.mkdtemp()
    unused_arg = -1
    epochs = 2
    # Changed: `batches`, hardcoded to 1 in the guide, is an argument.

    # Non-boilerplate.
    model_for_pruning.optimizer = optimizer
    step_callback = tfprune.UpdatePruningStep()
    step_callback.set_model(model_for_pruning)
    # Log sparsity and other metrics in Tensorboard.
    log_callback = tfprune.PruningSummaries(log_dir=log_dir)
    log_callback.set_model(model_for_pruning)

    step_callback.on_train_begin()  # run pruning callback
    for _ in range(epochs):
        log_callback.on_epoch_begin(epoch=unused_arg)  # run pruning callback
        for _ in range(batches):
            step_callback.on_train_batch_begin(batch=unused_arg)  # run pruning callback

            with tf.GradientTape() as tape:
                logits = model_for_pruning(x_train, training=True)
                loss_value = loss(y_train, logits)
                grads = tape.gradient(loss_value, model_for_pruning.trainable_variables)
                optimizer.apply_gradients(
                    zip(grads, model_for_pruning.trainable_variables, strict=True)
                )

        step_callback.on_epoch_end(batch=unused_arg)  # run pruning callback
    return model_for_pruning, log_dir


def checkpoint_and_deserialize(model_for_pruning):
    _, keras_model_file = tempfile.mkstemp(".h5")

    # Checkpoint: saving the optimizer is necessary (include_optimizer=True is the default).
    model_for_pruning.save(keras_model_file, include_optimizer=True)

    # Deserialize model.
    with tfprune.prune_scope():
        loaded_model = keras.models.load_model(keras_model_file)

    loaded_model.summary()
    return loaded_model


def export_with_size_compression(model_for_pruning):
    model_for_export = tfprune.strip_pruning(model_for_pruning)

    model_for_export.summary()

    return (
        model_for_export,
        get_gzipped_model_size(model_for_pruning),
        get_gzipped_model_size(model_for_export),
    )


def hardware_specific_optimizations():
    base_model = setup_model()

    # For using intrinsics on a CPU with 128-bit registers, together with 8-bit
    # quantized weights, a 1x16 block size is nice because the block perfectly
    # fits into the register.
    pruning_params = {"block_size": [1, 16]}
    model_for_pruning = tfprune.prune_low_magnitude(base_model, **pruning_params)

    model_for_pruning.summary()
    return model_for_pruning
