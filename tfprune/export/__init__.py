"""Keras model -> `.tflite`, verified before it is handed over; see README.md beside this file.

Names are loaded when first used: what reads files alone needs neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfprune.export.explanation import Explanation, explain
    from tfprune.export.exporter import export_tflite
    from tfprune.export.result import ExportedWeight, ExportResult
    from tfprune.export.verify import ExportMismatch

_HOME_OF = {
    "ExportMismatch": "verify",
    "ExportResult": "result",
    "ExportedWeight": "result",
    "Explanation": "explanation",
    "explain": "explanation",
    "export_tflite": "exporter",
}
__all__ = [
    "Explanation",
    "ExportMismatch",
    "ExportResult",
    "ExportedWeight",
    "explain",
    "export_tflite",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tfprune.export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfprune.export.{_HOME_OF[name]}"), name)
