"""Placebo: as many random neurons from the same layers, equally strong."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.attribution.outputs import written
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import theory_record
from neva_tl.selection.base import Request, need_model
from neva_tl.selection.registry import run


@check_arguments
def random_like(
    neurons: NeuronSet,
    stats: ActivationStats,
    model: models.Model,
    seed: int = 0,
    *,
    signs: Literal["random", "own"] = "random",
) -> NeuronSet:
    """A random set matched to `neurons` on layer and on the norm of its write.

    In each layer as many neurons as in `neurons` are drawn without replacement from the layer's other neurons (from all of
    them if too few remain). Their `mean_minus` and `sd` are their own; `mean_plus` is set so that the norm of
    `W_out^T delta`, the layer's summed write at dose 1, equals that of `neurons` in this layer.

    Args:
        neurons: The set to match.
        stats: Statistics that the set was selected from.
        model: The model (its output weights are read).
        seed: Seed of the draw.
        signs: `random` gives each neuron's delta a random sign, so that the placebo carries nothing of the value; `own` keeps
            the sign of the neuron's mean difference: the same recipe on random neurons, which still steers a little, because
            every neuron's difference contains a little of the value.

    Raises:
        InputError: `signs` is unknown, or the neurons drawn in a layer write nothing.

    Example:
        >>> placebo = nv.selection.random_like(neurons, stats, model)
        >>> placebo.layers == neurons.layers, len(placebo) == len(neurons)
        (True, True)
    """
    if signs not in ("random", "own"):
        raise InputError(f"unknown signs {signs!r}: random or own")
    rng = np.random.default_rng(seed)
    delta, sd = stats.delta(neurons.value, site=neurons.site), stats.sd(neurons.value, site=neurons.site)
    minus = stats.moments(neurons.value, "-", site=neurons.site)[1]
    frames = []
    for layer in neurons.layers:
        rows = neurons.at(layer)
        matched = rows["neuron"].to_numpy()
        pool = np.setdiff1d(np.arange(neurons.d_mlp), matched)
        if len(pool) < len(matched):
            pool = np.arange(neurons.d_mlp)
        drawn = rng.choice(pool, size=len(matched), replace=False)
        weight = written(model, layer).double().cpu().numpy()
        target_norm = np.linalg.norm((rows["mean_plus"] - rows["mean_minus"]).to_numpy() @ weight[matched])
        step = delta[layer, drawn]
        if signs == "random":
            step = np.abs(step) * rng.choice((-1.0, 1.0), size=len(drawn))
        norm = np.linalg.norm(step @ weight[drawn])
        if norm == 0:
            raise InputError(f"the neurons drawn at layer {layer} write nothing: draw again with another seed")
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "neuron": drawn,
                    "mean_plus": minus[layer, drawn] + step * (target_norm / norm),
                    "mean_minus": minus[layer, drawn],
                    "sd": sd[layer, drawn],
                    "score": 0.0,
                    "scale": target_norm / norm,
                }
            )
        )
    columns = ["layer", "neuron", "mean_plus", "mean_minus", "sd", "score", "scale"]
    df = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({name: np.zeros(0) for name in columns})
    df = df.astype({"layer": int, "neuron": int})
    df.insert(2, "rank", np.arange(1, len(df) + 1))
    return NeuronSet(
        value=neurons.value,
        method="random",
        df=df,
        n_layers=neurons.n_layers,
        d_mlp=neurons.d_mlp,
        site=neurons.site,
        fingerprint=stats.fingerprint,
        settings={
            "like": neurons.method,
            "k": len(neurons),
            "seed": seed,
            "signs": signs,
            **theory_record(stats.theory, [neurons.value]),
        },
    )


def select_random(
    stats: ActivationStats,
    request: Request,
    *,
    like: NeuronSet | None = None,
    base: str = "effect_size",
    signs: str = "random",
) -> NeuronSet:
    """Registry entry of `random_like`.

    Args:
        stats: Activation statistics.
        request: The request, with the model.
        like: The set to match; None matches the selection of `base` for the same request.
        base: Name of a selector.
        signs: See `random_like`.
    """
    model = need_model(request, "method random")
    matched = run(stats, replace(request, options={}), base) if like is None else like
    return random_like(matched, stats, model, request.seed, signs=signs)  # type: ignore[arg-type]
