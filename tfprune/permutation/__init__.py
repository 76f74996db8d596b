"""Reorder channels so that N:M sparsity keeps more, without changing what the model computes."""

from tfprune.permutation.permuting import permute_for_nm
from tfprune.permutation.result import PermutationReport, PermutedWeight

__all__ = ["PermutationReport", "PermutedWeight", "permute_for_nm"]
