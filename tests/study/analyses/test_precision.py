"""Number formats on a random model: the reference against itself, what rounding changes, the rule, and the script."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from neva_tl.core.errors import InputError
from neva_tl.study.analyses import precision
from neva_tl.study.analyses.precision import ALL, PrecisionConfig, compare_precision, is_within_noise

ARGUMENTS = ["--value", "power", "--value", "tradition", "--dose", "3", "--k", "6"]
ARGUMENTS += ["--rows", "10", "--validation", "6", "--items", "5", "--neutral", "4"]


@pytest.fixture(scope="module")
def done(checkpoint: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    out = tmp_path_factory.mktemp("precision")
    config = PrecisionConfig(
        values=("power", "tradition"),
        prompts=str(pairs_file),
        dose=3.0,
        k=6,
        rows=10,
        validation=6,
        items=5,
        neutral=4,
        n_boot=50,
    )
    return compare_precision(str(checkpoint), out, config), out


def test_every_format_has_a_row_per_value_and_one_over_all(done: tuple[pd.DataFrame, Path]) -> None:
    table = done[0]
    assert table["format"].unique().tolist() == list(precision.FORMATS)
    assert table["value"].tolist() == ["power", "tradition", ALL] * 3
    assert (table["seconds"] > 0).all() and table[["gain", "kl", "d_noise"]].notna().all().all()
    means = table[table["value"] != ALL].groupby("format")[["gain", "kl", "overlap"]].mean()
    both = table[table["value"] == ALL].set_index("format")[["gain", "kl", "overlap"]]
    pd.testing.assert_frame_equal(means, both.loc[means.index], check_exact=False, rtol=1e-9)


def test_float32_equals_itself_and_bfloat16_is_rounded(done: tuple[pd.DataFrame, Path]) -> None:
    table = done[0].set_index(["format", "value"])
    same = table.loc["float32"]
    assert (same["overlap"] == 1).all() and (same[["d_max", "gain_difference", "kl_difference"]] == 0).all().all()
    assert (same["overlap_resampled"] < 1).all(), "an oracle: other prompts select other neurons"
    assert same["within_noise"].all()
    half = table.loc["bfloat16"]
    assert (
        (half["d_max"] > 0).all() and (half["d_max"] < 0.5).all() and (half["overlap"] > half["overlap_chance"]).all()
    )
    assert np.isfinite(half[["kl_difference_lo", "kl_difference_hi"]].to_numpy(float)).all()


def test_each_folder_records_its_format_and_a_second_call_measures_nothing(
    done: tuple[pd.DataFrame, Path], checkpoint: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neva_tl.core.files import read_json
    from neva_tl.study.run.scorers import Scorer

    table, out = done
    records = {name: read_json(out / name / "manifest.json", "a manifest") for name in precision.FORMATS}
    assert {name: record["model"]["dtype"] for name, record in records.items()} == {
        "float32": "float32",
        "matmul-bf16": "float32",
        "bfloat16": "bfloat16",
    }
    assert [record["config"].get("matmul") for record in records.values()] == [None, "bf16", None]
    assert records["matmul-bf16"]["model"]["matmul"] == "bf16"
    units = [read_json(out / name / "cells/unit.json", "a unit") for name in precision.FORMATS]
    assert units[0] == units[1] == units[2], "gains are in one unit"

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Scorer, "observe", fail)
    monkeypatch.setattr(precision, "neutral_table", fail)
    monkeypatch.setattr(precision.stages, "collect", fail)
    config = PrecisionConfig(("power", "tradition"), str(pairs_file), dose=3.0, k=6, rows=10, validation=6, items=5)
    again = compare_precision(str(checkpoint), out, replace(config, neutral=4, n_boot=50))
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"overlap": 0.79}, False),
        ({"d_max": 0.11}, False),
        ({"gain_difference": -0.21}, False),
        ({"kl_difference": 0.031}, False),
    ],
)
def test_the_rule_has_four_conditions(change: dict[str, float], expected: bool) -> None:
    row = {"overlap": 0.9, "overlap_resampled": 0.8, "d_max": 0.05, "d_noise": 0.1, "gain_difference": 0.1}
    row |= {"gain_noise": 0.2, "kl_difference": 0.02, "kl_noise": 0.03}
    assert is_within_noise(row | change) is expected


def test_a_value_without_prompts_is_refused(pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no prompts for hedonism"):
        compare_precision("demo", tmp_path, PrecisionConfig(("hedonism",), str(pairs_file)))


def test_the_script_writes_its_table(
    done: tuple[pd.DataFrame, Path],
    checkpoint: Path,
    pairs_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    script = load_script("precision")
    calls: list[Any] = []
    monkeypatch.setattr(precision, "compare_precision", lambda *a, **k: calls.append((a, k)) or done[0])
    argv = ["precision", "--model", str(checkpoint), "--prompts", str(pairs_file), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", argv + ARGUMENTS)
    assert script.main() == 0 and "bfloat16" in capsys.readouterr().out
    (model, out, config), _ = calls[0]
    assert (model, out, config.dose, config.k, config.rows) == (str(checkpoint), tmp_path / "out", 3.0, 6, 10)
    assert len(pd.read_csv(tmp_path / "out" / "tables" / "precision.csv")) == 9
    monkeypatch.undo()
    monkeypatch.setattr("sys.argv", ["precision", "--model", "no-such", "--value", "envy", "--out", str(tmp_path)])
    assert script.main() == 2 and "envy" in capsys.readouterr().err
