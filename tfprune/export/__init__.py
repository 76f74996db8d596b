"""Keras model -> `.tflite`, verified before it is handed over; see README.md beside this file."""

from tfprune.export.exporter import export_tflite
from tfprune.export.result import ExportedWeight, ExportResult
from tfprune.export.verify import ExportMismatch

__all__ = ["ExportMismatch", "ExportResult", "ExportedWeight", "export_tflite"]
