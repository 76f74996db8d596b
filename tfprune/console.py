"""How commands behave in a terminal: a line for a failure, exit codes, no chatter of C++ parts."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

import typer
from rich.console import Console


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn failures into one line on stderr and the command's exit code."""
    try:
        yield
    except KeyboardInterrupt:
        complain("Interrupted. Files that were finished are whole; nothing else was left.")
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader of our output left, as in `tfprune inspect ... | head`
        raise
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        if not _explains_itself(error):
            raise
        complain(f"Error: {error}")
        raise typer.Exit(1) from None


def _explains_itself(error: BaseException) -> bool:
    """Tell whether a failure was foreseen: a TypeError is if it says what was received."""
    return not isinstance(error, TypeError) or "Received:" in str(error)


def complain(message: str) -> None:
    """Print a line on stderr, in red if it is a terminal."""
    note(message, "red")


def note(message: str, style: str | None = None) -> None:
    """Print a line on stderr, as it is."""
    Console(stderr=True).print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def on_tensorflow() -> None:
    """Have Keras run on TensorFlow in this process, which export needs, whatever it is set to.

    Model files are the same on every backend.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"


@contextlib.contextmanager
def without_native_chatter() -> Iterator[None]:
    """Hold back what TensorFlow's C++ parts print while they load and run.

    Their log level has no say over all of it, so file descriptor 2 is pointed at a temporary file;
    what Python prints to `sys.stderr` still reaches the terminal. If the command fails in a way
    that `reported` does not explain, what was held back is printed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    python_stderr, descriptor = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(descriptor), "w", 1) as terminal:
        os.dup2(held.fileno(), 2)
        sys.stderr = terminal
        try:
            yield
        except (ValueError, OSError, RuntimeError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if not (isinstance(error, TypeError) and _explains_itself(error)):
                held.seek(0)
                shutil.copyfileobj(held, terminal.buffer)
            raise
        finally:
            terminal.flush()
            os.dup2(descriptor, 2)
            os.close(descriptor)
            sys.stderr = python_stderr
