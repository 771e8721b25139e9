"""NLR beside NLR, from cells written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.written_cells import MEASURED, items
from neva_tl.core.errors import InputError
from neva_tl.study import nlr_comparison
from neva_tl.study.run.comparison import stored_responses
from neva_tl.study.run.run_folder import RunFolder

#: What each edit adds to every item of each measured value: no noise, so the answer is known exactly.
ADDED = {
    "neva": {"power": (0.5, 0.1, 0.0), "tradition": (0.0, 0.5, 0.1)},
    "caa": {"power": (0.5, 0.3, -0.2), "tradition": (0.1, 0.5, 0.2)},
    "tame": {"power": (0.5, 0.0, 0.0), "tradition": (0.0, 0.5, 0.0)},
}


def run(root: Path, reached: dict[str, tuple[str, ...]], target: float = 0.4) -> RunFolder:
    store = RunFolder.open(root, {"study": "x"})
    store.write_table("cells/base.items", items(), csv=False)
    rows = []
    for method, done in reached.items():
        for value in ("power", "tradition"):
            store.write_table(f"cells/measure/{method}/{value}@{target}.items", items(ADDED[method][value]), csv=False)
            status = "reached" if value in done else "unreached"
            rows.append({"method": method, "target_gain": target, "steered": value, "status": status})
    rows.append({"method": "role", "target_gain": None, "steered": "power", "status": "own gain"})
    store.write_table("tables/values", pd.DataFrame(rows))
    return store


def test_ratio_and_difference_by_hand(tmp_path: Path) -> None:
    both = ("power", "tradition")
    store = run(tmp_path / "run", {"neva": both, "caa": both, "tame": both})
    table = nlr_comparison(store, n_boot=100).set_index("method")
    assert list(table.index) == ["caa", "tame"] and set(table["n_values"]) == {2}
    # leakage is the mean of the positive parts over the two other values; gains are .5 each
    ours, theirs = (0.05 + 0.05) / 1.0, (0.15 + 0.15) / 1.0
    caa = table.loc["caa"]
    assert (caa["nlr_neva"], caa["nlr"]) == (pytest.approx(ours), pytest.approx(theirs))
    for name in ("ratio", "ratio_lo", "ratio_hi"):
        assert caa[name] == pytest.approx(ours / theirs)
    for name in ("difference", "difference_lo", "difference_hi"):
        assert caa[name] == pytest.approx(ours - theirs)
    tame = table.loc["tame"]
    assert tame["nlr"] == pytest.approx(0, abs=1e-12) and pd.isna(tame["ratio"])
    assert tame["difference"] == pytest.approx(ours)


def test_only_values_that_both_reached(tmp_path: Path) -> None:
    store = run(tmp_path / "run", {"neva": ("power", "tradition"), "caa": ("tradition",), "tame": ()})
    table = nlr_comparison(store, n_boot=50)
    assert list(table["method"]) == ["caa"] and list(table["n_values"]) == [1]
    assert table["nlr"].iloc[0] == pytest.approx(0.15 / 0.5) and table["nlr_neva"].iloc[0] == pytest.approx(0.05 / 0.5)


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did not measure neva"):
        nlr_comparison(run(tmp_path / "a", {"caa": ("power",)}))
    assert nlr_comparison(run(tmp_path / "b", {"neva": ("power",)})).empty


def test_stored_responses_read_the_cells(tmp_path: Path) -> None:
    store = run(tmp_path / "run", {"caa": ("power",)})
    found = stored_responses(store, "caa", 0.4, ["tradition"], judge="j", unit="u")
    assert found is not None and found.steered == ("tradition",) and set(found.values) == set(MEASURED)
    assert (found.judge, found.unit, found.shared) == ("j", "u", False)
    for name, base, edited in zip(found.values, found.base, found.edited, strict=True):
        expected = dict(zip(MEASURED, ADDED["caa"]["tradition"], strict=True))[name]
        np.testing.assert_allclose(edited[0] - base, expected)
    assert stored_responses(store, "caa", 0.4, ["power"], "net") is None
