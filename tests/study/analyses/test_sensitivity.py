"""Sensitivity and sparsity of a small finished run: levels, subsets, the run's own cell again, resuming, refusals."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from neva_tl import selection
from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.methods import build
from neva_tl.study.analyses import variants as levels_of
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.analyses.sensitivity import (
    EMPTY,
    Lab,
    SensitivityConfig,
    level_row,
    read_level,
    sensitivity,
    spread_values,
)
from neva_tl.study.analyses.sparsity import ALL, over_values, sizes, smallest_k, sparsity
from neva_tl.study.analyses.variants import OWN, Setting, Variant, variants
from neva_tl.study.run import stages
from neva_tl.study.run.cell_runner import grid_of
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer

STEERED = ("power", "tradition")


@pytest.fixture
def run(neva_run: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(neva_run, tmp_path / "run"))


@pytest.fixture
def lab(run: Run, tiny_model: Any) -> Lab:
    return Lab.open(run, tiny_model)


def scores(store: RunFolder, name: str, value: str) -> np.ndarray:
    """A cell's scores of one value, in the order of its items."""
    items = store.read_table(f"{name}.items")
    return items[(items["kind"] == "score") & (items["measured"] == value)].sort_values("item")["score"].to_numpy()


# ---------------------------------------------------------------- levels


def names(setting: Setting, factor: str, method: str = "neva") -> list[str]:
    return [variant.level for variant in variants(factor, setting, method)]


def test_levels_lie_around_the_runs_own_setting(lab: Lab) -> None:
    most = max(len(lab.evidence.neurons[value]) for value in STEERED)
    levels = variants("k", lab.setting, "neva")
    assert levels[0].own and all(0 < variant.k < most for variant in levels[1:] if variant.k is not None)
    assert names(lab.setting, "lam") == [OWN, "0.5", "1", "2"]
    assert names(lab.setting, "lam_write") == [OWN, "0", "1", "4"]
    assert set(names(lab.setting, "layers")) == {OWN, "0", "1", "2"}
    assert names(lab.setting, "dose")[1:] == [f"{dose:g}" for dose in grid_of("neva")]
    assert names(lab.setting, "dose", "neva_shift")[1:] == [f"{dose:g}" for dose in grid_of("neva_shift")]
    assert names(lab.setting, "pairs") == []  # ten pairs: no level is below


def test_parts_are_named_by_what_they_are(lab: Lab) -> None:
    """A run without specificity, FDR or a relevance gate: they are put in, and nothing is taken out twice."""
    own = lab.setting
    assert names(own, "part") == [OWN, "no specificity", "with FDR", "ranked along a direction", "correlational only"]
    options: dict[str, Any] = {"lam": 0.0, "lam_write": 0.0, "require_q": False}
    plain = replace(own, config=replace(own.config, selector="neva", selection=options))
    assert names(plain, "lam_write") == [OWN, "1", "2", "4"]
    assert names(plain, "part") == [OWN, "with specificity", "no projection", "with FDR", "correlational only"]
    options = {"lam": 1.0, "lam_write": 2.0, "project": False}
    rich = replace(plain, config=replace(plain.config, selection=options, gate="relevance"))
    expected = [OWN, "no specificity", "with projection", "no FDR", "correlational only", "no relevance gate"]
    assert names(rich, "part") == expected
    simple = replace(plain, config=replace(plain.config, selector="effect_size", selection={}))
    assert names(simple, "part") == [OWN, "no specificity", "no FDR"]
    assert names(simple, "lam_write") == []
    for factor in ("k", "dose", "lam", "layers", "part"):
        folders = [variant.name for variant in variants(factor, rich, "neva")]
        assert len(set(folders)) == len(folders) and not any(set(" ,/") & set(name) for name in folders)


def test_values_are_spread() -> None:
    ten = [str(i) for i in range(10)]
    assert spread_values(ten) == ("0", "3", "6") and spread_values(ten[:2]) == ("0", "1")


