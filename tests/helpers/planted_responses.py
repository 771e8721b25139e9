"""Responses whose true effects are planted."""

from __future__ import annotations

import numpy as np

from neva_tl.core.values import VALUES
from neva_tl.evaluation.measures.responses import Responses

QUICK = {"n_boot": 200, "n_permutations": 199}


def planted(
    d: np.ndarray, *, steered=VALUES, values=VALUES, topics=20, per_topic=3, noise=0.0, seed=0, shared=True, method="m"
) -> Responses:
    """Responses whose true D is `d`: a topic effect on the change, plus item noise."""
    rng = np.random.default_rng(seed)
    n = topics * per_topic
    clusters = np.repeat([f"t{k}" for k in range(topics)], per_topic)
    base, edited = [], []
    for j in range(len(values)):
        level = rng.normal(0.3, 0.1, n)
        topic = np.repeat(rng.normal(0, noise, (len(steered), topics)), per_topic, axis=1)
        base.append(level)
        edited.append(level + d[:, [j]] + topic + rng.normal(0, noise, (len(steered), n)))
    return Responses(
        method, tuple(steered), tuple(base), tuple(edited), tuple(clusters for _ in values), tuple(values),
        shared=shared, bounds=None, judge="planted", unit="points",
    )  # fmt: skip
