"""One sparsity, spread well over the layers of a model."""

from tfprune.allocate.allocating import METHODS, Method, allocate
from tfprune.allocate.distributing import distribute
from tfprune.allocate.result import AllocatedLayer, Allocation

__all__ = ["METHODS", "AllocatedLayer", "Allocation", "Method", "allocate", "distribute"]
