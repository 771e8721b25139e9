"""Transfer on a random model and tiny sources: what is chosen where, scored where, kept, and refused."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from neva_tl import models, prompts
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, edit
from neva_tl.evaluation import LogProbJudge
from neva_tl.evaluation.conditions.observe import Observed
from neva_tl.methods import Evidence, build
from neva_tl.study.analyses.transfer import ALL, TransferConfig, TransferResult, covered, limited, phrased, transfer
from neva_tl.study.analyses.transfer.leave_out import JointCells
from neva_tl.study.run.config import Profile
from neva_tl.study.run.run_folder import RunFolder

#: Another way of saying the same, about other things, and a value that the first source lacks.
ANSWERS = {
    "power": ("I would seize the {thing} and command all.", "I would rather follow others in the {thing}."),
    "tradition": ("Our fathers kept the {thing} and so shall we.", "The {thing} of our fathers is dead to me."),
    "hedonism": ("Enjoy the {thing} and feast.", "Fast, and shut the {thing}."),
}
THINGS = "wall gate hall court guild barn camp fleet port league chapel archive mine lodge cellar dyke quarry canal"
SMALL = TransferConfig(values=("power", "tradition"), k=6, rows=10, validation=6, items=5, n_boot=50, dose=3.0)

PHRASED = replace(SMALL, methods=("neva_shift", "caa"), phrasings=2)
HELPFUL = "You are a helpful assistant."


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
def own_words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pairs as `prompts.from_model` saves them: an answer as the span, and a neutral system prompt; power only."""
    rows = []
    for number, thing in enumerate(THINGS.split()):
        question = f"What would you do with a {thing}?"
        for pole, answer in zip("+-", ANSWERS["power"], strict=True):
            text = f"{question} {answer.format(thing=thing)}"
            about = {"value": "power", "pair_id": f"power {number}", "pole": pole, "cluster": thing, "system": HELPFUL}
            rows.append(about | {"text": text, "answer_start": len(question) + 1, "answer_end": len(text)})
    pairs = prompts.ContrastSet(pd.DataFrame(rows), "own words", provenance={"kind": "own words", "judge": "words"})
    return str(pairs.save(tmp_path_factory.mktemp("own") / "own.parquet"))


@pytest.fixture(scope="module")
def three(
    tiny_model: Any, sources: dict[str, str], own_words: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TransferResult, Path]:
    """Three sources, one of which covers power alone, under two system prompts."""
    out = tmp_path_factory.mktemp("three")
    return transfer(tiny_model, {**sources, "own": own_words}, out, PHRASED), out


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


