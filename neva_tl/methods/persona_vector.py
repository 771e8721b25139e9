"""Persona vectors (2507.21509): add one layer's mean difference over answers.

`v = mean(resid | +) - mean(resid | -)`, each text's residuals averaged over all tokens of its answer. The published code adds
`dose * v` at one layer, at the last token of the prompt (which predicts the answer's first token) and at every token of the
answer.

It is close to `caa`, which pools in the same way wherever the statistics do. It differs in three points: the answer is averaged
even where the study reads its last token, there is always one layer, and the prompt's last token is in scope. The paper's
contrast is the model's own answers under system prompts for and against the trait, kept where a judge sees the trait: here
that is a property of the prompts (`nv.prompts.from_model`), not of the method, and every method of a study reads the same ones.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import ValueName
from neva_tl.editing import AddVector, Scope
from neva_tl.methods.caa import default_layers
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.texts import need_samples, residuals


@check_arguments
def persona_vector(evidence: Evidence, value: ValueName) -> AddVector:
    """Add the mean difference of the answers' tokens at one layer.

    Args:
        evidence: Training data. Several `layers` are reduced to the middle one. Statistics of another pooling than `mean` must
            hold samples, whose texts are run again.
        value: The value to steer towards.

    Raises:
        InputError: The statistics pool otherwise and hold no samples.

    Example:
        >>> evidence = nv.baselines.Evidence(model, stats, {}, layers=(2,), scope="generated")
        >>> vector = nv.baselines.persona_vector(evidence, "benevolence")
        >>> sorted(vector.vectors), vector.scope  # the prompt's last token, and the generated ones
        ([2], 'last')
    """
    layers = sorted(evidence.layers or default_layers(evidence.stats.n_layers))
    layer = layers[len(layers) // 2]
    vector = answer_difference(evidence, value, layer)
    return AddVector({layer: vector.astype(np.float32)}, name="persona_vector", scope=response_scope(evidence))


def response_scope(evidence: Evidence) -> Scope:
    """`last` for scope `generated`: with the prompt's last token; other scopes stay.

    Args:
        evidence: Training data, with the study's scope.
    """
    return "last" if evidence.token_scope == "generated" else evidence.token_scope


def answer_difference(evidence: Evidence, value: str, layer: int) -> Float[np.ndarray, " d"]:
    """Mean difference between the poles, each text averaged over its answer.

    Args:
        evidence: Training data.
        value: The value.
        layer: The layer.

    Raises:
        InputError: The statistics pool otherwise and hold no samples.
    """
    if evidence.stats.pooling == "mean":
        return evidence.stats.direction(value)[layer]
    table = need_samples(evidence, "persona_vector").table
    rows = np.flatnonzero((table["value"] == value).to_numpy())
    positive = (table["pole"].iloc[rows] == "+").to_numpy()
    resid = residuals(evidence, rows, (layer,), "mean", "persona_vector")[layer]
    difference: Float[np.ndarray, " d"] = resid[positive].mean(axis=0) - resid[~positive].mean(axis=0)
    return difference
