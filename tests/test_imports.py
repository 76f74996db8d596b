"""The house stands as its map says: who imports whom, what loads when, what the package offers."""

import ast
import importlib
import inspect
import pathlib
import pickle
import types

import pytest

import tfprune

PACKAGE = pathlib.Path(tfprune.__file__).parent

# The files and folders of each floor. A file may import from below; on the two lowest floors, from
# its neighbours too. A new file belongs here.
HOUSE = (
    (
        "version",
        "allocation",
        "schedules",
        "layouts",
        "patterns",
        "masks",
        "split_masks",
        "scores",
        "regrowth",
        "criteria",
        "yaml_nodes",
        "files",
        "sources",
        "resumption",
        "saved",
        "states",
        "results",
        "child",
        "meeting",
        "metrics",
        "progress",
    ),
    (
        "family",
        "registry",
        "signatures",
        "substitution",
        "gradients",
        "score_functions",
        "masked",
        "regularizers",
        "conversion",
        "decisions",
        "shares",
        "forecast",
        "paths",
        "policy",
        "cloning",
        "parcels",
        "cluster",
        "wrapper",
        "keras3",
        "legacy",
        "tfmot",
        "optimizers",
        "torch_masking",
        "torch_optimizers",
        "train_function",
        "training_run",
        "state_sync",
        "agreement",
        "postings",
        "placement",
        "workers",
    ),
    ("strip",),
    ("rules", "callbacks", "weightfiles", "image_files", "custom_scalars"),
    ("prune", "tensorboard", "summary", "export", "datasets", "channels"),
    (
        "latency",
        "evaluation",
        "comparison",
        "benchmarking",
        "count",
        "permutation",
        "recalibration",
    ),
    ("latency_target", "reconstruction", "sensitivity", "doctor"),
    ("variants", "shrink", "allocate"),
    ("search", "quickstart_folder"),
    ("quickstart", "console", "reporting"),
    ("channel_commands",),
    (
        "sensitivity_command",
        "report_command",
        "benchmark_command",
        "demo_command",
        "board_command",
    ),
    ("cli",),
)
FLOORS = {name: number for number, names in enumerate(HOUSE) for name in names}
HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "matplotlib")


