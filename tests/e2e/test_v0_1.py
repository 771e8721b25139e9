"""Artefacts of version 0.1.0 load, are re-opened and resume, and no text is written again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import neva_tl as nv
from helpers.paths import FIXTURES, ROOT
from neva_tl.core.cache import JsonCache
from neva_tl.editing import (
    ContextAware,
    Edit,
    GateShift,
    LayerProbe,
    ProbedVector,
    PromptShift,
    RelevanceGate,
    compose,
    identity,
)
from neva_tl.evaluation.judges.cached import judge_identity
from neva_tl.models.inference import generation
from neva_tl.study import Study
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.run import tables

V0_1 = FIXTURES / "v0.1"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the run folder."""
    return Path(shutil.copytree(V0_1 / "run", tmp_path / "run"))


@pytest.fixture
def no_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any decoding of a text fails the test."""

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a text was written again")

    monkeypatch.setattr(generation, "decode", refuse)


@pytest.fixture(scope="module")
def neurons() -> nv.NeuronSet:
    return nv.NeuronSet.load(V0_1 / "run" / "neurons" / "benevolence")


@pytest.fixture(scope="module")
def power() -> nv.NeuronSet:
    return nv.NeuronSet.load(V0_1 / "run" / "neurons" / "power")


@pytest.fixture(scope="module")
def gate() -> RelevanceGate:
    return RelevanceGate.load(V0_1 / "run" / "gate.safetensors")


def edits(neurons: nv.NeuronSet, power: nv.NeuronSet, gate: RelevanceGate) -> dict[str, Edit]:
    """The edits whose hashes version 0.1.0 recorded."""
    vector = np.linspace(-1, 1, 128).astype(np.float32)
    half = np.linspace(0.0, 1.0, 3)
    probe = LayerProbe(1, np.array([0, 2, 5]), half, 0.5, half, 1.0, -2.0, 3.0)
    wide = LayerProbe(1, np.arange(128), vector.astype(float), 0.5, vector.astype(float))
    with_probabilities = replace(neurons, df=neurons.df.assign(p_diff=0.3, q95=1.25))
    return {
        "amplify": nv.Amplify(neurons, dose=2.0, scope="last", gate=gate),
        "shift": nv.Shift(neurons, dose=1.5),
        "scale": nv.Scale(neurons, dose=1.2),
        "ablate": nv.Ablate(neurons),
        "ablate_mean": nv.Ablate(neurons, mode="mean"),
        "clamp": nv.Clamp(neurons, dose=1.0),
        "gate_shift": GateShift(with_probabilities, dose=0.5),
        "context": ContextAware(neurons=neurons, probes=(probe,), dose=2.0),
        "probed_vector": ProbedVector(probes=(wide,), dose=2.0),
        "prompt_shift": PromptShift(probes=(wide,), dose=2.0),
        "vector": nv.AddVector({1: vector}, dose=0.5),
        "composed": compose([nv.Shift(neurons, dose=1.0), nv.Shift(power, dose=0.5)]),
        "role": nv.RolePrompt("Care for the people close to you."),
    }


def test_content_hashes_are_those_of_0_1(neurons: nv.NeuronSet, power: nv.NeuronSet, gate: RelevanceGate) -> None:
    recorded = json.loads((V0_1 / "content_hashes.json").read_text())
    things: dict[str, Any] = {**edits(neurons, power, gate), "neurons": neurons, "gate": gate}
    assert {name: identity(thing) for name, thing in things.items()} == recorded["edits"]
    assert judge_identity(nv.evaluation.ExactJudge()) == recorded["judges"]["exact"]


@pytest.mark.usefixtures("no_generation")
def test_text_cache_answers_every_prompt(
    demo: Any, neurons: nv.NeuronSet, power: nv.NeuronSet, gate: RelevanceGate, tmp_path: Path
) -> None:
    shutil.copy(V0_1 / "texts.sqlite", tmp_path / "texts.sqlite")
    cache = JsonCache(tmp_path / "texts.sqlite")
    assert len(cache) == 18
    result = nv.leakage(
        demo,
        {
            "benevolence": edits(neurons, power, gate)["amplify"],
            "power": nv.Shift(power, dose=1.0, scope="generated"),
        },
        nv.prompts.open_prompts("demo", "test").head(6),
        nv.evaluation.ExactJudge(),
        cache=cache,
        decoding=nv.evaluation.Decoding(max_new_tokens=10),
        progress=False,
        n_boot=20,
        n_permutations=9,
    )
    assert len(cache) == 18, "every text was a cache hit"
    assert result.matrix.loc["benevolence", "benevolence"] == pytest.approx(0.182846, abs=1e-6)


def test_statistics_load(demo: Any) -> None:
    stats = nv.ActivationStats.load(V0_1 / "run" / "stats" / "stats")
    assert set(stats.values) == {"power", "benevolence"}
    current = nv.fingerprint(demo)
    assert stats.fingerprint == {name: fact for name, fact in current.items() if name != "function"}
    relaxed = {"lam": 0.0, "lam_write": 0.0, "require_q": False, "require_split_half": False}
    selected = nv.select(stats, "benevolence", method="neva", model=demo, k=60, **relaxed)
    stored = nv.NeuronSet.load(V0_1 / "run" / "neurons" / "benevolence")
    pd.testing.assert_frame_equal(selected.df[["layer", "neuron"]], stored.df[["layer", "neuron"]])


@pytest.mark.usefixtures("no_generation")
def test_run_is_reopened(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    opened = Run.open(run)
    assert opened.methods() == ("neva_shift", "caa") and opened.values() == ("power", "benevolence")
    assert opened.target() == 0.4 and opened.load_model() is not None


@pytest.mark.usefixtures("no_generation")
def test_run_resumes_without_writing_a_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    before = json.loads((run / "results.json").read_text())
    config = json.loads((run / "manifest.json").read_text())["config"]
    (run / "results.json").unlink()
    cells = {path: path.stat().st_mtime_ns for path in (run / "cells").rglob("*") if path.is_file()}
    options = {name: tuple(x) if isinstance(x, list) else x for name, x in config.items() if name != "model"}
    Study("demo", **options).run(run, workers=1)
    after = json.loads((run / "results.json").read_text())
    for results in (before, after):
        for entry in results["methods"].values():
            rho = entry["circle"]["rho"]
            # 0.1 did not shift the draws of rho: its interval could exclude rho itself
            entry["circle"]["rho"] = {"est": rho["est"], "n": rho["n"]}
    for entry in after["methods"].values():
        for holder in (entry, *entry["per_value"].values()):  # 0.1 had no shares of items pushed the wrong way
            assert 0 <= holder.pop("wrong_way")["est"] <= 1
    assert "controls" not in after  # the exact judge needs none
    assert after["methods"] == before["methods"] and after["values"] == before["values"]
    assert cells == {path: path.stat().st_mtime_ns for path in (run / "cells").rglob("*") if path.is_file()}
    assert (run / "report.html").is_file()
