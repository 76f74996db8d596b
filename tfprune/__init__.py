"""Sparsity for Keras models that end on phones: wrap, train, watch, strip, export.

The map of the house (upper floors import lower ones, never the other way round):

- numpy only: `schedules` (when, how much), `layouts` (which axes are inputs), `patterns` (where
  zeros may stand), `masks` (scores to masks), `scores` (which weights matter), `regrowth` (which
  may return), `criteria` (the three as one), `files` (whole or not at all), `sources` (files that
  are read), `saved` (whether they hold what they should), `child` (a process that may crash
  without harm), `meeting` (of workers)
- layers: `family`, `registry` (which weights), `wrapper` (Keras 3), `legacy` (tf_keras through
  tfmot), `cloning`, `decisions`, `strip`, `optimizers` (which leave zeros alone),
  `parcels` (a model for another process), `cluster` (of Ray's workers),
  `torch_optimizers` (in files), `workers` (several train one model), `agreement` (the same one),
  `postings` (what they tell each other), `placement` (in shards)
- workflows: `rules`, `prune`, `callbacks`, `tensorboard`, `custom_scalars` (how it lays out
  curves), `summary`, `channels` (which go together), `export`, `weightfiles`, `benchmarking`,
  `count`, `variants`, `shrink`, `permutation`, `allocate`, `sensitivity`, `search` (what to
  prune), `reconstruction` (cut without training), `recalibration`
- commands: `quickstart`, `doctor` (what this machine can do), `reporting` (one page about a run),
  `console`, `channel_commands`, `demo_command`, `sensitivity_command`, `report_command`,
  `board_command` (TensorBoard), `cli`

Names are loaded when first used, so that `tfprune --help` need not wait for TensorFlow.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any

from tfprune.version import __version__

if TYPE_CHECKING:
    from tfprune.allocate import Allocation, allocate
    from tfprune.benchmarking import BenchmarkResult, DemoPage, benchmark, demo_page
    from tfprune.callbacks import UpdatePruningStep
    from tfprune.channels import (
        ShrinkReport,
        SoftChannelPruning,
        channel_rule,
        replay,
        unfreeze_only,
    )
    from tfprune.count import Count, count
    from tfprune.doctor import Health, doctor
    from tfprune.export import Explanation, ExportResult, explain, export_tflite
    from tfprune.latency import PruneForLatencyOnXNNPack
    from tfprune.patterns import NM, Block, Unstructured
    from tfprune.permutation import PermutationReport, permute_for_nm
    from tfprune.policy import PruningPolicy
    from tfprune.prune import prune, prune_low_magnitude, prune_scope
    from tfprune.recalibration import Recalibration, recalibrate_batch_norm
    from tfprune.reconstruction import ReconstructionReport, prune_one_shot
    from tfprune.registry import PrunableLayer
    from tfprune.regrowth import RigL, SoftPruning
    from tfprune.regularizers import BatchNormRegularizer
    from tfprune.reporting import Report, report
    from tfprune.rules import Distribution, Rule
    from tfprune.schedules import (
        ConstantSparsity,
        FunctionSchedule,
        Gradual,
        Iterative,
        OneShot,
        PolynomialDecay,
        PruningSchedule,
    )
    from tfprune.search import SearchResult, search
    from tfprune.sensitivity import Sensitivity, sensitivity
    from tfprune.shrink import ImpossibleTarget, shrink
    from tfprune.strip import strip_pruning, stripped_weights
    from tfprune.summary import summary
    from tfprune.tensorboard import PruningSummaries
    from tfprune.variants import VariantsResult, export_variants
    from tfprune.weightfiles import inspect_file
    from tfprune.wrapper import PruneLowMagnitude

_HOMES = {
    "allocate": ("Allocation", "allocate"),
    "benchmarking": ("BenchmarkResult", "DemoPage", "benchmark", "demo_page"),
    "callbacks": ("UpdatePruningStep",),
    "channels": (
        "ShrinkReport",
        "SoftChannelPruning",
        "channel_rule",
        "replay",
        "unfreeze_only",
    ),
    "count": ("Count", "count"),
    "doctor": ("Health", "doctor"),
    "export": ("Explanation", "ExportResult", "explain", "export_tflite"),
    "latency": ("PruneForLatencyOnXNNPack",),
    "patterns": ("NM", "Block", "Unstructured"),
    "permutation": ("PermutationReport", "permute_for_nm"),
    "policy": ("PruningPolicy",),
    "prune": ("prune", "prune_low_magnitude", "prune_scope"),
    "recalibration": ("Recalibration", "recalibrate_batch_norm"),
    "reconstruction": ("ReconstructionReport", "prune_one_shot"),
    "registry": ("PrunableLayer",),
    "regrowth": ("RigL", "SoftPruning"),
    "regularizers": ("BatchNormRegularizer",),
    "reporting": ("Report", "report"),
    "rules": ("Distribution", "Rule"),
    "schedules": (
        "ConstantSparsity",
        "FunctionSchedule",
        "Gradual",
        "Iterative",
        "OneShot",
        "PolynomialDecay",
        "PruningSchedule",
    ),
    "search": ("SearchResult", "search"),
    "sensitivity": ("Sensitivity", "sensitivity"),
    "shrink": ("ImpossibleTarget", "shrink"),
    "strip": ("strip_pruning", "stripped_weights"),
    "summary": ("summary",),
    "tensorboard": ("PruningSummaries",),
    "variants": ("VariantsResult", "export_variants"),
    "weightfiles": ("inspect_file",),
    "wrapper": ("PruneLowMagnitude",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 -- spelt out for type checkers and `import *`
    "Allocation",
    "BatchNormRegularizer",
    "BenchmarkResult",
    "Block",
    "ConstantSparsity",
    "Count",
    "DemoPage",
    "Distribution",
    "Explanation",
    "ExportResult",
    "FunctionSchedule",
    "Gradual",
    "Health",
    "ImpossibleTarget",
    "Iterative",
    "NM",
    "OneShot",
    "PermutationReport",
    "PolynomialDecay",
    "PrunableLayer",
    "PruneForLatencyOnXNNPack",
    "PruneLowMagnitude",
    "PruningPolicy",
    "PruningSchedule",
    "PruningSummaries",
    "Recalibration",
    "ReconstructionReport",
    "Report",
    "RigL",
    "Rule",
    "SearchResult",
    "Sensitivity",
    "ShrinkReport",
    "SoftChannelPruning",
    "SoftPruning",
    "Unstructured",
    "UpdatePruningStep",
    "VariantsResult",
    "__version__",
    "allocate",
    "benchmark",
    "channel_rule",
    "count",
    "demo_page",
    "doctor",
    "explain",
    "export_tflite",
    "export_variants",
    "inspect_file",
    "permute_for_nm",
    "prune",
    "prune_low_magnitude",
    "prune_one_shot",
    "prune_scope",
    "recalibrate_batch_norm",
    "replay",
    "report",
    "search",
    "sensitivity",
    "shrink",
    "strip_pruning",
    "stripped_weights",
    "summary",
    "unfreeze_only",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tfprune' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tfprune.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


class _Package(types.ModuleType):
    """Keeps `tfprune.prune` the function, not the file `prune.py` of the same name.

    Importing a submodule binds its name in the package, whenever and by whomever that happens.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType) and name in _HOME_OF:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        # What a function of a script refers to travels with it, by name: to Ray's workers, say.
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


class _WhenKerasLoads(importlib.abc.MetaPathFinder):
    """Registers what models save with Keras once Keras is there, so that saved models load.

    `import tfprune` alone must be enough for `keras.models.load_model`, and must not load Keras.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module: types.ModuleType) -> None:
            load(module)
            _register()

        spec.loader.exec_module = load_and_register
        return spec


def _register() -> None:
    """Load the files that hold what saved models name."""
    for name in ("wrapper", "regularizers", "torch_optimizers"):
        importlib.import_module(f"tfprune.{name}")


if sys.modules.get("keras") is not None:
    _register()
else:
    sys.meta_path.insert(0, _WhenKerasLoads())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
