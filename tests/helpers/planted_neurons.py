"""Activations with planted neurons, and a stand-in for the model's output weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats

VALUES = ("security", "tradition", "benevolence")
LAYERS, WIDTH, D_MODEL = 3, 60, 16
#: Neurons planted for benevolence at each layer: what they do.
WRITERS, READERS, NEGATIVE, SHARED = (0, 1, 2), (10, 11, 12), (20,), (30, 31)


def table(
    values: tuple[str, ...] = VALUES, clusters: int = 24, per_cluster: int = 2, paired: bool = True
) -> pd.DataFrame:
    """Rows of a contrast set: every cluster holds both poles."""
    rows = [
        {"value": v, "pole": pole, "pair_id": f"{v}-{c}-{i}" if paired else None, "cluster": f"{v} topic {c}"}
        for v in values
        for c in range(clusters)
        for i in range(per_cluster)
        for pole in "+-"
    ]
    return pd.DataFrame(rows)


def activations(rows: pd.DataFrame, seed: int = 0, effect: float = 1.5) -> np.ndarray:
    """Noise with a topic effect that both poles share, and planted differences for benevolence."""
    rng = np.random.default_rng(seed)
    topic = {c: rng.normal(size=(LAYERS, WIDTH)) for c in rows["cluster"].unique()}
    h = np.stack([topic[c] for c in rows["cluster"]]) * 0.5 + rng.normal(size=(len(rows), LAYERS, WIDTH))
    sign = np.where(rows["pole"] == "+", 0.5, -0.5)[:, None] * effect
    target, neighbour = (rows["value"] == "benevolence").to_numpy(), (rows["value"] == "tradition").to_numpy()
    for layer in range(LAYERS):
        for group in (WRITERS, READERS, SHARED):
            h[np.ix_(target, [layer], group)] += sign[target][:, None]
        h[np.ix_(target, [layer], NEGATIVE)] -= sign[target][:, None]
        # raised at least as much by another value: specific to neither
        h[np.ix_(neighbour, [layer], SHARED)] += 1.3 * sign[neighbour][:, None]
    return h.astype(np.float32)


def directions(seed: int = 5) -> dict[str, np.ndarray]:
    """A residual direction per value; tradition's leans towards benevolence's."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(D_MODEL, len(VALUES))))[0].T
    found = dict(zip(VALUES, basis, strict=True))
    found["tradition"] = (found["tradition"] + 0.5 * found["benevolence"]) / np.sqrt(1.25)
    return found


def make_stats(
    seed: int = 0, *, paired: bool = True, keep: bool = True, effect: float = 1.5, **shape: Any
) -> ActivationStats:
    """Statistics of planted data; the residual moves along the value's direction, the same at all layers."""
    rows = table(paired=paired, **shape)
    u = directions()
    sign = np.where(rows["pole"] == "+", 0.5, -0.5)
    resid = np.stack([s * u[v] for s, v in zip(sign, rows["value"], strict=True)])
    resid = np.repeat(resid[:, None], LAYERS, axis=1).astype(np.float32)
    return ActivationStats.from_samples(activations(rows, seed, effect), rows, resid=resid, keep=keep)


def weights(seed: int = 6) -> np.ndarray:
    """`[layers, d_mlp, d_model]`: writers write benevolence (the negative one its reverse), readers nothing."""
    rng = np.random.default_rng(seed)
    u = directions()
    w = 0.02 * rng.normal(size=(LAYERS, WIDTH, D_MODEL))
    own = np.linalg.qr(np.stack([u["security"], u["tradition"]]).T)[0]
    clean = u["benevolence"] - own @ (own.T @ u["benevolence"])
    w[:, WRITERS] += clean
    w[:, NEGATIVE] -= clean
    w[:, READERS] -= (w[:, READERS] @ clean)[..., None] * clean
    return w