def files():
    return sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def room(path):
    """Return the file or folder of the package that a path belongs to, such as "export"."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree, at_top_only=False):
    """Return the dotted names that a module imports, with `from a import b` as a.b."""
    found = set()
    skipped = set()
    for node in ast.walk(tree):
        if at_top_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            skipped.update(id(inner) for inner in ast.walk(node))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out in full"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def rooms_imported(tree):
    """Return the files of tfprune that a module imports, at its top or inside functions."""
    rooms = set()
    for name in imports(tree):
        parts = name.split(".")
        if parts[0] == "tfprune":
            # `import tfprune` and `from tfprune import Rule` mean all of it, by its public names.
            rooms.add(parts[1] if len(parts) > 1 and parts[1] in FLOORS else "tfprune")
    return rooms


def wrong_imports(name, source):
    """Return the files that a file of this name may not import, but does."""
    own = FLOORS[name]
    allowed = {other for other, floor in FLOORS.items() if floor < own or own == floor < 2}
    if own > FLOORS["comparison"]:
        allowed.add("tfprune")  # commands are users of the package like any other
    allowed.add(name)
    return rooms_imported(ast.parse(source)) - allowed


def test_every_file_has_its_floor():
    assert {room(p) for p in files()} - {"__init__"} <= set(FLOORS)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_imports_from_a_floor_above(path):
    if room(path) != "__init__":
        assert not wrong_imports(room(path), path.read_text("utf-8"))


def test_the_check_of_the_floors_sees_an_import_that_is_wrong():
    assert wrong_imports("masks", "from tfprune import prune") == {"prune"}
    assert wrong_imports("wrapper", "def f():\n    import tfprune.callbacks") == {"callbacks"}
    assert wrong_imports("strip", "from tfprune.summary import summary") == {"summary"}
    assert wrong_imports("strip", "from tfprune import Rule") == {"tfprune"}
    assert wrong_imports("prune", "import tfprune") == {"tfprune"}
    assert wrong_imports("prune", "from tfprune import summary") == {"summary"}  # neighbours
    assert not wrong_imports("strip", "from tfprune import legacy")


def test_no_ring_of_imports():
    seen, active = set(), []

    def visit(name):
        assert name not in active, f"ring: {' -> '.join([*active, name])}"
        if name in seen:
            return
        seen.add(name)
        active.append(name)
        for path in files():
            if room(path) == name:
                for other in rooms_imported(ast.parse(path.read_text("utf-8"))) - {name}:
                    if other in FLOORS:
                        visit(other)
        active.pop()

    for name in FLOORS:
        visit(name)


def test_the_ground_floor_is_numpy_only():
    for path in files():
        if FLOORS.get(room(path)) == 0:
            outside = {n.split(".")[0] for n in imports(ast.parse(path.read_text("utf-8")))}
            assert not outside & set(HEAVY), path


def test_only_the_legacy_files_import_tfmot_and_tf_keras():
    """Other files may look for them in `sys.modules`; that is no import."""
    for path in files():
        found = {n.split(".")[0] for n in imports(ast.parse(path.read_text("utf-8")))}
        if found & {"tf_keras", "tensorflow_model_optimization"}:
            assert room(path) in ("legacy", "tfmot"), path


def test_tfmot_tf_keras_and_matplotlib_are_imported_inside_functions_only():
    for path in files():
        tree = ast.parse(path.read_text("utf-8"))
        at_top = {n.split(".")[0] for n in imports(tree, at_top_only=True)}
        late = {"tf_keras", "tensorflow_model_optimization", "matplotlib"}
        assert not at_top & late, path


def test_both_families_have_the_same_doors():
    """`family.room` gives one of two modules; nobody who calls them asks which."""
    from tfprune import keras3, legacy

    for name in keras3.__all__:
        ours, theirs = (inspect.signature(getattr(m, name)) for m in (keras3, legacy))
        assert list(ours.parameters) == list(theirs.parameters) or name == "is_graph", name


def test_no_file_is_called_utils():
    assert not [p for p in files() if p.stem in ("utils", "util", "helpers", "common", "misc")]


def test_importing_the_package_and_its_command_is_light(run_python):
    code = (
        "import os, sys\n"
        "before = dict(os.environ)\n"
        "import tfprune, tfprune.cli\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
        "print(dict(os.environ) == before)\n"
        "import tfprune.masks, numpy\n"
        "print('numpy' in sys.modules)\n"
    )
    assert run_python(code).split("\n")[:3] == ["[]", "True", "True"]


def test_files_of_the_same_name_do_not_hide_functions(run_python):
    code = (
        "import tfprune, types\n"
        "first = tfprune.prune\n"
        "import tfprune.prune, tfprune.summary\n"
        "import importlib\n"
        "importlib.import_module('tfprune.prune')\n"
        "kinds = [type(f).__name__ for f in (first, tfprune.prune, tfprune.summary)]\n"
        "print(*kinds)\n"
        "from tfprune.prune import prune\n"
        "print(prune is first is tfprune.prune)\n"
    )
    lines = run_python(code, KERAS_BACKEND="numpy").split("\n")  # loads in a second
    assert lines[:2] == ["function function function", "True"]


@pytest.mark.parametrize("name", [n for n in tfprune.__all__ if not n.startswith("_")])
def test_public_names_resolve_and_show_an_example(name):
    value = getattr(tfprune, name)
    assert not isinstance(value, types.ModuleType)
    # `__doc__`, not `getdoc`: that would find the docstring of a parent class.
    text = inspect.cleandoc(value.__doc__ or "")
    first = text.split("\n")[0]
    assert first.endswith((".", ":")), first
    assert len(first) > 20
    assert "Example" in text or "```python" in text, f"{name} shows no example"


def test_all_and_the_lazy_table_agree():
    assert set(tfprune.__all__) - {"__version__"} == set(tfprune._HOME_OF)
    assert set(tfprune.__all__) <= set(dir(tfprune))
    assert tfprune.__all__ == sorted(tfprune.__all__, key=lambda n: (n.lower() == n, n))


def test_type_checkers_see_the_same_names():
    """The block under TYPE_CHECKING must import every public name, from where it lives."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"tfprune.{home}" for name, home in tfprune._HOME_OF.items()}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'prune_high_magnitude'"):
        tfprune.prune_high_magnitude  # noqa: B018


def test_reloading_keeps_the_functions():
    importlib.import_module("tfprune.prune")
    importlib.import_module("tfprune.summary")
    assert inspect.isfunction(tfprune.prune)
    assert inspect.isfunction(tfprune.summary)


def test_what_loads_keras_first_may_be_any_public_name(run_python):
    # Keras registers the wrapper as it loads, while the file that asked for Keras is half done.
    run_python("import tfprune; tfprune.PrunableLayer; tfprune.PruneLowMagnitude")


def test_the_package_can_be_pickled():
    """Functions that travel by value, such as those of a script on a cluster, bring it along."""
    assert pickle.loads(pickle.dumps(tfprune)) is tfprune