def test_all_names_every_value_of_the_run(run: Run) -> None:
    assert SensitivityConfig(values=("all",)).of_run(run).values == run.values()
    with pytest.raises(InputError, match="no value 'all'"):
        SensitivityConfig(values=("power", "all")).of_run(run)


# ---------------------------------------------------------------- neurons and statistics of a level


def test_statistics_of_fewer_pairs_are_those_of_their_rows(lab: Lab) -> None:
    """What is collected on a part of the pairs is what the samples of the whole run say of these rows."""
    fewer = lab.stats(6)
    assert lab.stats(6) is fewer and lab.stats(None) is lab.evidence.stats
    chosen = stages.limit_rows(lab.run.pairs(), 6).split("train").df["pair_id"]
    samples = lab.evidence.stats.samples
    assert samples is not None and chosen.nunique() == 12
    rows = samples.table["pair_id"].isin(set(chosen)).to_numpy()
    table = samples.table[rows].reset_index(drop=True)
    oracle = ActivationStats.from_samples(np.asarray(samples.h[rows]), table)
    assert fewer.samples is not None and len(fewer.samples.table) == len(table) == 24
    for value in STEERED:
        for ours, theirs in zip(fewer.pair_moments(value), oracle.pair_moments(value), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(fewer.delta(value), oracle.delta(value), rtol=1e-4, atol=1e-6)
    whole = lab.evidence.stats.delta("power")
    assert not np.allclose(fewer.delta("power"), whole, rtol=1e-3)


def test_neurons_of_levels(lab: Lab) -> None:
    own = lab.evidence.neurons["power"]

    def at(**fields: Any) -> pd.DataFrame:
        return lab.neurons(Variant("x", "y", **fields), "power").df[["layer", "neuron"]].reset_index(drop=True)

    first = own.df[["layer", "neuron"]]
    pd.testing.assert_frame_equal(at(k=3), first.head(3))
    pd.testing.assert_frame_equal(at(), first)
    # selected again with the run's own options: the run's own set
    again = at(selection={"lam": lab.run.config.selection["lam"]})
    pd.testing.assert_frame_equal(again, first, check_dtype=False)
    effect = selection.select(
        lab.evidence.stats, "power", method="effect_size", k=len(own), lam=0.0, require_q=False, flips=0
    )
    found = at(selection={"selector": "effect_size"})
    pd.testing.assert_frame_equal(found, effect.df[["layer", "neuron"]], check_dtype=False)
    assert set(at(selection={"layers": (1,)})["layer"]) == {1}


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize("method", ["neva", "neva_shift"])
def test_the_whole_set_is_the_runs_own_cell(lab: Lab, tmp_path: Path, method: str) -> None:
    """Searched and measured again through a level that changes nothing: the run's own dose and items, to the last digit."""
    fresh = replace(lab, cells=replace(lab.cells, store=RunFolder(tmp_path / "again")))
    for value in STEERED:
        nothing = Variant("k", "all", k=None)
        fresh.measure(method, [(nothing, value)])
        name, own = fresh.cell(method, nothing, value), f"cells/measure/{method}/{value}@0.2"
        assert name != own
        here, there = fresh.cells.store, lab.run.store
        pd.testing.assert_frame_equal(here.read_table(f"{name}.items"), there.read_table(f"{own}.items"))
        record = here.read_json(f"{name}.json")
        assert record.pop("n_neurons") == len(lab.evidence.neurons[value])
        assert record == there.read_json(f"{own}.json")
        # and so a level that keeps all of a value's neurons is not measured
        assert lab.cell(method, Variant("k", "999", k=999), value) == own
        assert lab.cell(method, Variant("k", OWN), value) == own


def test_a_level_is_the_edit_it_says(lab: Lab) -> None:
    """A fixed dose of few neurons: its gain is that of the edit built by hand and scored by the run's judge."""
    variant = Variant("k", "2 at 3", k=2, dose=3.0)
    lab.measure("neva_shift", [(variant, "power")])
    name = lab.cell("neva_shift", variant, "power")
    own = lab.evidence.neurons["power"]
    evidence = replace(lab.evidence, neurons={"power": own.head(2)})
    by_hand = lab.cells.scorer.observe((build("neva_shift", evidence, "power").with_dose(3.0),), "test")
    found = scores(lab.cells.store, name, "power")
    np.testing.assert_allclose(found, by_hand.items.scores[by_hand.items.values.index("power")])
    assert lab.cells.store.read_json(f"{name}.json")["status"] == "fixed"


def test_a_level_without_neurons_says_so(lab: Lab) -> None:
    variant = Variant("part", "nothing passes", selection={"require_q": True, "delta": 60.0})
    lab.measure("neva", [(variant, value) for value in STEERED])
    level = read_level(lab, "neva", variant)
    assert level.entry is None and level.neurons == {"power": 0, "tradition": 0}
    assert lab.cells.store.read_json(f"{lab.cell('neva', variant, 'power')}.json")["status"] == EMPTY
    row = level_row(level, read_level(lab, "neva", Variant("part", OWN)), 0, 50)
    assert row["values"] == "0/2" and "gain" not in row


SOME = SensitivityConfig(factors=("k",), methods=("neva_shift",))


@pytest.fixture(autouse=True)
def two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level is a search for every value: two sizes of sets are enough here."""
    monkeypatch.setattr(levels_of, "K_SHARES", (1 / 8, 1 / 2))


@pytest.fixture(scope="module")
def whole(
    neva_run: Path, tiny_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, dict[str, pd.DataFrame], dict[str, Any]]:
    """A call without interruption, and its run."""
    run = Run.open(shutil.copytree(neva_run, tmp_path_factory.mktemp("whole") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels_of, "K_SHARES", (1 / 8, 1 / 2))
        return (run, *sensitivity(run, tiny_model, SOME))


def test_tables(whole: tuple[Run, dict[str, pd.DataFrame], dict[str, Any]], tiny_model: Any) -> None:
    run, tables, numbers = whole
    table, by_value = tables["sensitivity"], tables["sensitivity_values"]
    assert set(table["factor"]) == {"k"} and set(table["values"]) == {"2/2"} and len(table) == 3
    # the run's own rows are the run's
    own = table[table["own"]].iloc[0]
    headline = run.store.read_table("tables/methods").set_index("method").loc["neva_shift"]
    for column in ("gain", "gain_lo", "gain_hi", "leakage", "nlr", "kl", "ppl", "dose"):
        assert own[column] == pytest.approx(headline[column], nan_ok=True), column
    # the others are the means of their items
    base = {value: scores(run.store, "cells/base", value) for value in STEERED}
    for _, row in table[~table["own"]].iterrows():
        one = by_value[(by_value["factor"] == row["factor"]) & (by_value["level"] == row["level"])]
        assert row["gain"] == pytest.approx(one["gain"].mean()) and row["neurons"] == one["neurons"].mean()
        assert row["gain_lo"] <= row["gain"] <= row["gain_hi"]
    lab = Lab.open(run, tiny_model, SOME)
    two = variants("k", lab.setting, "neva_shift")[1]
    for value in STEERED:
        change = scores(run.store, lab.cell("neva_shift", two, value), value) - base[value]
        row = by_value[(by_value["level"] == two.level) & (by_value["steered"] == value)].iloc[0]
        assert row["gain"] == pytest.approx(change.mean())
    assert numbers["target_gain"] == 0.2 and numbers["seed"] == run.config.seed
    assert len(numbers["levels"]) == len(table) and numbers["levels"][0]["gain"]["lo"] is not None


def test_a_killed_call_goes_on_and_a_second_one_only_reads(
    run: Run,
    tiny_model: Any,
    whole: tuple[Run, dict[str, pd.DataFrame], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    killed_after: Callable[[int], None],
) -> None:
    killed_after(9)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(run, tiny_model, SOME)
    folder = run.store.root / "cells" / "sensitivity"
    done = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    assert done
    killed_after(10**9)
    resumed, _ = sensitivity(run, tiny_model, SOME)
    for name, table in whole[1].items():
        pd.testing.assert_frame_equal(resumed[name], table)
    assert {file: file.stat().st_mtime_ns for file in done} == done
    monkeypatch.setattr(Scorer, "observe", lambda *args, **options: pytest.fail("measured again"))
    monkeypatch.setattr(Lab, "edit", lambda *args: pytest.fail("built again"))
    sensitivity(run, tiny_model, SOME)


# ---------------------------------------------------------------- sparsity


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({10: 0.1, 20: 0.19, 40: 0.2}, 20),
        ({10: 0.18, 20: 0.19, 40: 0.2}, 10),
        ({10: 0.3, 20: 0.1, 40: 0.2}, 40),  # one lucky small set does not count
        ({10: 0.3, 20: 0.25, 40: 0.2}, 10),
        ({10: 0.0, 20: 0.1, 40: 0.2}, 40),
        ({10: 0.1, 20: 0.2, 40: 0.0}, None),
        ({5: 0.2}, 5),
    ],
)
def test_smallest_k(gains: dict[int, float], expected: int | None) -> None:
    assert smallest_k(gains) == expected


def test_smallest_k_depends_on_the_share() -> None:
    gains = {10: 0.1, 20: 0.15, 40: 0.2}
    assert [smallest_k(gains, keep) for keep in (0.5, 0.75, 0.9)] == [10, 20, 40]


def test_sizes_end_at_the_whole_set() -> None:
    assert sizes(64) == [2, 4, 8, 16, 32, 48, 64] and sizes(1) == [1]


def test_interval_over_values() -> None:
    found = over_values([0.1, 0.2, 0.3], 0, 4000)
    assert found.est == pytest.approx(0.2) and found.lo is not None and found.hi is not None
    # one of 27 equally likely resamples is the smallest value thrice: more than the tail of 2.5 %
    assert (found.lo, found.hi) == (pytest.approx(0.1), pytest.approx(0.3))
    # of ten values the smallest is never drawn ten times over: the interval of a mean, near 2 standard errors wide
    ten = np.linspace(0, 1, 10)
    wide = over_values(list(ten), 0, 4000)
    assert wide.lo is not None and wide.est - wide.lo == pytest.approx(1.96 * ten.std() / np.sqrt(10), rel=0.1)
    assert over_values([0.1], 0, 100).lo is None and over_values([], 0, 100).est is None


def test_sparsity(run: Run, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gains on validation prompts are made up for one value (a random model gains little), the other's are measured."""
    config = SensitivityConfig(methods=("neva_shift",))
    lab = Lab.open(run, tiny_model, config)
    scorer, full = lab.cells.scorer, {value: len(lab.evidence.neurons[value]) for value in STEERED}
    known = run.store.read_table("tables/values").set_index(["method", "steered"]).loc["neva_shift"]
    dose = float(known.loc["power", "dose"])
    made_up = {"dose": dose, "k": [2, 4, full["power"]], "gain": [0.1, 0.19, 0.2]}
    run.store.write_json("cells/sparsity/neva_shift/power@0.2.curve.json", made_up)
    tables, numbers = sparsity(run, tiny_model, config)
    table, curve = tables["sparsity"].set_index("value"), tables["sparsity_curve"].set_index("value")

    def gain(value: str, k: int, split: str) -> float:
        evidence = replace(lab.evidence, neurons={value: lab.evidence.neurons[value].head(k)})
        towards = build("neva_shift", evidence, value).with_dose(float(known.loc[value, "dose"]))
        return scorer.observe((towards,), split).csr(value) - scorer.observe((), split).csr(value)

    row = table.loc["power"]
    total = lab.evidence.stats.n_layers * lab.evidence.stats.d_mlp
    assert (row["k"], row["full"], row["dose"]) == (4, full["power"], dose)
    assert row["share"] == pytest.approx(4 / total)
    assert row["gain"] == pytest.approx(gain("power", 4, "test"))
    assert row["gain_full"] == pytest.approx(known.loc["power", "gain"])
    if row["gain_full"] > 0:
        assert row["kept"] == pytest.approx(row["gain"] / row["gain_full"])
    assert curve.loc["power", "chosen"].tolist() == [False, True, False]
    measured = curve.loc["tradition"]
    assert measured["k"].tolist() == sizes(full["tradition"])
    for _, point in measured.iloc[[0, -1]].iterrows():
        assert point["gain"] == pytest.approx(gain("tradition", int(point["k"]), "validation"))
    expected = smallest_k(dict(zip(measured["k"], measured["gain"], strict=True)))
    chosen = [4] if expected is None else [4, expected]
    assert measured.loc[measured["chosen"], "k"].tolist() == chosen[1:]
    assert table.loc[ALL, "k"] == pytest.approx(np.mean(chosen))
    assert numbers["neva_shift"]["share"]["est"] == pytest.approx(np.mean(chosen) / total)
    assert numbers["neva_shift"]["values"] == f"{len(chosen)}/2"
    monkeypatch.setattr(Scorer, "observe", lambda *args, **options: pytest.fail("measured again"))
    again, _ = sparsity(run, tiny_model, config)
    pd.testing.assert_frame_equal(again["sparsity"], tables["sparsity"])


# ---------------------------------------------------------------- command


@pytest.fixture
def command(
    run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs analyses/sensitivity.py on the run."""
    module = load_script("sensitivity")

    def call(*argv: str) -> tuple[int, str, str]:
        argv = (str(run.store.root), "--model", str(checkpoint), *argv)
        monkeypatch.setattr(sys, "argv", ["sensitivity.py", *argv])
        capsys.readouterr()
        status = module.script("sensitivity", module.__doc__, module.act, module.options)
        return (status, *capsys.readouterr())

    return call


def test_command(command: Callable[..., tuple[int, str, str]], run: Run) -> None:
    status, out, _ = command("--factor", "k", "--method", "neva_shift", "--value", "power")
    assert status == 0 and "as run" in out and "kept" in out
    for name in ("sensitivity", "sensitivity_values", "sparsity", "sparsity_curve"):
        assert len(run.store.read_table(f"tables/{name}")) and run.store.has(f"tables/{name}.csv")
    numbers = run.store.read_json("sensitivity.json")
    assert numbers["values"] == ["power"] and set(numbers["sparsity"]) == {"neva_shift"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--value", "hedonism"), "no value 'hedonism' to vary"),
        (("--value", "kindness"), "no value 'kindness' to vary"),
        (("--factor", "width"), "no factor 'width' to vary"),
        (("--method", "caa"), "no method 'caa' to vary"),
        (("--target", ".3"), "matched gains at 0.2, not at 0.3"),
    ],
)
def test_command_refuses(
    command: Callable[..., tuple[int, str, str]], run: Run, argv: tuple[str, ...], message: str
) -> None:
    status, out, err = command(*argv)
    assert status == 2 and out == "" and message in err and len(err.strip().splitlines()) == 1
    assert not run.store.has("sensitivity.json") and not run.store.has("cells/sensitivity")


def test_a_run_on_other_prompts_is_refused(run: Run) -> None:
    manifest = run.manifest | {"prompt_hash": "0" * 64}
    with pytest.raises(InputError, match="made on other prompts"):
        replace(run, manifest=manifest).pairs()
