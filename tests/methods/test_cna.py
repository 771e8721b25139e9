"""CNA: neurons by difference, universal ones left out, two groups with two factors."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.methods import Evidence, build
from neva_tl.methods.cna import LEAST, cna, contrastive_neurons, universal_neurons

pytestmark = pytest.mark.core
WIDTH = 40
#: The module: `neva_tl.methods.cna` is the function.
MODULE = importlib.import_module("neva_tl.methods.cna")


def stats(values: tuple[str, ...] = ("power", "security"), alone: bool = False) -> ActivationStats:
    """Neuron 0 is high in every text and differs most; neuron 1 is high in 3 of 4 of security's; 2 and 3 are power's."""
    rng = np.random.default_rng(0)
    rows, h = [], []
    for value in values:
        for i in range(4):
            for pole in "+-":
                x = rng.uniform(0.0, 0.5, size=WIDTH)
                x[0] = 40.0 if pole == "+" and value == "power" else 30.0
                if value == "security":
                    x[1] = 20.0 if i else 0.0
                if value == "power":
                    x[2], x[3] = (6.0, -1.0) if pole == "+" else (1.0, -7.0)
                rows.append({"value": value, "pole": pole, "pair_id": f"{value}{i}", "cluster": f"c{i}", "fold": i % 2})
                h.append(x)
    return ActivationStats.from_samples(np.array(h, dtype=np.float32)[:, None], pd.DataFrame(rows))


def test_universal_neurons_are_those_of_the_other_values_texts() -> None:
    universal = universal_neurons(stats(), "power", 2)
    assert np.flatnonzero(universal).tolist() == [0], "neuron 1 is among the two highest of 75 % only"
    # without another value the value's own texts count: there, neuron 0 and none of the others is always among two
    assert np.flatnonzero(universal_neurons(stats(("power",)), "power", 1)).tolist() == [0]


def test_the_largest_differences_without_the_universal_neurons() -> None:
    table = contrastive_neurons(stats(), "power").df
    assert len(table) == LEAST, ".1 % of 40 neurons is none"
    assert 0 not in set(table["neuron"]) and table["neuron"].tolist()[:2] == [3, 2]
    np.testing.assert_allclose(table["score"][:2], [6.0, 5.0], rtol=1e-6)
    np.testing.assert_allclose(table["score"], np.abs(table["mean_plus"] - table["mean_minus"]), rtol=1e-5)
    # 2 is larger in size on the + pole, 3 on the - pole
    assert table["direction"].tolist()[:2] == [-1.0, 1.0]


def test_a_share_of_a_large_model(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "SHARE", 0.25)
    assert len(contrastive_neurons(evidence.stats, "power")) == 36 == 48 * 3 // 4


def test_the_draw_of_texts_is_limited_and_seeded(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "MOST_TEXTS", 6)
    found = [universal_neurons(evidence.stats, "power", 16, seed=seed) for seed in (0, 0, 1)]
    assert (found[0] == found[1]).all() and (found[0] != found[2]).any()


def test_towards_the_value_and_away_from_it(evidence: Evidence) -> None:
    item = cna(replace(evidence, stats=stats()), "power")
    rows = item.neurons.df.head(2)
    factors = {dose: item.with_dose(dose).per_neuron(rows)[0].tolist() for dose in (0.5, 2.0, -2.0, 0.0)}
    assert factors == {0.5: [0.5, 1.5], 2.0: [0.0, 3.0], -2.0: [3.0, 0.0], 0.0: [1.0, 1.0]}
    assert build("cna", evidence, "power").scope == "generated"


def test_no_difference_is_refused(evidence: Evidence) -> None:
    table = stats().samples.table  # type: ignore[union-attr]
    flat = ActivationStats.from_samples(np.ones((len(table), 1, 3), np.float32), table)
    with pytest.raises(InputError, match="cna has nothing to edit"):
        cna(replace(evidence, stats=flat), "power")
