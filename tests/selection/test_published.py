"""Selectors of other papers: what they have in common."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from helpers.planted_neurons import make_stats
from helpers.selected import places
from neva_tl.core.errors import InputError
from neva_tl.selection import SelectionWarning, effect_table, select

pytestmark = pytest.mark.core


def test_columns_of_the_effect_table_come_along() -> None:
    stats = make_stats()
    table = effect_table(stats, "benevolence").set_index(["layer", "neuron"])
    for method in ("activation_probability", "lape", "mean_shift"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelectionWarning)
            found = select(stats, "benevolence", method=method, **({"share": 0.2} if method == "lape" else {}))
        assert len(found) and found.method == method
        for name in ("g", "lo", "hi", "p", "q", "leak", "mean_plus", "mean_minus", "sd"):
            want = table.loc[places(found.df), name].to_numpy()
            np.testing.assert_array_equal(found.df[name].to_numpy(), want, err_msg=f"{method} {name}")


def test_layers_are_heeded() -> None:
    stats = make_stats()
    for method in ("activation_probability", "lape", "mean_shift"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelectionWarning)
            options: dict[str, Any] = {"share": 0.5} if method == "lape" else {}
            assert set(select(stats, "benevolence", method=method, layers=[1], **options).layers) <= {1}


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        ("activation_probability", {"top": 0}, "above 0"),
        ("activation_probability", {"least": 0.0}, "above 0"),
        ("activation_probability", {"pole": "?"}, "unknown pole"),
        ("activation_probability", {"site": "gate"}, "gate"),
        ("lape", {"share": 0.0}, "share"),
        ("lape", {"percentile": 100.0}, "percentile"),
        ("mean_shift", {"quantile": 1.0}, "quantile"),
        ("mean_shift", {"least_d": -1.0}, "least_d"),
    ],
)
def test_bad_input(method: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        select(make_stats(), "benevolence", method=method, **options)
    assert "\n" not in str(error.value)
