"""ContextAware: change a token only as much as it needs (METHODS 5; the closed form is ours).

Per layer, a logistic probe on the selected neurons S of that layer says how strongly a token's activations express the
value: `p = sigmoid(w . h_S + b)`. Where p is below p0, the smallest change along a direction u with `w . u = 1` brings it
there: `h_S += max(0, logit(p0) - b - w . h_S) * u`. Layers act in order, so that a later probe sees the earlier edits.

Two guards, both ours: a layer whose probe one whole contrast hardly moves is left alone (meeting a need there would throw its
neurons far outside anything seen), and a token below every training text is treated as the lowest of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from neva_tl.activations import ActivationStats
from neva_tl.editing.base import Change, Edit, Scope, check_model
from neva_tl.errors import InputError
from neva_tl.neurons import NeuronSet
from neva_tl.selection.contrast import probe_rows

Direction = Literal["mean_difference", "smallest"]


@dataclass(frozen=True, eq=False)
class LayerProbe:
    """A probe on the selected neurons of one layer, in raw activation units.

    Attributes:
        layer: the layer.
        index: `[s]` neuron indices.
        weight, bias: probability = sigmoid(weight . h + bias).
        unit: `[s]` change of activations that raises `weight . h` by 1.
        reach: log-odds that one contrast `mean(+) - mean(-)` adds.
        lowest: smallest log-odds of a training text.
    """

    layer: int
    index: Int[np.ndarray, " s"]
    weight: Float[np.ndarray, " s"]
    bias: float
    unit: Float[np.ndarray, " s"]
    reach: float = np.inf
    lowest: float = -np.inf


@dataclass(frozen=True, eq=False)
class ContextAware(Edit):
    """Probe-gated minimal edit. The dose is `logit(p0)`, the log-odds that every touched token is brought up to.

    `ContextAware.at(p0)` converts. Build one with `fit_context`.

    Attributes:
        neurons: the set the probes were fitted on.
        probes: one per layer, in layer order.
    """

    neurons: NeuronSet
    probes: tuple[LayerProbe, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probes:
            raise InputError(f"the neuron set for {self.neurons.value} is empty: no probe to fit, nothing to edit")

    def at(self, p0: float) -> ContextAware:
        """The same edit with a target probability.

        Raises:
            InputError: p0 is not inside (0, 1).
        """
        if not 0 < p0 < 1:
            raise InputError(f"p0 is a probability inside (0, 1), not {p0}")
        return self.with_dose(float(np.log(p0 / (1 - p0))))

    def changes(self, model: Any) -> tuple[Change, ...]:
        """One change per probe."""
        check_model(self.neurons, model)
        return tuple(Change(probe.layer, "post", self._apply(probe)) for probe in self.probes)

    def _apply(self, probe: LayerProbe) -> Callable[[Tensor], Tensor]:
        index = torch.as_tensor(probe.index)
        weight = torch.as_tensor(probe.weight, dtype=torch.float32)
        unit = torch.as_tensor(probe.unit, dtype=torch.float32)

        def apply(x: Tensor) -> Tensor:
            at = index.to(x.device)
            h = x.index_select(-1, at).float()
            # a token far outside the probe's training data must not be thrown anywhere
            odds = (h @ weight.to(x.device) + probe.bias).clamp(min=probe.lowest)
            need = (self.dose - odds).clamp(min=0.0)
            return x.index_copy(-1, at, (h + need[..., None] * unit.to(x.device)).to(x.dtype))

        return apply


def fit_context(
    stats: ActivationStats,
    neurons: NeuronSet,
    *,
    direction: Direction = "mean_difference",
    C: float = 0.05,
    others: int = 40,
    dose: float = 2.0,
    scope: Scope = "all",
    least_reach: float = 1.0,
    seed: int = 0,
) -> ContextAware:
    """Fit the probes of a context-aware edit on the training samples behind `stats`.

    One L2 logistic probe per layer that holds selected neurons: target + against target - and `others` + prompts of every
    other value, balanced, on standardised pooled activations; then de-standardised (`w / sigma`, `b - sum w mu / sigma`).

    Args:
        stats: collected with `samples`.
        neurons: the selected set S.
        direction: `mean_difference` moves S along `mean(+) - mean(-)`; `smallest` along `Sigma w` with Sigma the diagonal
            of variances (the smallest change in units of each neuron's spread).
        C: inverse L2 strength (scikit-learn's).
        others: + prompts of each other value among the negatives.
        dose, scope: of the edit.
        least_reach: log-odds that one contrast must add to a layer's probe for the layer to be edited; where no layer does,
            the one that comes nearest is kept.
        seed: of the draw of other values' prompts.

    Raises:
        InputError: the statistics carry no samples or not this value, are of another size, or the set is empty.

    Warns:
        RuntimeWarning: a probe did not converge (layer and neurons are named).
    """
    if stats.samples is None:
        raise InputError("context-aware edits need the prompts' own activations: collect with samples=True (or a path)")
    stats.index(neurons.value)
    if (stats.n_layers, stats.d_mlp) != (neurons.n_layers, neurons.d_mlp):
        raise InputError(
            f"this neuron set belongs to a model of {neurons.n_layers} layers x {neurons.d_mlp} neurons; the statistics "
            f"have {stats.n_layers} x {stats.d_mlp}"
        )
    rows, label, opposing = probe_rows(stats, neurons.value, others=others, seed=seed)
    probes = []
    for layer in neurons.layers:
        index = neurons.at(layer)["neuron"].to_numpy(dtype=np.int64)
        h = np.asarray(stats.samples.h[:, layer, :][rows][:, index], dtype=np.float64)
        probe = _fit_layer(h, label, opposing, layer, index, direction, C)
        if probe is not None:
            probes.append(probe)
    best = max((probe.reach for probe in probes), default=0.0)
    kept = tuple(probe for probe in probes if probe.reach >= min(least_reach, best))
    return ContextAware(neurons, kept, dose=dose, scope=scope)


def _fit_layer(
    h: Float[np.ndarray, "n s"],
    label: np.ndarray,
    opposing: np.ndarray,
    layer: int,
    index: np.ndarray,
    direction: Direction,
    C: float,
) -> LayerProbe | None:
    """Probe of one layer; None where none of its neurons varies. `opposing` are the target's own - rows."""
    sigma = h.std(axis=0)
    varies = sigma > 1e-8
    if not varies.any():
        return None
    h, index, sigma = h[:, varies], index[varies], sigma[varies]
    mu = h.mean(axis=0)
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=1000)
    model.fit((h - mu) / sigma, label)
    if int(np.max(model.n_iter_)) >= model.max_iter:
        warnings.warn(
            f"the probe on {len(index)} neurons of layer {layer} did not converge in {model.max_iter} steps",
            RuntimeWarning,
            stacklevel=3,
        )
    standard = model.coef_[0]
    weight = standard / sigma
    bias = float(model.intercept_[0] - (standard * mu / sigma).sum())
    smallest = sigma**2 * weight
    unit = smallest / (weight @ smallest)
    difference = h[label].mean(axis=0) - h[opposing].mean(axis=0)
    reach = float(weight @ difference)
    # against the probe's own gradient the difference would have to be reversed: fall back on the smallest change
    if direction == "mean_difference" and reach > 1e-6:
        unit = difference / reach
    return LayerProbe(layer, index, weight, bias, unit, reach, float((h @ weight + bias).min()))
