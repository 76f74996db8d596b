"""What a model file says of itself, read before anything of it is built.

A file may hold Python code (that of a `Lambda` layer), or name any module to be imported. Keras 3
refuses both itself; tf_keras runs the code of a legacy `.h5` file and imports what it is told to.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

from tfprune.variants.tensorflow_functions import calculates

_CODE = "__lambda__"  # the class under which Keras 3 stores the code of a function
_CODE_TYPES = ("function_type", "output_shape_type", "mask_type")  # tf_keras: "lambda" means code
_OF_TENSORFLOW = ("TFOpLambda", "SlicingOpLambda", "ClassMethod")
_NAMES = ("function", "cls_symbol")  # under which these layers name what they call
_KNOWN_MODULES = ("keras", "tf_keras", "tensorflow_model_optimization", "tfprune", "builtins")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What stands in a file beside the weights.

    Attributes:
        version: of the Keras that saved it, "2.21.0" for tf_keras; empty if unknown.
        config: of the model and its layers, decoded from JSON.
    """

    version: str
    config: Any

    @property
    def is_legacy(self) -> bool:
        """Whether tf_keras has to load it."""
        return bool(self.version) and not self.version.startswith("3")

    @property
    def holds_code(self) -> bool:
        """Whether loading it would run Python code that lies in the file."""
        return any(
            one.get("class_name") == _CODE or "lambda" in [one.get(name) for name in _CODE_TYPES]
            for one in _mappings(self.config)
        )

    def foreign_modules(self) -> list[str]:
        """Return the modules that tf_keras would import for classes that it was not told of."""
        known = sys.modules["tf_keras"].saving.get_custom_objects()
        found = {
            one["module"]
            for one in _mappings(self.config)
            if isinstance(one.get("module"), str) and "class_name" in one
            if not {one.get("registered_name"), str(one.get("config"))} & known.keys()
        }
        return sorted(name for name in found if name.split(".")[0] not in _KNOWN_MODULES)

    def acting_functions(self) -> list[str]:
        """Return the functions of TensorFlow that layers of tf_keras name, and that may do harm.

        `io.write_file` in the place of `nn.relu` is a layer that writes a file.
        """
        layers = [one for one in _mappings(self.config) if one.get("class_name") in _OF_TENSORFLOW]
        configs = [one["config"] for one in layers if isinstance(one.get("config"), dict)]
        named = {str(one[key]) for one in configs for key in _NAMES if key in one}
        return sorted(name for name in named if not calculates(name))


def read(path: pathlib.Path) -> ModelConfig:
    """Return what stands beside the weights of a file that `check_file` let pass.

    Raises:
        ValueError: it is damaged, or holds weights alone.
    """
    try:
        return _of_archive(path) if path.suffix.lower() == ".keras" else _of_hdf5(path)
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, RecursionError, EOFError) as e:
        raise _damaged(path, e) from e
    except ValueError as error:
        if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
            raise _damaged(path, error) from error
        raise


def _of_archive(path: pathlib.Path) -> ModelConfig:
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        if "metadata.json" not in archive.namelist():
            return ModelConfig("", config)
        found = json.loads(archive.read("metadata.json"))
    return ModelConfig(str(found.get("keras_version", "")), config)


def _of_hdf5(path: pathlib.Path) -> ModelConfig:
    import h5py

    with h5py.File(path, "r") as file:
        attributes: Any = file.attrs
        if "model_config" not in attributes:
            raise ValueError(
                f"{str(path)!r} holds weights alone, without the model: save it with "
                "`model.save('model.keras')`. Received: an HDF5 file without 'model_config'"
            )
        config = json.loads(attributes["model_config"])
        version = attributes.get("keras_version", "")
    return ModelConfig(version.decode() if isinstance(version, bytes) else str(version), config)


def _damaged(path: pathlib.Path, error: Exception) -> ValueError:
    return ValueError(
        f"The configuration in {str(path)!r} is damaged ({error}), and the model cannot be built "
        f"without it. Copy or save the file again. Received: {path.stat().st_size:,} bytes"
    )


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a value, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
