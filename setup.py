"""Package metadata of tfprune; tool settings live in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "([^"]+)"', (HERE / "tfprune" / "version.py").read_text("utf-8")
).group(1)

DOCS = [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.5,<10",
    "mkdocstrings[python]>=0.27,<2",
    "ruff>=0.9,<1",  # breaks long signatures into lines; the linter too
]
OPTUNA = "optuna>=3,<6"
JAX = "jax>=0.4.30"
BACKENDS = [JAX, "torch>=2.5,<3"]  # of Keras, beside TensorFlow
RAY = ["ray[tune]>=2.44,<3", OPTUNA]  # what a search tries is sampled by Optuna
TEST = [
    *DOCS,
    "hypothesis>=6.100,<7",
    "ipykernel>=6.29",
    JAX,
    "nbclient>=0.10,<1",
    "nbformat>=5.10,<6",
    *RAY,
    "pyright>=1.1.390,<2",
    "pytest>=8,<10",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
]

setup(
    name="tfprune",
    version=VERSION,
    description="Sparsity for Keras models that end on phones: prune, watch, export verified files",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The tfprune authors",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["tfprune", "tfprune.*"]),
    package_data={
        "tfprune": [
            "data/*",
            "benchmarking/README.md",
            "benchmarking/*.html",
            "benchmarking/*.js",
            "channels/README.md",
            "export/README.md",
            "reconstruction/README.md",
            "reporting/page.*",
            "variants/README.md",
            "py.typed",
        ]
    },
    install_requires=[
        "tensorflow>=2.16,<3",
        "keras>=3,<4",
        "tensorflow-model-optimization>=0.8,<1",
        "numpy>=1.26,<3",
        "tensorboard>=2.16,<3",
        "ai-edge-litert>=2.0,<3",
        "flatbuffers>=24.3",
        "jinja2>=3.1,<4",
        "matplotlib>=3.8,<4",
        "pyyaml>=6,<7",
        "rich>=13.7,<16",
        "scipy>=1.11,<2",
        "typer>=0.15,<1",
    ],
    extras_require={
        "backends": BACKENDS,
        "docs": DOCS,
        "test": TEST,
        "notebooks": ["jupyterlab>=4,<5"],
        "optuna": [OPTUNA],
        "ray": RAY,
    },
    entry_points={"console_scripts": ["tfprune=tfprune.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
