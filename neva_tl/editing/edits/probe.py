"""Probes of how strongly a token expresses a value, and the change that reaches a target (METHODS 5; ours).

`log-odds = weight . x + bias` on some coordinates of a layer's activation; along a direction u with `weight . u = 1`, adding
`n * u` raises the log-odds by n. Neuron edits, vector edits and edits by the prompt's need share this file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from neva_tl.core.auto import DoseUnit
from neva_tl.core.errors import InputError
from neva_tl.editing.base import E, Edit
from neva_tl.editing.constant import PerDevice

_STEPS = 1000


@dataclass(frozen=True, eq=False)
class LayerProbe:
    """A probe on some coordinates of one layer's activation, in raw activation units.

    Attributes:
        layer: The layer.
        index: `[s]` coordinates (neuron indices, or all of the residual stream).
        weight: `[s]`; probability = sigmoid(weight . h + bias).
        bias: The intercept.
        unit: `[s]` change of activations that raises `weight . h` by 1.
        reach: Log-odds that one contrast `mean(+) - mean(-)` adds.
        lowest: Smallest log-odds of a training text.
        highest: Largest log-odds of a training text.
    """

    layer: int
    index: Int[np.ndarray, " s"]
    weight: Float[np.ndarray, " s"]
    bias: float
    unit: Float[np.ndarray, " s"]
    reach: float = np.inf
    lowest: float = -np.inf
    highest: float = np.inf


def log_odds_of(p0: float) -> float:
    """`ln(p0 / (1 - p0))`, the dose of an edit that brings tokens to probability p0.

    Args:
        p0: Target probability.

    Raises:
        InputError: p0 is not inside (0, 1).
    """
    if not 0 < p0 < 1:
        raise InputError(f"p0 is a probability inside (0, 1), not {p0}")
    return float(np.log(p0 / (1 - p0)))


class TowardsProbability(Edit):
    """An edit whose dose is `logit(p0)`."""

    unit: ClassVar[DoseUnit] = "log-odds"

    def at(self: E, p0: float) -> E:
        """The same edit with a target probability.

        Args:
            p0: Target probability.

        Raises:
            InputError: p0 is not inside (0, 1).
        """
        return self.with_dose(log_odds_of(p0))


def need(odds: Float[Tensor, "*tokens"], dose: float, probe: LayerProbe) -> Float[Tensor, "*tokens"]:
    """Log-odds to add: raises tokens to a dose of 0 or more, lowers them to a negative dose, and is 0 beyond it.

    A token outside the range of the probe's training texts counts as the outermost of them, which bounds the change.

    Args:
        odds: Log-odds of the tokens.
        dose: Target log-odds.
        probe: The probe.
    """
    if dose >= 0:
        return (dose - odds.clamp(min=probe.lowest)).clamp(min=0.0)
    return (dose - odds.clamp(max=probe.highest)).clamp(max=0.0)


def meet_need(probe: LayerProbe, dose: float) -> Callable[[Tensor], Tensor]:
    """The change that meets the need of each token along the probe's unit, out of place.

    Args:
        probe: The probe.
        dose: Target log-odds.
    """
    stored = PerDevice(
        torch.as_tensor(probe.index),
        torch.as_tensor(probe.weight, dtype=torch.float32),
        torch.as_tensor(probe.unit, dtype=torch.float32),
    )

    def apply(x: Tensor) -> Tensor:
        index, weight, unit = stored.on(x.device)
        h = x.index_select(-1, index).float()
        lacking = need(h @ weight + probe.bias, dose, probe)
        return x.index_copy(-1, index, (h + lacking[..., None] * unit).to(x.dtype))

    return apply


def logistic(
    x: Float[np.ndarray, "n s"], label: Bool[np.ndarray, " n"], C: float
) -> tuple[Float[np.ndarray, " s"], float, bool]:
    """Balanced L2 logistic regression on standardised columns, de-standardised (constant columns get weight 0).

    Args:
        x: Activations of the training texts.
        label: True for positive texts.
        C: Inverse L2 strength, as in scikit-learn.

    Returns:
        `(weight, bias, converged)` in raw units: `w / sigma`, `b - sum w mu / sigma`.
    """
    mu, sigma = x.mean(axis=0), x.std(axis=0)
    varies = sigma > 1e-8
    scale = np.where(varies, sigma, 1.0)
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `warn_unconverged` issues one warning for all layers
        model.fit((x - mu) / scale, label)
    weight = np.where(varies, model.coef_[0] / scale, 0.0)
    return weight, float(model.intercept_[0] - weight @ mu), int(np.max(model.n_iter_)) < _STEPS


def warn_unconverged(what: str, layers: Sequence[int]) -> None:
    """Issue one warning for all probes of an edit that did not converge.

    Args:
        what: Name of the probes in the warning.
        layers: Layers of the probes.
    """
    if layers:
        named = ", ".join(str(layer) for layer in layers)
        warnings.warn(
            f"the {what} at layer {named} did not converge in {_STEPS} steps: its log-odds are approximate",
            RuntimeWarning,
            stacklevel=3,
        )


def far_enough(probes: Sequence[LayerProbe], least_reach: float) -> tuple[LayerProbe, ...]:
    """The probes whose reach is at least `least_reach` log-odds, or else the one with the largest reach.

    Args:
        probes: The probes.
        least_reach: Log-odds that one contrast must add.
    """
    best = max((probe.reach for probe in probes), default=0.0)
    return tuple(probe for probe in probes if probe.reach >= min(least_reach, best))
