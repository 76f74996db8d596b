"""Optimizers in files from PyTorch, made known on every backend.

On PyTorch Keras makes a class of its own of `keras.optimizers.Adam` and its like, and names that in
the model's file. Another backend would take the class from there, and fail at the first step, or
not find PyTorch. So here it gets a registered name that is read as the public class elsewhere;
without tfprune such a file is read as before.
"""

from __future__ import annotations

import keras

_PACKAGE = "tfprune"
_NAMES = ("SGD", "Adam", "AdamW", "Nadam", "Adamax", "Lion", "RMSprop", "Adagrad", "Adadelta")


def _register() -> None:
    for name in _NAMES:
        public = getattr(keras.optimizers, name)
        made = type(public()) if keras.backend.backend() == "torch" else public
        if made is public:
            keras.saving.get_custom_objects()[f"{_PACKAGE}>{name}"] = public
        else:
            keras.saving.register_keras_serializable(_PACKAGE, name)(made)


_register()
