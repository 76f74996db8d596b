"""Every form of a model as a verified file, measured, and the best one chosen; see README.md.

Names are loaded when first used: reading a record needs neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfprune.variants.exporter import export_variants
    from tfprune.variants.result import VariantsResult
    from tfprune.variants.row import VariantRow

_HOME_OF = {"VariantRow": "row", "VariantsResult": "result", "export_variants": "exporter"}
__all__ = ["VariantRow", "VariantsResult", "export_variants"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tfprune.variants' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfprune.variants.{_HOME_OF[name]}"), name)
