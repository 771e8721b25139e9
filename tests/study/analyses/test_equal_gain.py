"""Curves read at equal gains: hand-drawn curves, and cells written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.written_cells import ADDED, BOTH, KL, study
from neva_tl.study.analyses import equal_gain as eg
from neva_tl.study.analyses import method_comparison as mc


def curve(method: str, gains: list[float], leaks: list[float], kl: list[float], draws: int = 40) -> eg.Curve:
    """A curve whose draws are the data, moved by a factor of their own each."""
    factor = np.concatenate([[1.0], np.random.default_rng(0).uniform(0.9, 1.1, draws)])[:, None]
    costs = {"kl": np.array(kl), "loss": np.array(kl) / 2}
    return eg.Curve(method, factor * np.array(gains), factor * np.array(leaks), costs, ("power", "tradition"), 12)


def test_between_points_leakage_is_linear_and_kl_quadratic_in_gain() -> None:
    one = curve("caa", [0, 0.4, 0.8], [0, 0.1, 0.4], [0, 0.4, 1.6])
    read = one.at(0.6)
    assert read["leakage"][0] == pytest.approx(0.25) and read["loss"][0] == pytest.approx(0.5)
    assert read["kl"][0] == pytest.approx(0.9)  # 2.5 g^2
    assert one.at(0.2)["kl"][0] == pytest.approx(0.1)


def test_a_method_that_fell_short_is_not_credited_for_it() -> None:
    """The same edit at two doses: KL differs at the matched conditions, nothing differs at equal gain."""
    short = curve("neva", [0, 0.3], [0, 0.06], [0, 0.225])
    far = curve("caa", [0, 0.6], [0, 0.12], [0, 0.9])
    row = eg.contest(short, far, 0.25)
    assert row["kl_ratio"] == pytest.approx(1) and row["nlr_ratio"] == pytest.approx(1)
    assert row["nlr_difference"] == pytest.approx(0) and row["nlr_difference_hi"] == pytest.approx(0)
    assert row["nlr_ours"] == pytest.approx(0.2) and row["top_ours"] == pytest.approx(0.3)


def test_beyond_a_curve_there_is_no_number_and_without_leakage_no_ratio() -> None:
    short, far = curve("neva", [0, 0.3], [0, 0.06], [0, 0.2]), curve("caa", [0, 0.6], [0, 0.0], [0, 0.9])
    beyond = eg.contest(short, far, 0.5)
    assert beyond["nlr_ours"] is None and beyond["kl_ratio"] is None and beyond["nlr_rival"] is not None
    row = eg.contest(short, far, 0.2)
    assert row["nlr_ratio"] is None and row["nlr_difference"] == pytest.approx(0.2)


def test_points_out_of_order_are_put_in_order() -> None:
    """A dose that gained less on test than a smaller one."""
    read = curve("caa", [0, 0.5, 0.4], [0, 0.5, 0.3], [0, 0.5, 0.3]).at(0.45)
    assert read["leakage"][0] == pytest.approx(0.4)


def test_cells_become_curves_behind_their_gates(tmp_path: Path) -> None:
    """Conditions of helpers/written_cells.py at one target: gain .5, so that reading at .25 halves leakage and quarters KL."""
    study(tmp_path / "gate-none", dict.fromkeys(ADDED, BOTH), relevance=False)
    studies = mc.folders(tmp_path)
    curves = mc.gain_curves(studies, n_boot=50)
    assert {gate: [c.method for c in found] for gate, found in curves.items()} == {
        "probe": ["neva", "caa_probe"],
        "none": ["neva_shift", "caa", "caa_projected"],
    }
    table = eg.equal_gain_contests(curves, [0.25], mc.OURS).set_index(["gate", "ours", "rival"])
    row = table.loc[("none", "neva_shift", "caa")]
    held = mc.contests(studies, n_boot=50).set_index(["gate", "ours", "rival"]).loc[("none", "neva_shift", "caa")]
    assert row["nlr_ours"] == pytest.approx(held["nlr_ours"]) and row["nlr_ratio"] == pytest.approx(held["nlr_ratio"])
    assert row["kl_rival"] == pytest.approx(KL["caa"] / 4) and row["kl_ratio"] == pytest.approx(0.25)
    assert row["loss_ours"] == pytest.approx(0.1)
    points = eg.curves_table(curves).set_index(["gate", "method", "point"])
    assert points.loc[("none", "caa", 0), "gain"] == 0 and points.loc[("none", "caa", 1), "gain"] == pytest.approx(0.5)


def test_rows_without_numbers_stay_numeric(tmp_path: Path) -> None:
    study(tmp_path / "gate-none", dict.fromkeys(ADDED, BOTH), relevance=False)
    table = eg.equal_gain_contests(mc.gain_curves(mc.folders(tmp_path), n_boot=20), [0.9], mc.OURS)
    assert table["nlr_ratio"].dtype == float and table["nlr_ratio"].isna().all() and (table["top_rival"] < 0.9).all()


def test_values_out_of_reach_do_not_count_among_those_within(tmp_path: Path) -> None:
    """By hand: CAA cannot be steered to tradition; projected CAA reaches nothing, so there is no contest with it."""
    reached = {"neva_shift": BOTH, "caa": ("power",), "caa_projected": ()}
    study(tmp_path / "gate-none", reached, relevance=False)
    (row,) = mc.reachable_contests(mc.folders(tmp_path), [0.4], n_boot=50).to_dict("records")
    assert (row["gate"], row["ours"], row["rival"], row["n_values"]) == ("none", "neva_shift", "caa", 1)
    # power alone: .1 and .3 on one of two other values, at a gain of .5
    assert row["nlr_ours"] == pytest.approx(0.1) and row["nlr_rival"] == pytest.approx(0.3)
    assert row["kl_rival"] == pytest.approx(KL["caa"] * 0.8**2) and row["kl_ratio"] == pytest.approx(0.25)


def test_the_next_matched_gain_must_be_within_reach_as_well(tmp_path: Path) -> None:
    low = study(tmp_path / "gate-none", dict.fromkeys(("neva_shift", "caa"), BOTH), False, target=0.2)
    first = low.read_table("tables/values")
    study(tmp_path / "gate-none", {"neva_shift": BOTH, "caa": ("tradition",)}, False, target=0.4)
    low.write_table("tables/values", pd.concat([first, low.read_table("tables/values")], ignore_index=True))
    table = mc.reachable_contests(mc.folders(tmp_path), [0.2, 0.4], n_boot=20).set_index("gain")
    assert list(table["n_values"]) == [1, 1]
    assert table.loc[0.2, "nlr_ours"] == pytest.approx(0.1)  # tradition: .05 of .5
    assert table.loc[0.2, "nlr_rival"] == pytest.approx(0.3)
