"""Two values steered together: which pairs, how two edits become one, the numbers, resuming, refusals."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.scripts import load_script
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueTheory
from neva_tl.core.values import VALUES, circular_distance
from neva_tl.editing import AddVector, edit
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.analyses.two_values import (
    TwoConfig,
    default_pairs,
    kind_of,
    numbers,
    pair_draws,
    together,
    two_values,
)

PAIR = ("power", "tradition")
CONFIG = TwoConfig(pairs=(PAIR,), shares=(1.0, 0.5))


@pytest.fixture
def run(neva_run: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(neva_run, tmp_path / "run"))


def scores(run: Run, name: str, value: str) -> np.ndarray:
    items = run.store.read_table(f"{name}.items")
    return items[(items["kind"] == "score") & (items["measured"] == value)].sort_values("item")["score"].to_numpy()


# ---------------------------------------------------------------- pairs


def test_default_pairs_are_neighbours_and_opposites() -> None:
    pairs = default_pairs(VALUES, SCHWARTZ)
    arcs = [circular_distance(*pair) for pair in pairs]
    assert arcs == [36.0] * 3 + [180.0] * 3 and len(set(pairs)) == 6
    assert [kind_of(*pair, SCHWARTZ) for pair in pairs] == ["compatible"] * 3 + ["opposed"] * 3
    # each pair once, whichever way around the circle
    every = default_pairs(VALUES, SCHWARTZ, most=10)
    assert len({frozenset(pair) for pair in every}) == len(every) == 15
    some = default_pairs(("universalism", "power", "self-direction"), SCHWARTZ)
    assert {frozenset(pair) for pair in some} == {
        frozenset(("self-direction", "universalism")),
        frozenset(("power", "universalism")),
    }
    with pytest.raises(InputError, match="no two of power, tradition are neighbours or opposed"):
        default_pairs(PAIR, SCHWARTZ)


def test_kinds() -> None:
    assert kind_of("self-direction", "universalism", SCHWARTZ) == "compatible"
    assert kind_of("power", "universalism", SCHWARTZ) == "opposed"
    assert kind_of("power", "tradition", SCHWARTZ) == "3 steps apart"
    with pytest.raises(InputError, match="are one value"):
        kind_of("power", "power", SCHWARTZ)
    with pytest.raises(InputError, match="unknown value"):
        kind_of("power", "kindness", SCHWARTZ)


def test_kinds_follow_the_angles_not_the_order_of_the_file() -> None:
    angles = {"north": 0, "south": 180, "east": 90, "west": 270, "north-east": 45}
    theory = ValueTheory.from_json({"values": [{"name": name, "angle": angle} for name, angle in angles.items()]})
    assert kind_of("north", "west", theory) == kind_of("north-east", "east", theory) == "compatible"
    assert kind_of("north", "south", theory) == "2 steps apart" == kind_of("north", "east", theory)


# ---------------------------------------------------------------- two edits as one


def logits(model: Any, *edits: Any) -> torch.Tensor:
    with edit(model, *(one.with_scope("all") for one in edits)):
        found: torch.Tensor = model(model.to_tokens("the old mill has two wheels"))
    return found


@pytest.mark.parametrize("method", ["neva_shift", "caa", "caa_projected"])
def test_a_second_edit_at_dose_zero_changes_nothing(run: Run, tiny_model: Any, method: str) -> None:
    a, b = (one.edit for one in run.edits(tiny_model, (method,), PAIR))
    only = together(a, b.with_dose(0.0))
    torch.testing.assert_close(logits(tiny_model, *only), logits(tiny_model, a), rtol=0, atol=1e-5)
    assert not torch.allclose(logits(tiny_model, *together(a, b)), logits(tiny_model, a), atol=1e-3)


def test_shifts_are_composed_and_vectors_added(run: Run, tiny_model: Any) -> None:
    a, b = (one.edit for one in run.edits(tiny_model, ("neva_shift",), PAIR))
    (one,) = together(a, b)
    torch.testing.assert_close(logits(tiny_model, one), logits(tiny_model, a, b), rtol=0, atol=1e-4)
    (half,) = together(a, b, 0.5)
    halves = (a.with_dose(a.dose / 2), b.with_dose(b.dose / 2))
    torch.testing.assert_close(logits(tiny_model, half), logits(tiny_model, *halves), rtol=0, atol=1e-4)
    v, w = (one.edit for one in run.edits(tiny_model, ("caa",), PAIR))
    (layer,) = v.vectors
    added = AddVector({layer: v.dose * v.vectors[layer] + w.dose * w.vectors[layer]}, scope=v.scope)
    pair = together(v, w)
    assert len(pair) == 2
    torch.testing.assert_close(logits(tiny_model, *pair), logits(tiny_model, added), rtol=0, atol=1e-4)


# ---------------------------------------------------------------- numbers


def test_measures_of_a_pair_by_hand() -> None:
    d = np.array([[0.4, 0.1, -0.2, 0.3], [0.2, 0.3, 0.0, -0.1]])
    positive = np.array([[0.4, 0.1, 0.0, 0.3], [0.2, 0.3, 0.0, 0.0]])
    single = np.array([[0.5, 0.5], [0.25, 0.25]])
    found = pair_draws(d, positive, [3, 0], single)
    expected = {
        "gain_a": [0.3, -0.1],
        "gain_b": [0.4, 0.2],
        "gain": [0.35, 0.05],
        "min_gain": [0.3, -0.1],
        "leakage": [0.05, 0.15],
        "kept": [0.7, 0.2],
    }
    assert {name: x.tolist() for name, x in found.items()} == {n: pytest.approx(x) for n, x in expected.items()}
    # two measured values leave none to leak to
    assert np.isnan(pair_draws(d[:, :2], positive[:, :2], [0, 1], single)["leakage"]).all()


def test_nlr_is_null_where_the_gain_may_be_nothing() -> None:
    rng = np.random.default_rng(0)
    leak = 0.1 + 0.01 * rng.standard_normal(501)
    firm, loose = 0.4 + 0.01 * rng.standard_normal(501), 0.1 + 0.2 * rng.standard_normal(501)
    assert numbers({"gain": firm, "leakage": leak}, 9)["nlr"] == pytest.approx(leak[0] / firm[0])
    assert numbers({"gain": loose, "leakage": leak}, 9)["nlr"] is None


def test_tables_are_those_of_the_items(run: Run, tiny_model: Any) -> None:
    tables, about = two_values(run, tiny_model, CONFIG)
    table = tables["two_values"]
    assert len(table) == 4 * 2 and set(table["kind"]) == {"3 steps apart"}
    base = [scores(run, "cells/base", value).mean() for value in PAIR]
    for _, row in table.iterrows():
        cell = f"cells/two_values/{row['method']}/power+tradition@0.2x{row['dose_share']:g}"
        gains = [scores(run, cell, value).mean() - before for value, before in zip(PAIR, base, strict=True)]
        assert [row["gain_a"], row["gain_b"]] == pytest.approx(gains)
        assert row["min_gain"] == pytest.approx(min(gains)) and row["gain"] == pytest.approx(np.mean(gains))
        alone = [
            scores(run, f"cells/measure/{row['method']}/{value}@0.2", value).mean() - before
            for value, before in zip(PAIR, base, strict=True)
        ]
        if sum(alone) > 0:
            assert row["kept"] == pytest.approx(sum(gains) / sum(alone))
        doses = [run.store.read_json(f"cells/measure/{row['method']}/{value}@0.2.json")["dose"] for value in PAIR]
        assert [row["dose_a"], row["dose_b"]] == doses
        assert np.isfinite([row["kl"], row["perplexity"], row["invalid"]]).all()
    # the condition is what its name says: both edits on, each at half its dose
    (a, b) = (one.edit for one in run.edits(tiny_model, ("neva",), PAIR))
    seen = run.cells(tiny_model).scorer.observe((a.with_dose(a.dose / 2), b.with_dose(b.dose / 2)), "test")
    np.testing.assert_allclose(
        scores(run, "cells/two_values/neva/power+tradition@0.2x0.5", "power"),
        seen.items.scores[seen.items.values.index("power")],
    )
    sets = [one.edit.neurons.df for one in run.edits(tiny_model, ("neva_shift",), PAIR)]
    both = sets[0].merge(sets[1], on=["layer", "neuron"])
    assert set(table.loc[table["method"] == "neva_shift", "shared"]) == {len(both)}
    assert table.loc[table["method"] == "caa", "shared"].isna().all()
    kinds = tables["two_values_kinds"].set_index(["method", "dose_share"])
    one = table[(table["method"] == "caa") & (table["dose_share"] == 0.5)].iloc[0]
    for column in ("gain", "gain_lo", "min_gain", "kl"):
        assert kinds.loc[("caa", 0.5), column] == pytest.approx(one[column])
    pairs = {(d["method"], d["less"]) for d in about["differences"]}
    assert pairs == {(m, v) for m in ("neva", "neva_shift") for v in ("caa", "caa_projected")}
    gap = next(
        d for d in about["differences"] if d["method"] == "neva" and d["less"] == "caa" and d["dose_share"] == 0.5
    )
    assert gap["gain"]["est"] == pytest.approx(kinds.loc[("neva", 0.5), "gain"] - kinds.loc[("caa", 0.5), "gain"])


def test_nothing_is_measured_twice(run: Run, tiny_model: Any, killed_after: Callable[[int], None]) -> None:
    config = TwoConfig(pairs=(PAIR,), methods=("neva_shift", "caa"))
    killed_after(1)
    with pytest.raises(KeyboardInterrupt):
        two_values(run, tiny_model, config)
    killed_after(1)  # one of the two conditions was kept
    first, _ = two_values(run, tiny_model, config)
    again, _ = two_values(run, tiny_model, config)
    for name, table in first.items():
        pd.testing.assert_frame_equal(again[name], table)


# ---------------------------------------------------------------- command


@pytest.fixture
def command(
    run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs analyses/two_values.py on the run."""
    module = load_script("two_values")

    def call(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["two_values.py", str(run.store.root), "--model", str(checkpoint), *argv])
        capsys.readouterr()
        status = module.script("two_values", module.__doc__, module.act, module.options)
        return (status, *capsys.readouterr())

    return call


