"""From a model and a file of pairs to a steered, measured model: `nv.steer`."""

from neva_tl.study.steering.result import SteeredTexts, SteeringResult
from neva_tl.study.steering.steer import steer

__all__ = ["SteeredTexts", "SteeringResult", "steer"]
