"""What each weight of a model can lose, measured by pruning it alone."""

from tfprune.sensitivity.measuring import sensitivity
from tfprune.sensitivity.result import Sensitivity, WeightSensitivity, load

__all__ = ["Sensitivity", "WeightSensitivity", "load", "sensitivity"]