def test_command(command: Callable[..., tuple[int, str, str]], run: Run) -> None:
    status, out, _ = command("--pair", "power,tradition", "--method", "neva_shift", "--method", "caa")
    assert status == 0 and "3 steps apart" in out
    for name in ("two_values", "two_values_kinds"):
        assert len(run.store.read_table(f"tables/{name}")) == 2
    assert run.store.read_json("two_values.json")["pairs"] == [["power", "tradition"]]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "no two of power, tradition are neighbours or opposed"),
        (("--pair", "power"), "two values separated by a comma"),
        (("--pair", "power,hedonism"), "no value 'hedonism'"),
        (("--pair", "power,power"), "are one value"),
        (("--pair", "power,tradition", "--method", "lape"), "no method 'lape'"),
        (("--pair", "power,tradition", "--method", "role"), "has no dose"),
        (("--pair", "power,tradition", "--share", "0"), "shares of the dose must be above 0"),
        (("--pair", "power,tradition", "--shared", "first"), "unknown rule 'first'"),
        (("--pair", "power,tradition", "--target", ".3"), "matched gains at 0.2, not at 0.3"),
    ],
)
def test_command_refuses(
    command: Callable[..., tuple[int, str, str]], run: Run, argv: tuple[str, ...], message: str
) -> None:
    status, out, err = command(*argv)
    assert status == 2 and out == "" and message in err and len(err.strip().splitlines()) == 1
    assert not run.store.has("two_values.json") and not run.store.has("cells/two_values")
