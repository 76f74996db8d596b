"""Measure `.tflite` files side by side on this machine, in a browser, on a phone; see README.md."""

from tfprune.benchmarking.benchmarker import benchmark
from tfprune.benchmarking.demo import DemoPage, demo_page
from tfprune.benchmarking.failures import BenchmarkFailure, MissingTool
from tfprune.benchmarking.result import BenchmarkResult, FileBenchmark

__all__ = [
    "BenchmarkFailure",
    "BenchmarkResult",
    "DemoPage",
    "FileBenchmark",
    "MissingTool",
    "benchmark",
    "demo_page",
]
