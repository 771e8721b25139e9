"""Selector `regression`: neurons by a ridge regression of the judge's scores on the texts' activations.

    score of a text = a + sum_k b_k h_k,    effect_k = b_k (mean_plus_k - mean_minus_k)

b_k is the partial effect of a neuron, given the other neurons of the request's layers, so its sign can differ from that of the
mean difference: `sign` is the sign of effect_k, and `Shift(neurons, weights="sign")` moves each neuron the way that raises the
score. The penalty is the one with the smallest error on clusters left out. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request, best_first, finish, limit_of, neurons_of
from neva_tl.selection.effect_size import measure_neurons
from neva_tl.selection.write import DEPTH, layers_between

#: Penalties to choose from, in units of the mean squared length of a standardised text.
PENALTIES = tuple(10.0**power for power in range(-3, 4))
#: Fewest texts and clusters of a regression.
_LEAST = 8


@dataclass(frozen=True, eq=False)
class Ridge:
    """A ridge regression on standardised activations.

    Attributes:
        coef: `[k]` change of the score per unit of activation.
        penalty: The penalty (see `PENALTIES`).
        r2: Share of the scores' variance that is predicted on clusters left out; below 0 the mean predicts better.
    """

    coef: Float[np.ndarray, " k"]
    penalty: float
    r2: float


def fit_ridge(
    h: Float[np.ndarray, "n k"],
    scores: Float[np.ndarray, " n"],
    clusters: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
) -> Ridge:
    """Regress scores on activations, with the penalty that predicts left-out clusters best.

    Args:
        h: Activations, a row per text; constant columns have coefficient 0.
        scores: Score of each text.
        clusters: Cluster of each text.
        penalties: Penalties to choose from.

    Raises:
        InputError: There are fewer than eight texts or two clusters, or all scores are equal.
    """
    n, names = len(scores), np.unique(clusters)
    if n < _LEAST or len(names) < 2 or not np.ptp(scores) > 0:
        raise InputError(
            f"a regression needs at least {_LEAST} texts of two clusters with different scores, and there are {n} texts of "
            f"{len(names)} clusters"
        )
    mean, sd = h.mean(axis=0, dtype=np.float64), h.std(axis=0, dtype=np.float64)
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-6 * np.abs(mean))
    x = ((h - mean) * scale).astype(np.float32)
    y = scores - scores.mean()
    # with more neurons than texts the dual form is smaller: n x n
    kernel = (x @ x.T).astype(np.float64)
    unit = float(np.trace(kernel)) / n
    if not unit > 0:
        raise InputError("the activations of all texts are equal: nothing to regress on")
    size, vectors = np.linalg.eigh(kernel / unit)
    size = np.maximum(size, 0.0)
    errors = []
    for penalty in penalties:
        hat = 1.0 / n + (vectors * (size / (size + penalty))) @ vectors.T
        residual, error = y - hat @ y, 0.0
        for name in names:
            rows = np.flatnonzero(clusters == name)
            # exact: the residuals of a fit without these rows
            out = np.linalg.solve(np.eye(len(rows)) - hat[np.ix_(rows, rows)], residual[rows])
            error += float(out @ out)
        errors.append(error)
    best = int(np.argmin(errors))
    dual = vectors @ ((vectors.T @ y) / (size + penalties[best])) / unit
    coef = (x.T @ dual.astype(np.float32)).astype(np.float64) * scale
    return Ridge(coef, float(penalties[best]), 1.0 - errors[best] / float(y @ y))


def select_regression(
    stats: ActivationStats,
    request: Request,
    *,
    scores: Mapping[str, float] | None = None,
    depth: Sequence[float] = DEPTH,
    agree: bool = True,
) -> NeuronSet:
    """Neurons whose mean difference changes the predicted score most.

    Args:
        stats: Activation statistics with samples.
        request: The request; its layers, where it names some, replace `depth`.
        scores: Text -> the judge's score; texts without one are left out. None takes the column `score` of the samples, or, where
            there is none, 1 for texts of the + pole and -1 for those of the - pole.
        depth: First and last layer as shares of the model's layers, both ends included.
        agree: Keep only neurons with a positive effect, which every edit along the mean difference may use; False keeps negative
            effects too, for edits that read `sign`.

    Returns:
        The effect table's columns and `coef` (score per unit of activation), `effect` (score), `sign` (1 or -1); score =
        |effect|. The settings have the penalty and `heldout_r2`.

    Raises:
        InputError: The statistics hold no samples, no text has a score, or `fit_ridge` or `layers_between` raises it.
    """
    if request.site != "post":
        raise InputError("method regression reads the samples of site post: select at post")
    layers = layers_between(stats, depth) if request.layers is None else tuple(sorted(set(request.layers)))
    options = {name: option for name, option in request.options.items() if name != "scores"}
    request = replace(request, layers=layers, options=options, require_q=False, require_split_half=False)
    rows, target = scored_texts(stats, request.value, scores)
    assert stats.samples is not None
    h = np.asarray(stats.samples.h[rows])[:, list(layers)].reshape(len(rows), -1)
    fit = fit_ridge(h, target, stats.samples.table["cluster"].to_numpy(dtype=str)[rows])
    family = neurons_of(stats, layers)
    effect = fit.coef * stats.delta(request.value, at=family)
    score = effect if agree else np.abs(effect)
    counts = {"raises_score": int((effect > 0).sum())}
    best = best_first(score, limit_of(stats, request))
    best = best[score[best] > 0]
    order = np.argsort(family[best])  # a family's q-values are read in the model's order
    table = measure_neurons(stats, request, family[best][order]).frame().iloc[np.argsort(order)]
    signs = np.where(effect[best] > 0, 1.0, -1.0)
    ranked = table.assign(coef=fit.coef[best], effect=effect[best], sign=signs, score=score[best])
    neurons = finish(stats, request, "regression", ranked.drop(columns=["value"]), counts)
    figures = {"penalty": fit.penalty, "heldout_r2": fit.r2, "texts": len(rows), "scored": scores is not None}
    return replace(neurons, settings={**neurons.settings, "regression": figures})


def scored_texts(
    stats: ActivationStats, value: str, scores: Mapping[str, float] | None = None
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Row numbers of a value's samples and the score of each.

    Args:
        stats: Activation statistics with samples.
        value: The value.
        scores: See `select_regression`.

    Raises:
        InputError: See `select_regression`.
    """
    if stats.samples is None:
        raise InputError("method regression reads single texts: collect with samples=True (or a path)")
    table = stats.samples.table.reset_index(drop=True)
    table = table[table["value"] == value]
    if scores is None and "score" in table:
        numbers = table["score"].to_numpy(dtype=float)
    elif scores is None:
        numbers = np.where(table["pole"] == "+", 1.0, -1.0)
    elif "text" not in table:
        raise InputError("these statistics hold no texts to find the scores of: collect on a contrast set")
    else:
        numbers = np.array([float(scores.get(str(text), np.nan)) for text in table["text"]])
    finite = np.isfinite(numbers)
    if not finite.any():
        raise InputError(f"no text of {value} has a score: the keys of scores are the texts of the contrast set")
    return table.index.to_numpy()[finite], numbers[finite]
