"""What can go wrong with one file while the others go on, and what stops everything."""

from __future__ import annotations


class FileFailure(RuntimeError):
    """One file could not be measured: its row says so, and the other files keep their figures."""


class BenchmarkFailure(RuntimeError):
    """No file could be measured."""


class MissingTool(RuntimeError):
    """A program that this runtime needs (node, Chromium, adb) is not there."""
