"""Selector `probe`: effect-size screen, ranked by weight in a logistic probe.

    score_k = |w_k| * (|g_t| - lam * max(0, leak))

`w` is the weight on the standardised activation in a probe of the value's + texts against its - texts and + texts of the other
values (METHODS 2). A large weight means that the neuron adds information to all others, a large separation that it tells the
poles apart alone. Among similar neurons the regulariser decides: L2 spreads the weight, elastic net concentrates it. Like
`effect_size`, a probe does not use the neuron's output weights.
"""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request, SelectionWarning, finish
from neva_tl.selection.contrast import probe_rows
from neva_tl.selection.effect_size import add_familywise, screen

#: A neuron whose spread is below this is constant to the probe: weight 0.
_FLAT = 1e-8


def select_probe(
    stats: ActivationStats,
    request: Request,
    *,
    scope: str = "layer",
    penalty: str = "l2",
    C: float = 0.05,
    l1_ratio: float = 0.5,
    others: int = 40,
    steps: int = 1000,
    flips: int = 1000,
) -> NeuronSet:
    """Neurons that pass the effect-size screen, by probe weight.

    The score is |probe weight| times specific separation; both must be above 0.

    Args:
        stats: Activation statistics with samples.
        request: The request.
        scope: `layer` fits one probe per layer, `all` one on the neurons of all the request's layers.
        penalty: `l2` or `elasticnet`.
        C: Inverse strength of the penalty (scikit-learn's).
        l1_ratio: Share of L1 in the penalty `elasticnet`.
        others: Number of + texts of each other value among the negatives.
        steps: Maximum number of iterations of the solver.
        flips: Number of sign flips for `p_fwe`; 0 omits it.

    Raises:
        InputError: The statistics hold no samples, the site is `gate` (samples are of site post), or an option is out of range.

    Warns:
        SelectionWarning: Probes did not converge (one warning for all of them).
    """
    if request.site != "post":
        raise InputError("method probe reads single prompts, which are stored at site post only: select at post")
    screened, counts = screen(stats, request)
    passed = screened.frame()
    weight = probe_weights(
        stats,
        request.value,
        layers=request.layers,
        scope=scope,
        penalty=penalty,
        C=C,
        l1_ratio=l1_ratio,
        others=others,
        steps=steps,
        seed=request.seed,
    )
    at = passed["layer"].to_numpy() * stats.d_mlp + passed["neuron"].to_numpy()
    ranked = passed.assign(weight=weight.ravel()[at])
    ranked = ranked.assign(score=ranked["weight"].abs() * ranked["specific"])
    ranked = ranked[ranked["score"] > 0].sort_values("score", ascending=False, kind="stable")
    counts["weighted"] = len(ranked)
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "probe", ranked.drop(columns=["value"]), counts)


def probe_weights(
    stats: ActivationStats,
    value: str,
    *,
    layers: tuple[int, ...] | None = None,
    scope: str = "layer",
    penalty: str = "l2",
    C: float = 0.05,
    l1_ratio: float = 0.5,
    others: int = 40,
    steps: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, "l k"]:
    """Weights of balanced logistic probes on standardised pooled activations.

    Args:
        stats: Activation statistics with samples.
        value: The value.
        layers: Layers whose neurons the probe reads; None is all.
        scope: See `select_probe`.
        penalty: See `select_probe`.
        C: See `select_probe`.
        l1_ratio: See `select_probe`.
        others: See `select_probe`.
        steps: See `select_probe`.
        seed: Seed of the negatives' draw and of the solver.

    Returns:
        Change of log-odds per standard deviation of the neuron over the probe's texts; 0 for constant neurons and for layers
        that the probe does not read.

    Raises:
        InputError: The statistics hold no samples, or an option is out of range.

    Warns:
        SelectionWarning: Probes did not converge (one warning for all of them).
    """
    if scope not in ("layer", "all"):
        raise InputError(f"unknown probe scope {scope!r}: layer or all")
    if penalty not in ("l2", "elasticnet"):
        raise InputError(f"unknown probe penalty {penalty!r}: l2 or elasticnet")
    if not C > 0 or not 0 <= l1_ratio <= 1 or others < 0 or steps < 1:
        raise InputError(
            f"a probe needs C > 0, l1_ratio in 0..1, others >= 0 and steps >= 1: got C = {C}, l1_ratio = {l1_ratio}, "
            f"others = {others}, steps = {steps}"
        )
    rows, label, _ = probe_rows(stats, value, others=others, seed=seed)
    assert stats.samples is not None
    read = list(range(stats.n_layers)) if layers is None else sorted(set(layers))
    out = np.zeros((stats.n_layers, stats.d_mlp))
    slow: list[int] = []
    groups = [[layer] for layer in read] if scope == "layer" else [read]
    for group in progress_bar(groups, desc="probes", unit="probe"):
        h = np.asarray(stats.samples.h[rows][:, group], dtype=np.float64).reshape(len(rows), -1)
        fitted, converged = _fit(h, label, penalty=penalty, C=C, l1_ratio=l1_ratio, steps=steps, seed=seed)
        out[group] = fitted.reshape(len(group), stats.d_mlp)
        slow += [] if converged else group
    if slow:
        where = f"layer {slow[0]}" if len(slow) == 1 else f"layers {', '.join(map(str, slow))}"
        warnings.warn(
            f"{value}: the probe of {where} did not converge in {steps} steps: raise steps or lower C; its ranking is rough",
            SelectionWarning,
            stacklevel=6,
        )
    return out


def _fit(
    h: Float[np.ndarray, "n m"],
    label: Bool[np.ndarray, " n"],
    *,
    penalty: str,
    steps: int,
    seed: int,
    C: float,
    l1_ratio: float,
) -> tuple[Float[np.ndarray, " m"], bool]:
    """Weights of one probe, and whether it converged."""
    sigma = h.std(axis=0)
    varies = sigma > _FLAT
    weight = np.zeros(h.shape[1])
    if not varies.any():
        return weight, True
    solver = {"solver": "saga", "l1_ratio": l1_ratio} if penalty == "elasticnet" else {"solver": "lbfgs"}
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=steps, random_state=seed % 2**32, **solver)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # probe_weights warns once for all probes
        model.fit((h[:, varies] - h[:, varies].mean(axis=0)) / sigma[varies], label)
    weight[varies] = model.coef_[0]
    return weight, int(np.max(model.n_iter_)) < steps
