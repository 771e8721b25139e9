"""Shares and positions of selected neurons."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neva_tl.activations import ActivationStats


def shares(stats: ActivationStats, value: str, pole: str) -> np.ndarray:
    assert stats.samples is not None
    table = stats.samples.table
    rows = ((table["value"] == value) & (table["pole"] == pole)).to_numpy()
    return np.round((stats.samples.h[rows] > 0).mean(axis=0), 6)


def places(df: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(df["layer"].tolist(), df["neuron"].tolist(), strict=True))