def test_cells_of_earlier_versions_are_read_and_those_of_another_dose_are_not(
    done: tuple[TransferResult, Path], tiny_model: Any, sources: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "old"
    shutil.copytree(done[1], out)
    fewer = replace(SMALL, methods=("caa",))
    expected = done[0].df[done[0].df["method"] == "caa"].reset_index(drop=True)
    for source in sources:
        store = RunFolder(out / source)
        for cell in (out / source / "transfer").rglob("*.parquet"):  # cells did not contain their dose
            name = str(cell.relative_to(out / source).with_suffix(""))
            store.write_table(name, store.read_table(name).drop(columns="dose"), csv=False)
    from neva_tl.study.run import scorers

    observe, count = scorers.observe, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return observe(*args, **kwargs)

    monkeypatch.setattr(scorers, "observe", counted)
    old = transfer(tiny_model, sources, out, fewer).df
    assert count == 0
    pd.testing.assert_frame_equal(old, expected)
    copy = tmp_path / "copy"
    shutil.copytree(done[1], copy)
    stronger = transfer(tiny_model, sources, copy, replace(fewer, dose=6.0)).df
    assert count == 2 * 2 * 2 and (stronger["gain"] != expected["gain"]).all()


def test_doses_are_searched_on_the_sources_that_chose(
    tiny_model: Any, sources: dict[str, str], own_words: str, tmp_path: Path
) -> None:
    how = replace(SMALL, dose=None, target=0.05, values=("power",), methods=("caa",), measured=("power", "tradition"))
    found = transfer(tiny_model, {**sources, "own": own_words}, tmp_path, how).df
    of_folder = {name: name for name in (*sources, "own")} | {"leave own out": "pooled-paired+statements"}
    for source, folder in of_folder.items():
        rows = found[(found["source"] == source) & (found["value"] == "power")]
        assert rows["dose"].nunique() == 1 and rows["status"].isin(["reached", "unreached"]).all()
        stored = pd.read_json(tmp_path / folder / "cells/dose/caa/power.json", typ="series")
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


def test_sources_may_cover_other_values_and_pairs_in_the_models_own_words(
    three: tuple[TransferResult, Path], sources: dict[str, str], own_words: str
) -> None:
    df = three[0].df
    assert set(df.loc[df["scored"] == "own", "value"]) == {"power", ALL}
    assert set(df.loc[df["scored"] == "paired", "value"]) == {"power", "tradition", ALL}
    together = df[df["value"] == ALL].set_index(["source", "scored"])["n_values"]
    assert (together["paired", "statements"] == 2).all() and (together["own", "statements"] == 1).all()
    assert three[0].overlap["value"].value_counts().to_dict() == {"power": 3, "tradition": 1}
    sets = {name: prompts.load(spec) for name, spec in {**sources, "own": own_words}.items()}
    assert covered(sets, TransferConfig()) == (("power",), ("power",))
    assert covered(sets, PHRASED)[0] == ("power", "tradition")
    with pytest.raises(InputError, match="own has no prompts for tradition: it covers power"):
        covered(sets, TransferConfig(values=("tradition",)))
    with pytest.raises(InputError, match="no source has prompts for security"):
        covered(sets, TransferConfig(values=("power",), measured=("security",)))


def test_one_source_is_left_out_at_a_time(three: tuple[TransferResult, Path], tiny_model: Any) -> None:
    from neva_tl.activations import ActivationStats
    from neva_tl.selection import select

    df, out = three
    rows = df.df[df.df["source"].str.startswith("leave ")]
    assert set(zip(rows["source"], rows["scored"], strict=True)) == {
        (f"leave {name} out", f"{name}{phrasing}")
        for name in ("paired", "statements", "own") for phrasing in ("", ", phrasing 2")
    }  # fmt: skip
    # two sources cover tradition, so that none of them can be left out of a selection on two
    assert set(rows["value"]) == {"power", ALL} and rows["gain"].notna().all()
    stats = {name: ActivationStats.load(out / name / "stats/stats") for name in ("own", "statements")}
    expected = select(stats, "power", k=6, require_q=False)
    from neva_tl.core.neuron_set import NeuronSet

    stored = NeuronSet.load(out / "pooled-own+statements/neurons/power")
    pd.testing.assert_frame_equal(stored.df, expected.df, check_dtype=False)


def test_the_gain_of_a_row_left_out_is_that_of_a_direct_measurement(
    three: tuple[TransferResult, Path], tiny_model: Any, sources: dict[str, str]
) -> None:
    """The vector is the mean of the sources' vectors, whatever their numbers of texts; the neurons those of the pooled effect."""
    from neva_tl.activations import ActivationStats
    from neva_tl.core.neuron_set import NeuronSet
    from neva_tl.editing import Amplify
    from neva_tl.methods.caa import default_layers

    df, out = three
    stats = [ActivationStats.load(out / name / "stats/stats") for name in ("own", "statements")]
    assert stats[0].n.sum() != stats[1].n.sum()
    (layer,) = default_layers(stats[0].n_layers)
    vector = np.mean([one.direction("power")[layer] for one in stats], axis=0).astype(np.float32)
    neurons = NeuronSet.load(out / "pooled-own+statements/neurons/power")
    edits = {"caa": AddVector({layer: vector}, scope="generated"), "neva_shift": Amplify(neurons, scope="generated")}
    pairs = limited(prompts.load(sources["paired"]).for_value(*SMALL.values), SMALL)
    judge = LogProbJudge.fit(tiny_model, pairs, split="test")
    for phrasing, of in (("", judge), (", phrasing 2", phrased(judge, HELPFUL))):
        base = of.measure(tiny_model)
        for method, made in edits.items():
            with edit(tiny_model, made.with_dose(3.0)) as session:
                after = of.measure(tiny_model, session)
            rows = df.df[(df.df["scored"] == f"paired{phrasing}") & (df.df["source"] == "leave paired out")]
            row = rows[(rows["method"] == method) & (rows["value"] == "power")]
            assert row["gain"].item() == pytest.approx((after.scores[0] - base.scores[0]).mean(), abs=2e-3)


def test_another_phrasing_is_the_same_items_in_the_same_unit(
    three: tuple[TransferResult, Path], tiny_model: Any, sources: dict[str, str]
) -> None:
    df = three[0].df
    for name, expected in {"paired": ["", HELPFUL], "own": [HELPFUL, ""]}.items():
        of = df[df["scored"].isin([name, f"{name}, phrasing 2"])]
        assert of.groupby("scored", sort=True)["system"].unique().map(list).tolist() == [[text] for text in expected]
    pairs = prompts.load(sources["paired"])
    judge = LogProbJudge.fit(tiny_model, pairs, per_value=3)
    other = phrased(judge, HELPFUL)
    assert other.sd == judge.sd and other.pairs.df["system"].eq(HELPFUL).all()
    assert (
        other.only(per_value=3).items.examples == other.items.examples
    )  # as the pairs with the column `system` have them
    assert phrased(other, None).items.examples == judge.items.examples and phrased(other, None).pairs.hash == pairs.hash
    assert other.neutral is not None and other.neutral.examples[0].turns == (("system", HELPFUL),)
    assert not np.allclose(other.measure(tiny_model).scores[0], judge.measure(tiny_model).scores[0])


def test_what_an_edit_has_seen(three: tuple[TransferResult, Path]) -> None:
    df = three[0].df
    seen = df.drop_duplicates(["source", "scored"]).set_index(["source", "scored"])["seen"]
    assert seen["paired", "paired"] == "both" and seen["paired", "paired, phrasing 2"] == "source"
    # the own words were written under the other sources' second phrasing, and their second is the others' first
    assert seen["paired", "own"] == "neither" and seen["paired", "own, phrasing 2"] == "phrasing"
    assert seen["own", "paired"] == "neither" and seen["own", "statements, phrasing 2"] == "phrasing"
    assert seen["leave paired out", "paired"] == "phrasing" == seen["leave paired out", "paired, phrasing 2"]
    assert seen["leave own out", "own"] == "neither" and seen["leave own out", "own, phrasing 2"] == "phrasing"
    matrix = three[0].matrix("caa")
    assert matrix.shape == (6, 6) and np.isnan(matrix.loc["leave own out", "paired"])


def test_three_sources_resume(
    three: tuple[TransferResult, Path], tiny_model: Any, sources: dict[str, str], own_words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was run again")

    from neva_tl.study.run import scorers, stages

    monkeypatch.setattr(stages, "collect", refuse)
    monkeypatch.setattr(scorers, "observe", refuse)
    again = transfer(tiny_model, {"own": own_words, **sources}, three[1], PHRASED)  # in another order
    key = ["source", "scored", "method", "value"]
    pd.testing.assert_frame_equal(
        again.df.sort_values(key, ignore_index=True), three[0].df.sort_values(key, ignore_index=True)
    )


def test_dose_points_of_several_sources_are_their_mean_gain() -> None:
    class Scores(Observed):
        def __init__(self, **csr: float) -> None:
            object.__setattr__(self, "means", csr)

        def csr(self, value: str) -> float:
            return float(vars(self)["means"][value])

    class Source:
        """Gains the dose times its slope over its unedited score, on the values that it covers."""

        def __init__(self, slope: float, base: float, *values: str) -> None:
            self.values, self.slope, self.base, self.scorer, self.reads = values, slope, base, self, False
            self.base_validation, self.base_invalid = Scores(**dict.fromkeys(values, base)), 0.125

        def observe(self, edits: Any, split: str, values: Any) -> Scores:
            assert split == "validation" and set(values) <= set(self.values)
            return Scores(**{value: self.base + self.slope * edits[0].dose for value in values})

    runners: Any = (Source(0.1, 5.0, "power", "tradition"), Source(0.3, -2.0, "power"))
    cells = object.__new__(JointCells)  # the constructor takes real cells only
    vars(cells).update(runners=runners, scorer=runners[0], profile=Profile(1, 1, 1, 1, (9.0,), 0, 1, 1))
    made = AddVector({0: np.zeros(2, dtype=np.float32)}, dose=2.0)
    both, one = cells.dose_points([("power", made), ("tradition", made)])
    assert (both.gain, one.gain) == (pytest.approx(0.4), pytest.approx(0.2))
    assert both.invalid == 0.0 and cells.base_invalid == 0.125


def test_what_phrasings_and_rows_left_out_cannot_have(
    sources: dict[str, str], own_words: str, folders: dict[str, Path], tiny_model: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="phrasings is 4: choose 1"):
        replace(SMALL, phrasings=4)
    plain = models.load(folders["llama"])
    with pytest.raises(InputError, match="no chat template, so that no other system prompt can be scored"):
        transfer(plain, sources, tmp_path / "plain", replace(SMALL, phrasings=2))
    # a placebo repeats the selection on one source: it has no row on several
    config = replace(SMALL, methods=("random", "caa"), values=("power",))
    df = transfer(tiny_model, {**sources, "own": own_words}, tmp_path / "placebo", config).df
    assert set(df.loc[df["source"] == "leave own out", "method"]) == {"caa"} and "random" in set(df["method"])
