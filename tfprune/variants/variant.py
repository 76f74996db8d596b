"""The forms that a model can be written in, and how users name them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Variant:
    """One form of a file.

    Attributes:
        name: such as "int8-sparse".
        quantize: what `export_tflite` calls its number format.
        sparse: whether its zeros are stored in sparse encoding.
    """

    name: str
    quantize: str | None
    sparse: bool


VARIANTS = (
    Variant("float32", None, False),
    Variant("float16", "float16", False),
    Variant("dynamic", "dynamic", False),
    Variant("int8", "int8", False),
    Variant("float32-sparse", None, True),
    Variant("float16-sparse", "float16", True),
    Variant("int8-sparse", "int8", True),
)
"""Dense ones first. "dynamic" has no sparse form: the runtime cannot load one."""
_BY_NAME = {variant.name: variant for variant in VARIANTS}


def chosen(names: str | Sequence[str]) -> tuple[Variant, ...]:
    """Return the variants of these names, in the order of `VARIANTS`.

    Args:
        names: "all", names with commas between them, or a list of names.

    Example: `chosen("int8,float32")` gives float32 and int8.

    Raises:
        TypeError: `names` is neither.
        ValueError: a name is unknown, or there is none.
    """
    parts = names.split(",") if isinstance(names, str) else names
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise TypeError(
            "`variants` must be 'all', or names such as 'float32,int8' or ['float32', 'int8']. "
            f"Received: variants={names!r}"
        )
    wanted = {part.strip() for part in parts} - {""}
    if wanted == {"all"}:
        return VARIANTS
    unknown = sorted(wanted - set(_BY_NAME))
    if unknown or not wanted:
        why = " ('dynamic' has no sparse form: the runtime cannot load one)"
        raise ValueError(
            f"`variants` must be 'all', or some of {', '.join(_BY_NAME)}"
            f"{why if 'dynamic-sparse' in unknown else ''}. Received: variants={names!r}"
        )
    return tuple(variant for variant in VARIANTS if variant.name in wanted)
