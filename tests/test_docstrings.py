"""Public docstrings: what raises says so, examples are Python and name what there is."""

import ast
import inspect
import re
import textwrap

import pytest

import tfprune

NAMES = [name for name in tfprune.__all__ if not name.startswith("_")]


def raising(source, name):
    """Return the function in which a callable raises, None if it does not.

    Followed are the functions of the same file that it calls; of a class, what makes an object.
    """
    top = {
        node.name: node
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    open_ = [top[name]]
    if isinstance(open_[0], ast.ClassDef):
        open_ = [
            node
            for node in open_[0].body
            if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "__post_init__")
        ]
    seen = {name}
    while open_:
        function = open_.pop()
        for node in ast.walk(function):
            if isinstance(node, ast.Raise) and node.exc is not None:
                return function.name
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in top and called.id not in seen:
                seen.add(called.id)
                if isinstance(top[called.id], ast.FunctionDef):
                    open_.append(top[called.id])
    return None


def test_what_raises_is_found():
    source = textwrap.dedent("""
        class Plain:
            def method(self):
                raise ValueError

        class Checked:
            def __post_init__(self):
                _check(self)

        def _check(value):
            if not value:
                raise ValueError(value)

        def quiet():
            return Checked
    """)
    found = [raising(source, name) for name in ("Plain", "Checked", "_check", "quiet")]
    assert found == [None, "_check", "_check", None]


@pytest.mark.parametrize("name", NAMES)
def test_a_callable_that_raises_says_what_and_when(name):
    value = getattr(tfprune, name)
    with open(inspect.getsourcefile(value), encoding="utf-8") as file:
        found = raising(file.read(), value.__name__)
    assert found is None or "Raises:" in value.__doc__, f"{found} raises; {name} does not say so"


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_listed_one_by_one(name):
    """Under `Raises:` each entry begins with exceptions that there are, and a reason follows."""
    text = inspect.cleandoc(getattr(tfprune, name).__doc__)
    for block in re.findall(r"(?m)^Raises:\n((?:    .*\n?)+)", text):
        entries = re.findall(r"(?m)^    (\S.*)$", block)
        assert entries
        for entry in entries:
            assert re.match(r"[A-Z]\w+(, [A-Z]\w+)*: \S", entry), entry


@pytest.mark.parametrize("name", NAMES)
def test_the_source_stands_in_a_line_of_its_own(name):
    """A paper, a rule, tfmot's behaviour that is kept, or which part of tfprune makes it."""
    text = inspect.cleandoc(getattr(tfprune, name).__doc__)
    assert len(re.findall(r"(?m)^Source: \S", text)) == 1, name


@pytest.mark.parametrize("name", ["PruneForLatencyOnXNNPack", "stripped_weights"])
def test_what_others_raise_for_them_is_said_too(name):
    """They raise through methods and other files, which `raising` does not follow."""
    assert "Raises:" in getattr(tfprune, name).__doc__


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_python_and_use_names_that_there_are(name):
    text = inspect.cleandoc(getattr(tfprune, name).__doc__)
    fenced = re.findall(r"(?s)```python\n(.*?)```", text)
    inline = re.findall(r"Example: `([^`]+)`", text)
    assert fenced or inline
    for code in fenced + inline:
        code = code.replace("): model", "):\n    model")  # a `with` on one line
        for node in ast.walk(ast.parse(textwrap.dedent(code))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "tfprune":
                assert hasattr(tfprune, node.attr), f"tfprune.{node.attr}"
