"""ConVA (2507.11316): residual probes read at the prompt's last token.

As published: a logistic probe at the last token of the first 100 pairs, 70 % of them to fit and 30 % to test; layers whose
held-out accuracy is above .9, without the last five; `delta = max(0, logit(p0) - b - w . e) * w / |w|^2`, computed with the
earlier layers' shifts active and added at every position (`PromptShift`). The published gate lets a text pass when a
classifier scores its query above a threshold: here that is the relevance gate with one decision per query
(`RelevanceGate.per_query`), which `build` adds.

Ours: the split keeps clusters together (a frame used in fitting would test nothing); columns are standardised for the fit; C = 1;
the last five layers are left out of models with at least ten layers; if no layer passes, the best one is used, with a warning.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from sklearn.model_selection import GroupShuffleSplit

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueName
from neva_tl.editing import LayerProbe, PromptShift
from neva_tl.editing.edits.probe import log_odds_of, logistic, warn_unconverged
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.texts import need_samples, residuals

PAIRS, TEST_SHARE = 100, 0.3
LEAST_ACCURACY, LAST_LEFT_OUT = 0.9, 5


@check_arguments
def conva(evidence: Evidence, value: ValueName, *, p0: float = 0.9, C: float = 1.0) -> PromptShift:
    """Fit ConVA's probes.

    Args:
        evidence: Training data with samples, whose texts are run again.
        value: The value to steer towards.
        p0: Probability that sets the first dose (published: .83 to .975, by value).
        C: Inverse L2 strength (scikit-learn's).

    Raises:
        InputError: `p0` is outside (0, 1), the statistics hold no samples, or the texts' clusters cannot be split with both
            poles on each side.

    Warns:
        RuntimeWarning: Probes did not converge, or no layer reaches the required accuracy.
    """
    dose = log_odds_of(p0)
    table = need_samples(evidence, "conva").table
    rows = first_rows(table, value, PAIRS)
    label = (table["pole"].iloc[rows] == "+").to_numpy()
    fit, test = held_out(label, table["cluster"].iloc[rows].to_numpy(), evidence.seed, value)
    layers = usable_layers(evidence.stats.n_layers)
    resid = residuals(evidence, rows, layers, "last", "conva")
    probes, accuracy, unconverged = [], [], []
    for layer, x in resid.items():
        weight, bias, converged = logistic(x[fit], label[fit], C)
        if not converged:
            unconverged.append(layer)
        odds = x @ weight + bias
        accuracy.append(float(((odds[test] > 0) == label[test]).mean()))
        length = float(weight @ weight)
        unit = weight / length if length > 0 else weight
        lowest, highest = float(odds[fit].min()), float(odds[fit].max())
        probes.append(LayerProbe(layer, np.arange(x.shape[1]), weight, bias, unit, np.inf, lowest, highest))
    warn_unconverged(f"ConVA probe for {value}", unconverged)
    accurate = [probe for probe, score in zip(probes, accuracy, strict=True) if score > LEAST_ACCURACY]
    if not accurate:
        best = int(np.argmax(accuracy))
        warnings.warn(
            f"no layer's ConVA probe for {value} is right on more than {LEAST_ACCURACY:.0%} of held-out texts: layer "
            f"{layers[best]} with {accuracy[best]:.0%} is used alone",
            RuntimeWarning,
            stacklevel=2,
        )
        accurate = [probes[best]]
    return PromptShift(tuple(accurate), "conva", dose=dose, scope=evidence.token_scope)


def usable_layers(n_layers: int) -> tuple[int, ...]:
    """All layers but the last five, or all layers of a model with fewer than ten.

    Args:
        n_layers: Number of layers of the model.
    """
    return tuple(range(n_layers - LAST_LEFT_OUT if n_layers >= 2 * LAST_LEFT_OUT else n_layers))


def first_rows(table: pd.DataFrame, value: str, most: int) -> Int[np.ndarray, " n"]:
    """Row numbers of a value's first pairs, or of each pole's first texts if unpaired.

    Args:
        table: The samples' table.
        value: The value.
        most: Maximum number of pairs, or of texts per pole.
    """
    rows = np.flatnonzero((table["value"] == value).to_numpy())
    texts = table.iloc[rows]
    if texts["pair_id"].notna().all():
        keep = texts["pair_id"].isin(texts["pair_id"].drop_duplicates().head(most)).to_numpy()
    else:
        keep = (texts.groupby("pole").cumcount() < most).to_numpy()
    return rows[keep]


def held_out(
    label: Bool[np.ndarray, " n"], clusters: np.ndarray, seed: int, value: str
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Indices of texts to fit on and to test on, 70 to 30, that share no cluster.

    Args:
        label: Whether each text is of the + pole.
        clusters: Cluster of each text.
        seed: Seed of the split.
        value: The value, for the error message.

    Raises:
        InputError: There is one cluster only, or a side lacks a pole.
    """
    refusal = f"conva cannot hold out texts of {value}: both poles are needed in at least two clusters"
    if len(np.unique(clusters)) < 2:
        raise InputError(refusal)
    split = GroupShuffleSplit(n_splits=1, test_size=TEST_SHARE, random_state=seed % 2**32)
    fit, test = next(split.split(label, groups=clusters))
    if any(len(np.unique(label[side])) < 2 for side in (fit, test)):
        raise InputError(refusal)
    return fit, test
