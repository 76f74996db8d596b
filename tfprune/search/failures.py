"""What a failed trial says: the whole text of its error, and the lines of it that tell."""

from __future__ import annotations

import re
import textwrap

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Keras prints the cause in bold
_MOST = 400  # characters: TensorFlow lists every label of a batch

# Keras puts the cause between the call that it came from and the arguments of that call.
_IN_A_CALL = re.compile(
    r"Exception encountered when calling .*?\n\n(?P<cause>.+?)(?:\n\nArguments received by|\Z)",
    re.DOTALL,
)
_FIRST_ROOT = re.compile(r"^\s*\(0\)\s+(?P<cause>.+)$", re.MULTILINE)


def text_of(error: Exception) -> str:
    """Return the kind of an error and all that it says, as plain text.

    Example: `text_of(MemoryError("no room"))` is `"MemoryError: no room"`.
    """
    name, text = type(error).__name__, _COLOURS.sub("", str(error)).strip()
    return f"{name}: {text}" if text else name


def telling(failure: str) -> str:
    """Return in one line what a failure is about, at most 400 characters of it.

    That is the first line, unless it only announces others: "Exception encountered when calling
    ..." of Keras, "Graph execution error:" of TensorFlow, whose cause is at the end.

    Example: `telling("ValueError: broken\\nmore of it")` is `"ValueError: broken"`.
    """
    kind, colon, text = failure.partition(": ")
    if not colon:
        kind, text = "", failure
    cause = _cause(text)
    return textwrap.shorten(f"{kind}{colon}{cause}", _MOST, placeholder=" ...")


def _cause(text: str) -> str:
    inside = _IN_A_CALL.match(text)
    if inside is not None:
        return _cause(inside["cause"])
    first, _, rest = text.partition("\n")
    if not first.rstrip().endswith(":"):
        return first
    root = _FIRST_ROOT.search(rest)  # where TensorFlow gives several
    if root is not None:
        return root["cause"]
    lines = [line for line in rest.splitlines() if line.strip()]
    # Frames of a stack and names of nodes are set in.
    plain = [line for line in lines if not line[0].isspace() and not line.startswith("[[")]
    return plain[-1] if plain else (lines[0] if lines else first)
