"""A judge with planted confusion, and texts whose labels occur together."""

from __future__ import annotations

import numpy as np

from neva_tl.core.values import VALUES
from neva_tl.evaluation.judge_quality.mixing import JudgedTexts
from neva_tl.evaluation.measures.responses import Responses

#: Each value is read at .8; its clockwise neighbour gets .3 of it, its other one .1.
M = 0.8 * np.eye(10) + 0.3 * np.roll(np.eye(10), 1, axis=1) + 0.1 * np.roll(np.eye(10), -1, axis=1)


def labels(n: int, rng: np.random.Generator) -> np.ndarray:
    """Labels that really occur together: a value brings its clockwise neighbour along in half of the texts."""
    alone = rng.random((n, 10)) < 0.2
    return (alone | (np.roll(alone, 1, axis=1) & (rng.random((n, 10)) < 0.5))).astype(float)


def judged(m: np.ndarray = M, *, n=900, topics=60, noise=0.2, seed=0) -> JudgedTexts:
    """Scores `.05 + y M` + noise of each text and of each topic."""
    rng = np.random.default_rng(seed)
    y = labels(n, rng)
    clusters = rng.integers(0, topics, n)
    topic = rng.normal(0, noise / 2, (topics, 10))[clusters]
    scores = 0.05 + y @ m + topic + rng.normal(0, noise, (n, 10))
    return JudgedTexts("planted", "points", "made", scores, y, np.array([f"l{c}" for c in clusters]))


def responses(d: np.ndarray, *, topics=40, per_topic=2, noise=0.1, seed=0) -> Responses:
    """Item scores whose expected change is d (steered towards the first values)."""
    rng = np.random.default_rng(seed)
    n = topics * per_topic
    base, edited = [], []
    for j in range(10):
        level = rng.normal(0.3, 0.1, n)
        topic = np.repeat(rng.normal(0, noise, (len(d), topics)), per_topic, axis=1)
        base.append(level)
        edited.append(level + d[:, [j]] + topic + rng.normal(0, noise, (len(d), n)))
    clusters = np.repeat([f"t{k}" for k in range(topics)], per_topic)
    return Responses(
        "m", VALUES[: len(d)], tuple(base), tuple(edited), tuple(clusters for _ in VALUES), shared=True, bounds=None,
        judge="planted", unit="points",
    )  # fmt: skip
