"""Replicates side by side: means and ranges by hand, worlds kept apart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from helpers.written_cells import BOTH, study
from neva_tl.core.errors import InputError
from neva_tl.study.analyses.replication import border_rate, over_replicates, replicates, total_reached
from neva_tl.study.run.run_folder import RunFolder


def comparison(root: Path, rate: float) -> Path:
    store = study(root / "gate-none", {"neva_shift": BOTH, "caa": ("power",)}, relevance=False)
    store.write_json("manifest.json", store.read_json("manifest.json") | {"world": {"border_rate": rate}})
    return root


def test_replicates_of_one_world_are_averaged_and_worlds_kept_apart(tmp_path: Path) -> None:
    roots = {name: comparison(tmp_path / name, rate) for name, rate in (("a", 0.08), ("b", 0.08), ("c", 0.5))}
    store = RunFolder(tmp_path / "b" / "gate-none")
    other = store.read_table("tables/methods")
    other["gain"] = other["gain"] + 0.2
    store.write_table("tables/methods", other)
    conditions, held = replicates(roots)
    assert list(conditions["replicate"].unique()) == ["a", "b", "c"] and len(conditions) == 6
    assert set(held["replicate"]) == {"a", "b", "c"} and set(held["rival"]) == {"caa"}
    mean = over_replicates(conditions.assign(ngl=None, nlr_plain=0.1, invalid=0.0, kl=0.1)).set_index(
        ["border_rate", "method"]
    )
    row = mean.loc[(0.08, "caa")]
    assert row["replicates"] == 2 and row["reached"] == "2/4"
    assert (row["gain_mean"], row["gain_low"], row["gain_high"]) == pytest.approx((0.6, 0.5, 0.7))
    assert pd.isna(row["ngl_mean"])
    assert mean.loc[(0.5, "caa")]["replicates"] == 1


def test_counts_add_up_and_words_stay() -> None:
    assert total_reached(["7/10", "9/10"]) == "16/20" and total_reached(["own gain", "own gain"]) == "own gain"


def test_a_model_without_world_has_no_rate_and_nothing_named_is_refused() -> None:
    assert border_rate({"world": {"border_rate": 0.25}}) == 0.25 and border_rate({}) is None
    with pytest.raises(InputError, match="no comparison"):
        replicates({})
