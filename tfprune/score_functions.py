"""Score functions of one's own in saved models: Keras finds them again by their registered name."""

from __future__ import annotations

from typing import Any

import keras

from tfprune.scores import Score


def reason_against(score: Score) -> str | None:
    """Return why a wrapper cannot keep a score, None if it can.

    A model whose score no file could hold would be lost with its training, so that this is asked
    when a layer is wrapped.
    """
    if not score.own or _is_registered(score.function):
        return None
    return (
        f"the score function '{score}' is not registered, so that no saved model could find it "
        'again; put `@keras.saving.register_keras_serializable(package="mine")` before its `def`'
    )


def saved(score: Score) -> Any:
    """Return what a configuration keeps of a score."""
    return keras.saving.serialize_keras_object(score.function) if score.own else score.name


def loaded(score: Any) -> Any:
    """Undo `saved`; what is no configuration stays as it is."""
    return keras.saving.deserialize_keras_object(score) if isinstance(score, dict) else score


def _is_registered(function: Any) -> bool:
    known = function if hasattr(function, "__name__") else type(function)
    return keras.saving.get_registered_object(keras.saving.get_registered_name(known)) is known
