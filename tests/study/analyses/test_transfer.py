"""Transfer on a random model and two tiny sources: what is chosen where, scored where, kept, and refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from neva_tl import models, prompts
from neva_tl.core.errors import InputError
from neva_tl.editing import edit
from neva_tl.evaluation import LogProbJudge
from neva_tl.methods import Evidence, build
from neva_tl.study.analyses.transfer import ALL, TransferConfig, TransferResult, covered, limited, transfer

#: Another way of saying the same, about other things, and a value that the first source lacks.
ANSWERS = {
    "power": ("I would seize the {thing} and command all.", "I would rather follow others in the {thing}."),
    "tradition": ("Our fathers kept the {thing} and so shall we.", "The {thing} of our fathers is dead to me."),
    "hedonism": ("Enjoy the {thing} and feast.", "Fast, and shut the {thing}."),
}
THINGS = "wall gate hall court guild barn camp fleet port league chapel archive mine lodge cellar dyke quarry canal"
SMALL = TransferConfig(values=("power", "tradition"), k=6, rows=10, validation=6, items=5, n_boot=50, dose=3.0)


@pytest.fixture(scope="module")
def other_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "other.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["value", "pole", "text", "cluster"])
        for value, answers in ANSWERS.items():
            for thing in THINGS.split():
                for pole, answer in zip("+-", answers, strict=True):
                    table.writerow([value, pole, answer.format(thing=thing), f"{value}/{thing}"])
    return path


@pytest.fixture(scope="module")
def sources(pairs_file: Path, other_file: Path) -> dict[str, str]:
    return {"paired": str(pairs_file), "statements": str(other_file)}


@pytest.fixture(scope="module")
def done(
    tiny_model: Any, sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[TransferResult, Path]:
    out = tmp_path_factory.mktemp("transfer")
    return transfer(tiny_model, sources, out, SMALL), out


def test_every_source_is_scored_on_every_source(done: tuple[TransferResult, Path]) -> None:
    df = done[0].df
    assert len(df) == 2 * 2 * 2 * 3
    assert set(zip(df["source"], df["scored"], strict=True)) == {
        (a, b) for a in ("paired", "statements") for b in ("paired", "statements")
    }
    own = df[df["value"] != ALL]
    assert (own["status"] == "fixed").all() and (own["dose"] == 3.0).all() and own["gain"].notna().all()
    for _, group in df.groupby(["source", "scored", "method"]):
        mean = group.loc[group["value"] != ALL, "gain"].mean()
        assert group.loc[group["value"] == ALL, "gain"].item() == pytest.approx(mean)
    assert (df["gain_lo"] <= df["gain"]).all() and (df["gain"] <= df["gain_hi"]).all()


@pytest.mark.parametrize(("a", "b"), [("paired", "statements"), ("statements", "statements")])
def test_gains_are_those_of_a_direct_measurement(
    done: tuple[TransferResult, Path], tiny_model: Any, sources: dict[str, str], a: str, b: str
) -> None:
    """Built and scored again without the study's pieces: statistics and neurons of a, unit and items of b."""
    from neva_tl.activations import collect
    from neva_tl.selection import select

    study = SMALL.study(models.info(tiny_model).name, sources[a], SMALL.values)
    made, scored = (limited(prompts.load(sources[s]).for_value(*SMALL.values), SMALL) for s in (a, b))
    stats = collect(tiny_model, made, split="train", pooling="mean", samples=True)
    judge = LogProbJudge.fit(tiny_model, scored, split="test")
    base = judge.measure(tiny_model)
    for method in SMALL.methods:
        for place, value in enumerate(SMALL.values):
            neurons = select(stats, value, method=study.selector, k=6, model=tiny_model, **study.selection)
            evidence = Evidence(tiny_model, stats, {value: neurons}, "generated", chat=True)
            with edit(tiny_model, build(method, evidence, value).with_dose(3.0)) as session:
                after = judge.measure(tiny_model, session)
            expected = (after.scores[place] - base.scores[place]).mean()
            df = done[0].df
            row = df[(df["source"] == a) & (df["scored"] == b) & (df["method"] == method) & (df["value"] == value)]
            assert row["gain"].item() == pytest.approx(expected, abs=2e-3)
            assert row["n"].item() == len(base.scores[place])


