"""A second judge reads the stored texts of a run; both judges' figures come from the same items."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from neva_tl.core.errors import InputError
from neva_tl.evaluation import SurveyJudge
from neva_tl.study.analyses.second_judge import TABLE, second_opinion, write
from neva_tl.study.run.run_folder import RunFolder

TOPICS = 8
#: What each method adds to the score of the steered value and of the others, by value.
ADDED = {"neva": (0.4, 0.0), "caa": (0.2, 0.1)}


class Reader:
    """Reads the numbers that a text holds (power, then security); `sign` turns the scale around."""

    unit, values = "points", ("power", "security")

    def __init__(self, name: str, sign: int = 1) -> None:
        self.name, self.sign = name, sign
        self.n = 0

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        self.n += len(texts)
        numbers = np.array([[float(x) for x in text.split()] for text in texts]).reshape(-1, 2)
        return numbers if self.sign > 0 else 1 - numbers

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> None:
        return None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return np.ones(len(texts), dtype=bool)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of two methods whose texts spell their scores."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.1, 0.3, (TOPICS, 2)).round(3)
    frames = [frame(base, "unedited", None)]
    for method, (own, other) in ADDED.items():
        for j, value in enumerate(Reader.values):
            add = np.full((TOPICS, 2), other)
            add[:, j] = own
            frames.append(frame((base + add).round(3), method, value))
    store = RunFolder.open(tmp_path / "run", {"study": "x"})
    store.write_json("manifest.json", {"study": "x"})
    store.write_json("results.json", {"judge": "first"})
    store.write_table("cells/base.texts", frames[0], csv=False)
    table = pd.concat(frames, ignore_index=True).astype({"steered": "string", "target_gain": "Float64"})
    store.write_table("tables/generations", table)
    return store


def frame(scores: np.ndarray, method: str, value: str | None) -> pd.DataFrame:
    n = len(scores)
    columns: dict[str, Any] = {"prompt": [f"prompt {i}" for i in range(n)], "topic": [f"t{i}" for i in range(n)]}
    columns |= {"sample": 0, "text": [f"{a} {b}" for a, b in scores], "valid": True}
    columns |= {"score_power": scores[:, 0], "score_security": scores[:, 1]}
    return pd.DataFrame(columns).assign(method=method, steered=value, target_gain=None if value is None else 0.4)


def row(df: pd.DataFrame, **where: str) -> pd.Series:
    for name, content in where.items():
        df = df[df[name] == content]
    assert len(df) == 1
    return df.iloc[0]


def test_a_judge_of_the_same_scale_repeats_the_first(run: RunFolder) -> None:
    opinion = second_opinion(run, Reader("second"), n_boot=50)
    for method, (own, other) in ADDED.items():
        for judge in ("first", "second"):
            mean = row(opinion.df, method=method, steered="all", judge=judge)
            assert mean["gain"] == pytest.approx(own) and mean["wrong_way"] == 0.0
            assert mean["nlr"] == pytest.approx(other / own)
    assert (opinion.agreement["same_sign"] == 1.0).all() and (opinion.agreement["n"] == TOPICS).all()


def test_a_judge_of_the_opposite_scale_contradicts_it(run: RunFolder) -> None:
    opinion = second_opinion(run, Reader("second", sign=-1), n_boot=50)
    assert row(opinion.df, method="neva", steered="power", judge="second")["gain"] == pytest.approx(-0.4)
    assert row(opinion.df, method="neva", steered="power", judge="second")["wrong_way"] == 1.0
    assert pd.isna(row(opinion.df, method="neva", steered="all", judge="second")["nlr"])
    assert (opinion.agreement["same_sign"] == 0.0).all()


def test_each_text_is_read_once(run: RunFolder) -> None:
    reader = Reader("second")
    opinion = second_opinion(run, reader, n_boot=20)
    assert reader.n == len(opinion.texts[["prompt", "text"]].drop_duplicates())
    assert len(opinion.texts) == TOPICS * 5
    edited = opinion.texts[opinion.texts["steered"].notna()]
    np.testing.assert_allclose(edited["first"], edited["second"])


def test_rank_correlation_is_scipys(run: RunFolder) -> None:
    class Noisy(Reader):
        def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
            rng = np.random.default_rng(1)
            return np.clip(super().score(texts) + rng.normal(0, 0.1, (len(texts), 2)), 0, 1)

    from scipy.stats import spearmanr

    # gains that differ from prompt to prompt
    table = run.read_table("tables/generations")
    edited = (table["method"] == "neva") & (table["steered"] == "power")
    spread = np.linspace(0, 0.3, TOPICS)
    table.loc[edited, "score_power"] = table.loc[table["method"] == "unedited", "score_power"].to_numpy() + spread
    table.loc[edited, "text"] = [
        f"{a} {b}" for a, b in zip(table.loc[edited, "score_power"], table.loc[edited, "score_security"], strict=True)
    ]
    run.write_table("tables/generations", table)
    opinion = second_opinion(run, Noisy("second"), n_boot=20)
    texts = opinion.texts[(opinion.texts["method"] == "neva") & (opinion.texts["steered"] == "power")]
    base = Noisy("again").score(list(table[["prompt", "text"]].drop_duplicates()["text"]))[:TOPICS, 0]
    expected = spearmanr(spread, texts["second"].to_numpy() - base).statistic
    assert -1 < expected < 1
    found = row(opinion.agreement, method="neva", steered="power")
    assert found["rho"] == pytest.approx(expected)


def test_requests_that_cannot_be_served(run: RunFolder) -> None:
    with pytest.raises(InputError, match=r"judged .* already"):
        second_opinion(run, Reader("first"))
    with pytest.raises(InputError, match="is made from prompts"):
        second_opinion(run, "logprob")
    with pytest.raises(InputError, match="reads no texts"):
        second_opinion(run, SurveyJudge.load())
    narrow = Reader("second")
    narrow.values = ("power",)  # type: ignore[assignment]
    with pytest.raises(InputError, match="does not score 'security'"):
        second_opinion(run, narrow)
    (run.root / "cells/base.texts.parquet").unlink()
    with pytest.raises(InputError, match="read no texts"):
        second_opinion(run, Reader("second"))


def test_the_tables_and_the_figure_show_both_judges(run: RunFolder) -> None:
    opinion = second_opinion(run, Reader("second"), n_boot=20)
    write(run, opinion)
    assert set(run.read_table(TABLE)["judge"]) == {"first", "second"}
    assert (run.root / "tables/second_judge_agreement.csv").exists()
    labels = [tick.get_text() for tick in opinion.show().axes[0].get_yticklabels()]
    assert any("caa @0.4, second" in label for label in labels), labels
    assert "agreement of the changes" in str(opinion)


def test_a_judge_that_does_not_see_the_role_prompt_is_named(run: RunFolder) -> None:
    assert second_opinion(run, Reader("second"), n_boot=20).note == ""  # no role prompt was measured
    table = run.read_table("tables/generations")
    run.write_table("tables/generations", table.replace({"method": {"caa": "role"}}))
    assert second_opinion(run, Reader("second"), n_boot=20).note == ""

    class Blind(Reader):
        def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
            return np.full((len(texts), 2), 0.5)

    opinion = second_opinion(run, Blind("blind"), n_boot=20)
    assert opinion.note.startswith("blind does not see the role prompt") and opinion.note in str(opinion)
    assert "first" not in opinion.note


def test_the_script_prints_and_writes(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load_script("second_judge")
    monkeypatch.setattr(sys, "argv", ["second_judge.py", str(run.root), "--judge", "wordlist", "--draws", "20"])
    assert module.script("second_judge", module.__doc__, module.act, module.options) == 0
    assert "wordlist" in capsys.readouterr().out
    assert (run.root / "tables/second_judge.parquet").exists()
