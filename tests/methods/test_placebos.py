"""Placebos: random neurons matched on layer and write, and selectors that they need."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import Shift
from neva_tl.methods import Evidence, build, random_neurons

pytestmark = pytest.mark.core


def test_random_neurons_match_layers_and_write(evidence: Evidence) -> None:
    item = random_neurons(evidence, "power")
    chosen, placebo = evidence.neurons["power"].df, item.neurons.df
    assert isinstance(item, Shift) and item.scope == "generated"
    assert placebo["layer"].value_counts().to_dict() == chosen["layer"].value_counts().to_dict()
    assert not set(map(tuple, placebo[["layer", "neuron"]].to_numpy())) & set(
        map(tuple, chosen[["layer", "neuron"]].to_numpy())
    )
    hf = evidence.model.original_model if hasattr(evidence.model, "original_model") else None
    for layer in (0, 1, 2):
        weight = models.w_out(evidence.model, layer).double().numpy()
        if hf is not None:
            assert weight.shape == (48, 32)

        def write(df: pd.DataFrame, layer: int = layer, weight: np.ndarray = weight) -> float:
            rows = df[df["layer"] == layer]
            step = (rows["mean_plus"] - rows["mean_minus"]).to_numpy()
            return float(np.linalg.norm(step @ weight[rows["neuron"].to_numpy()]))

        assert write(placebo) == pytest.approx(write(chosen), rel=1e-5)


@pytest.mark.parametrize("method", ["label_shuffled", "rotated"])
def test_placebos_that_select_anew_need_a_selector_to_follow(evidence: Evidence, method: str) -> None:
    with pytest.raises(InputError, match=r"unknown selection method 'test'|that a selector chose"):
        build(method, evidence, "power")
