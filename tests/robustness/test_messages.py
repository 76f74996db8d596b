"""Messages about arguments say what was received."""

import ast
import pathlib
import re

import pytest

import tfprune

PACKAGE = pathlib.Path(tfprune.__file__).parent

# Messages that name an argument only to say what else may be passed, or when: the fault is not
# its value. By file and the first words.
OTHERWISE = {
    ("export/precision.py", "The layer '"): "of a layer, whose type is told",
    ("export/verify.py", "The Keras model "): "of a model; what Keras says is quoted",
    ("masked.py", "the masks are chosen by gradients"): "of a layer, in the middle of training",
}


def literal(node):
    """Return the text of a message without what is filled in."""
    parts = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
    return "".join(part for part in parts if isinstance(part, str))


def first_words(node):
    """Return what a message begins with, as far as it is literal."""
    first = node.args[0] if node.args else None
    if isinstance(first, ast.JoinedStr):
        first = first.values[0] if first.values else None
    return first.value if isinstance(first, ast.Constant) else ""


def arguments(source):
    """Return the names of the arguments of functions and of the fields of dataclasses."""
    tree = ast.parse(source)
    named = {one.arg for one in ast.walk(tree) if isinstance(one, ast.arg)}
    fields = [one.target for one in ast.walk(tree) if isinstance(one, ast.AnnAssign)]
    return named | {one.id for one in fields if isinstance(one, ast.Name)}


def silent(source, named):
    """Yield (line, first words) of errors that name an argument and not what was received."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        if getattr(node.exc.func, "id", "") not in ("ValueError", "TypeError"):
            continue
        text = literal(node.exc)
        speaks = named & set(re.findall(r"`(\w+)(?:=[^`]*)?`", text))
        if speaks and "Received" not in text:
            yield node.lineno, first_words(node.exc)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ('f"`size` must be positive. Received: size={size!r}"', 0),
        ('"`size` must be positive"', 1),
        ('f"Pass `size=3`, not {size}"', 1),
        ('"the file is damaged"', 0),
    ],
)
def test_the_rule_by_hand(message, found):
    source = f"def make(size):\n    raise ValueError({message})\n"
    assert len(list(silent(source, arguments(source)))) == found


def test_errors_about_arguments_say_what_was_received():
    wrong, used = [], set()
    named = set().union(*(arguments(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")))
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for line, words in silent(path.read_text("utf-8"), named):
            excuse = next((k for k in OTHERWISE if k[0] == name and words.startswith(k[1])), None)
            if excuse is None:
                wrong.append(f"tfprune/{name}:{line}: {words}")
            used.add(excuse)
    assert not wrong, "\n".join(wrong)
    assert used >= OTHERWISE.keys(), "an exception that nothing needs any more"