def test_a_second_call_measures_nothing_and_says_the_same(
    done: tuple[TransferResult, Path], tiny_model: Any, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was run again")

    from neva_tl.study.run import scorers, stages

    monkeypatch.setattr(stages, "collect", refuse)
    monkeypatch.setattr(scorers, "observe", refuse)
    again = transfer(tiny_model, sources, done[1], SMALL)
    pd.testing.assert_frame_equal(again.df, done[0].df)


def test_doses_are_searched_on_the_source_that_chose(tiny_model: Any, sources: dict[str, str], tmp_path: Path) -> None:
    from dataclasses import replace

    how = replace(SMALL, dose=None, target=0.05, values=("power",), methods=("caa",), measured=("power", "tradition"))
    found = transfer(tiny_model, sources, tmp_path, how).df
    for source in sources:
        rows = found[(found["source"] == source) & (found["value"] == "power")]
        assert rows["dose"].nunique() == 1 and rows["status"].isin(["reached", "unreached"]).all()
        stored = pd.read_json(tmp_path / source / "cells/dose/caa/power.json", typ="series")
        expected = stored["doses"]["0.05"] if stored["doses"]["0.05"] is not None else stored["best"]
        assert rows["dose"].iloc[0] == pytest.approx(expected)
    assert found.loc[found["gain_lo"] <= 0, "nlr"].isna().all()  # no ratio to a gain that may be none


def test_overlap_of_neurons_and_the_views(done: tuple[TransferResult, Path], tiny_model: Any) -> None:
    result = done[0]
    assert len(result.overlap) == 2 and (result.overlap["size_a"] <= 6).all()
    info = models.info(tiny_model)
    row = result.overlap.iloc[0]
    assert row["expected"] == pytest.approx(row["size_a"] * row["size_b"] / (info.n_layers * info.d_mlp))
    matrix = result.matrix("caa")
    assert matrix.index.tolist() == matrix.columns.tolist() == ["paired", "statements"]
    assert np.isfinite(matrix.to_numpy()).all() and "<table" in result._repr_html_()
    assert len(result.show().axes[0].get_yticklabels()) == 8
    with pytest.raises(InputError, match="nothing was measured for role"):
        result.matrix("role")


def test_values_that_all_sources_cover(sources: dict[str, str]) -> None:
    sets = {name: prompts.load(spec) for name, spec in sources.items()}
    assert covered(sets, TransferConfig()) == (("power", "tradition"), ("power", "tradition"))
    steered, measured = covered(sets, TransferConfig(values=("tradition",), measured=("power",)))
    assert steered == ("tradition",) and measured == ("power", "tradition")
    with pytest.raises(InputError, match="paired has no prompts for hedonism: all sources cover power, tradition"):
        covered(sets, TransferConfig(values=("hedonism",)))


@pytest.mark.parametrize(
    ("model", "names", "complaint"),
    [("demo", 2, "knows one source"), ("anything", 1, "two sources or more")],
)
def test_what_has_no_transfer(sources: dict[str, str], tmp_path: Path, model: str, names: int, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        transfer(model, dict(list(sources.items())[:names]), tmp_path)


def test_the_script_writes_its_tables(
    checkpoint: Path, sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    script = load_script("transfer")
    argv = [
        "transfer",
        "--model",
        str(checkpoint),
        "--out",
        str(tmp_path / "out"),
        "--value",
        "power",
        "--method",
        "caa",
    ]
    argv += ["--rows", "8", "--validation", "4", "--items", "4", "--dose", "1", "--k", "4"]
    for name, spec in sources.items():
        argv += ["--source", f"{name}={spec}"]
    monkeypatch.setattr("sys.argv", argv)
    assert script.main() == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "tables" / "transfer.csv")
    assert len(table) == 8 and "statements" in printed and (tmp_path / "out/tables/transfer_overlap.csv").exists()
    monkeypatch.setattr("sys.argv", [*argv[:3], "--source", "a=x.csv", "--source", "a=y.csv"])
    assert script.main() == 2 and "two sources are called 'a'" in capsys.readouterr().err


def test_sources_take_the_name_of_their_format_or_file() -> None:
    script = load_script("transfer")
    found = script.named(["schwartz", "persona:some/dir", "mine.csv", "x=valueeval:dir"])
    assert found == {"schwartz": "schwartz", "persona": "persona:some/dir", "mine": "mine.csv", "x": "valueeval:dir"}
