"""Prune a trained model in one shot and refit what stays, layer by layer, without training."""

from tfprune.reconstruction.pruning import prune_one_shot
from tfprune.reconstruction.report import ReconstructedWeight, ReconstructionReport

__all__ = ["ReconstructedWeight", "ReconstructionReport", "prune_one_shot"]
