"""CNA (2605.12290): scale the .1 % of neurons that differ most.

CNA is contrastive neuron attribution.

As published: the MLP neurons (input of the output projection) with the largest `|mean_plus - mean_minus|` over all layers, .1 %
of them; neurons that are among the .1 % most active ones of over 80 % of varied prompts are left out; the activations are
multiplied by one factor (0 ablates, above 1 amplifies).

Ours, since the paper's facts are known to us from summaries alone: activations are those of the statistics (the paper reads
the prompt's last token); the varied prompts are the training texts of the other values, at most 200 (the value's own ones if
it is alone), and activity is the activation's size; universal neurons are left out before the ranking, so that the set keeps its
size; at least 16 neurons, because .1 % of a small model is one or two. The edit steers towards a value, and so two
groups have two factors: neurons whose size is larger on the + pole are amplified, `h_k *= 1 + dose`, and those whose size is
larger on the - pole are ablated by a share, `h_k *= max(0, 1 - dose)`. A negative dose exchanges the groups.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.editing import Rescale
from neva_tl.methods.evidence import Evidence
from neva_tl.selection.base import Request, best_first, finish
from neva_tl.selection.effect_size import measure_neurons

SHARE, LEAST = 0.001, 16
#: A neuron is universal if it is among the most active ones of more than this share of the texts.
UNIVERSAL = 0.8
MOST_TEXTS = 200


@check_arguments
def cna(evidence: Evidence, value: ValueName) -> Rescale:
    """Amplify neurons of the value, and ablate opposite ones.

    They are the .1 % that differ most.

    Args:
        evidence: Training data with samples.
        value: The value to steer towards.

    Raises:
        InputError: The statistics hold no samples, or no neuron differs between the poles.

    Example:
        >>> steer = nv.baselines.cna(nv.baselines.Evidence(model, stats, {}), "benevolence")
        >>> len(steer.neurons), steer.lowest
        (16, 0.0)
    """
    neurons = contrastive_neurons(evidence.stats, value, seed=evidence.seed)
    return Rescale(neurons, weights="direction", lowest=0.0, scope=evidence.token_scope)


def contrastive_neurons(stats: ActivationStats, value: str, *, seed: int = 0) -> NeuronSet:
    """The .1 % of neurons with the largest mean difference, universal ones left out.

    Args:
        stats: Statistics with samples.
        value: The value.
        seed: Seed of the draw of varied texts.

    Returns:
        The effect table's columns and `direction` (1 for neurons that are larger in size on the + pole, -1 for the others);
        score = |mean difference| (activation units).

    Raises:
        InputError: The statistics hold no samples, or no neuron differs between the poles.
    """
    difference = np.abs(stats.delta(value).ravel())
    count = min(len(difference), max(LEAST, round(SHARE * len(difference))))
    universal = universal_neurons(stats, value, count, seed=seed)
    candidates = np.flatnonzero(~universal & (difference > 0))
    if not len(candidates):
        raise InputError(f"no neuron differs between the poles of {value}: cna has nothing to edit")
    best = candidates[best_first(difference[candidates], count)]
    request = Request(value, k=len(best), k_requested=False, seed=seed)
    table = measure_neurons(stats, request, best).frame().drop(columns=["value"])
    larger = table["mean_plus"].abs() >= table["mean_minus"].abs()
    ranked = table.assign(direction=np.where(larger, 1.0, -1.0), score=difference[best])
    return finish(stats, request, "cna", ranked, {"not_universal": int((~universal).sum())})


def universal_neurons(stats: ActivationStats, value: str, count: int, *, seed: int = 0) -> Bool[np.ndarray, " n"]:
    """Whether each neuron is among the most active ones of over 80 % of varied texts.

    Args:
        stats: Statistics with samples.
        value: The value; its own texts are read only where it is the only value.
        count: Number of neurons that are the most active ones of a text.
        seed: Seed of the draw of texts, if there are more than 200.

    Raises:
        InputError: The statistics hold no samples.
    """
    if stats.samples is None:
        raise InputError("cna reads single texts to leave out universal neurons: collect with samples=True (or a path)")
    other = (stats.samples.table["value"] != value).to_numpy()
    rows = np.flatnonzero(other if other.any() else ~other)
    if len(rows) > MOST_TEXTS:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_TEXTS])
    often = np.zeros(stats.n_layers * stats.d_mlp, dtype=np.int64)
    for row in rows:
        size = np.abs(np.asarray(stats.samples.h[row], dtype=np.float32)).ravel()
        often[np.argpartition(-size, count - 1)[:count]] += 1
    return often > UNIVERSAL * len(rows)
