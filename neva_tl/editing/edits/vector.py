"""AddVector, ProbedVector: add a direction to the residual stream (steering vectors), always or as needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Bound
from neva_tl.editing.base import Change, Edit
from neva_tl.editing.constant import Constant
from neva_tl.editing.edits.probe import (
    LayerProbe,
    TowardsProbability,
    far_enough,
    logistic,
    meet_need,
    warn_unconverged,
)


@dataclass(frozen=True, eq=False)
class AddVector(Edit):
    """`resid_post[L] += dose * vectors[L]` for every layer L of `vectors`; a negative dose suppresses.

    Attributes:
        vectors: Layer -> direction `[d_model]`, in residual-stream units (site `post`: `[d_mlp]`, in activation units).
        name: Name of the method in tables.
        site: `resid_post`, or `post` for a direction in the space of a layer's neurons.

    Example:
        >>> vector = stats.direction("benevolence")[2]  # mean(+) - mean(-) of the residual stream after layer 2
        >>> with nv.edit(model, nv.AddVector({2: vector}, dose=2.0)):
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=4)
    """

    vectors: Mapping[int, np.ndarray]
    name: str = "vector"
    site: Literal["resid_post", "post"] = "resid_post"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.vectors:
            raise InputError("a vector edit needs a vector at one layer at least: vectors is empty")

    def what(self) -> str:
        """See `Edit.what`."""
        return f"adds dose x a direction to {self.site} of each named layer, at every token in scope"

    def changes(self, model: models.EditableModel) -> tuple[Change, ...]:
        """One change per layer.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: A layer or width does not fit the model, or a vector is not finite.
        """
        info = models.info(model)
        width = info.d_model if self.site == "resid_post" else info.d_mlp
        for layer, vector in self.vectors.items():
            if not 0 <= layer < info.n_layers or vector.shape != (width,):
                raise InputError(
                    f"a vector of shape {vector.shape} at layer {layer} does not fit this model: "
                    f"{info.n_layers} layers of width {width} at site {self.site}"
                )
            if not np.isfinite(vector).all():
                raise InputError(f"the steering vector at layer {layer} is not finite")
        return tuple(Change(layer, self.site, self._adder(v)) for layer, v in sorted(self.vectors.items()))

    def _adder(self, vector: np.ndarray) -> Constant:
        return Constant(torch.as_tensor(np.asarray(vector, dtype=np.float32) * self.dose))


@dataclass(frozen=True, eq=False)
class ProbedVector(TowardsProbability):
    """`resid_post += need * u` per layer and token, `w . u = 1`: `ContextAware` for vectors (METHODS; ours).

    The probe reads the full residual stream of the layer; need, dose (`logit(p0)`; negative suppresses) and guards are those
    of `ContextAware`. Build one with `fit_vector_probes`.

    Attributes:
        probes: One per layer, in layer order; each contains its direction (`unit`).
        name: Name of the method in tables.

    Example:
        >>> evidence = nv.baselines.Evidence(model, stats, {"benevolence": neurons}, layers=(2,))
        >>> probed = nv.baselines.caa_probe(evidence, "benevolence")
        >>> [probe.layer for probe in probed.probes]
        [2]
    """

    probes: tuple[LayerProbe, ...]
    name: str = "probed_vector"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probes:
            raise InputError("no layer's probe is raised along the vector: nothing to edit (try other layers)")

    def what(self) -> str:
        """See `Edit.what`."""
        return "adds to the residual stream the part of a direction that each token needs to reach log-odds of the dose"

    def changes(self, model: models.EditableModel) -> tuple[Change, ...]:
        """One change per probe.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: A probe belongs to another model.
        """
        check_width(self.probes, model)
        return tuple(Change(probe.layer, "resid_post", meet_need(probe, self.dose)) for probe in self.probes)


def check_width(probes: Sequence[LayerProbe], model: models.EditableModel) -> None:
    """Refuse probes of the residual stream that do not fit a model.

    Args:
        probes: The probes.
        model: A TransformerLens model.

    Raises:
        InputError: A layer that the model lacks, or another width.
    """
    info = models.info(model)
    for probe in probes:
        if not 0 <= probe.layer < info.n_layers or len(probe.index) != info.d_model:
            raise InputError(
                f"a probe of width {len(probe.index)} at layer {probe.layer} does not fit this model: "
                f"{info.n_layers} layers of width {info.d_model}"
            )


@check_arguments
def fit_vector_probes(
    resid: Mapping[int, Float[np.ndarray, "n d"]],
    label: Bool[np.ndarray, " n"],
    directions: Mapping[int, Float[np.ndarray, " d"]],
    *,
    name: str = "probed_vector",
    C: float = 0.05,
    least_reach: Bound = 1.0,
    **options: Any,
) -> ProbedVector:
    """Fit the probes of a `ProbedVector`: the recipe of `fit_context` on residual streams.

    Args:
        resid: Layer -> pooled `resid_post` of the training texts (selected by `selection.contrast.probe_rows`).
        label: True for positive texts.
        directions: Layer -> direction of the edit; its length counts as one contrast in `reach`. Layers whose probe the
            vector lowers are skipped.
        name: Name of the method.
        C: Inverse L2 strength, as in scikit-learn.
        least_reach: Log-odds that the vector must add to a layer's probe for the layer to be edited (see `fit_context`).
        **options: Dose, scope, gate of the edit.

    Raises:
        InputError: No layer remains.

    Warns:
        RuntimeWarning: Some probes did not converge; one line names them.

    Example:
        >>> from neva_tl.editing import fit_vector_probes
        >>> rng = np.random.default_rng(0)
        >>> label = np.arange(40) < 20
        >>> direction = np.ones(128)
        >>> resid = {2: rng.normal(size=(40, 128)) + label[:, None] * direction}
        >>> fit_vector_probes(resid, label, {2: direction}, dose=4.0).dose
        4.0
    """
    probes, unconverged = [], []
    for layer, x in sorted(resid.items()):
        x = np.asarray(x, dtype=np.float64)
        weight, bias, converged = logistic(x, label, C)
        if not converged:
            unconverged.append(layer)
        reach = float(weight @ directions[layer])
        if reach > 1e-6:
            odds = x @ weight + bias
            unit = directions[layer] / reach
            index = np.arange(x.shape[1])
            probes.append(LayerProbe(layer, index, weight, bias, unit, reach, float(odds.min()), float(odds.max())))
    warn_unconverged(f"probe of {name} on the residual stream", unconverged)
    return ProbedVector(far_enough(probes, least_reach), name, **options)
