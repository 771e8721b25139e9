"""Method `auto`: the study's selector, from statistics alone, and one line where it cannot run."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import neva_tl as nv
from helpers.contrast_sets import small_set
from helpers.planted_neurons import make_stats
from neva_tl.activations import ActivationStats
from neva_tl.core.auto import GRIDS
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.calibrate import DosePoint
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.selection import SelectionWarning
from neva_tl.study import StudyConfig
from neva_tl.study.run import stages
from neva_tl.study.run.run_folder import RunFolder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return nv.load(tiny_checkpoint(tmp_path_factory.mktemp("auto") / "llama"))


@pytest.fixture(scope="module")
def demo_pairs() -> nv.ContrastSet:
    return nv.prompts.load("demo", per_value=40)


@pytest.fixture(scope="module")
def demo_stats(demo: Any, demo_pairs: nv.ContrastSet) -> ActivationStats:
    return nv.collect(demo, demo_pairs)


@pytest.fixture(scope="module")
def tiny_stats(tiny: Any) -> ActivationStats:
    return nv.collect(tiny, small_set(topics=14))


def same(first: NeuronSet, second: NeuronSet) -> None:
    names = ["layer", "neuron", "score", "mean_plus", "mean_minus"]
    pd.testing.assert_frame_equal(first.df[names], second.df[names], check_exact=True)
    assert first.method == second.method
    keys = ("k", "lam", "alpha", "delta", "require_q", "require_split_half", "layers", "seed")
    assert {key: first.settings[key] for key in keys} == {key: second.settings[key] for key in keys}


def test_the_demo_takes_the_studys_selector_without_a_warning(
    demo: Any, demo_pairs: nv.ContrastSet, demo_stats: ActivationStats, tmp_path: Path
) -> None:
    config = StudyConfig(values=("power", "benevolence")).resolved()
    studied = stages.selected(RunFolder(tmp_path), demo, demo_stats, config, progress=False)
    assert demo_stats.pooling == config.pooling == "last" and demo_stats.model is demo
    with warnings.catch_warnings():
        warnings.simplefilter("error", SelectionWarning)
        neurons = {name: nv.select(demo_stats, name) for name in config.values}
    for name in config.values:
        same(neurons[name], studied[name])
        assert neurons[name].method == "neva" and 0 < len(neurons[name]) < 400
    # a number that the caller names is a request
    with pytest.warns(SelectionWarning, match="fewer than the k"):
        nv.select(demo_stats, "power", k=400)


def test_all_other_models_take_margin_and_their_own_texts(tiny: Any, tiny_stats: ActivationStats) -> None:
    neurons = nv.select(tiny_stats, "power", k=5)
    assert neurons.method == "margin" and neurons.settings["lam"] == 0 and neurons.settings["require_q"] is False
    assert tiny_stats.samples is None and tiny_stats.pooling == "mean"
    by_hand = nv.select(tiny_stats, "power", method="margin", model=tiny, k=5, lam=0.0, require_q=False)
    same(neurons, by_hand)
    # an option of the caller replaces that of auto, and leaves the others
    strict = nv.select(tiny_stats, "power", k=5, lam=1.0, lam_write=0.5)
    assert (strict.settings["lam"], strict.settings["require_q"]) == (1.0, False)
    assert strict.settings["options"] == {"lam_write": 0.5}


def test_margins_are_measured_once(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = nv.collect(tiny, small_set(topics=14))
    first = nv.select(stats, "power", k=5)
    monkeypatch.setattr("neva_tl.selection.margin.margin_effects", lambda *_, **__: pytest.fail("measured again"))
    same(nv.select(stats, "power", k=5), first)
    assert len(nv.select(stats, "benevolence", k=5))
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        nv.select(stats, "power", k=5, seed=1)


def test_statistics_of_a_file_say_what_they_lack(tiny: Any, tiny_stats: ActivationStats, tmp_path: Path) -> None:
    stored = ActivationStats.load(tiny_stats.save(tmp_path / "stats"))
    assert stored.model is None and stored.texts is None
    with pytest.raises(InputError, match=r"auto' is margin .* pass model=.*effect_size") as caught:
        nv.select(stored, "power")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"auto' is margin .* with_texts\(pairs\).*effect_size"):
        nv.select(stored, "power", model=tiny)
    with pytest.raises(InputError, match="not collected on"):
        stored.with_texts(small_set(topics=8))
    for pairs in (small_set(topics=14), small_set(topics=14).split("train")):
        same(nv.select(stored.with_texts(pairs), "power", model=tiny, k=5), nv.select(tiny_stats, "power", k=5))
    assert len(nv.select(stored, "power", method="mean_shift"))


def test_statistics_without_a_model_are_never_selected_by_another_selector() -> None:
    with pytest.raises(InputError, match="pass model="):
        nv.select(make_stats(), "benevolence")
    assert nv.select(make_stats(clusters=40), "benevolence", method="effect_size").method == "effect_size"


def test_a_copy_of_statistics_has_no_model(tiny_stats: ActivationStats) -> None:
    again = copy.deepcopy(tiny_stats)
    assert again.model is None
    np.testing.assert_array_equal(again.mean, tiny_stats.mean)
    assert replace(tiny_stats, pooling="mean").model is tiny_stats.model


def test_a_merge_keeps_model_and_texts(tiny: Any, tiny_stats: ActivationStats) -> None:
    merged = tiny_stats.merge(tiny_stats)
    assert merged.model is tiny and merged.texts is not None and tiny_stats.texts is not None
    assert len(merged.texts) == 2 * len(tiny_stats.texts)


def test_scope_gate_and_grid_are_the_studys(tiny: Any, demo: Any, demo_pairs: nv.ContrastSet) -> None:
    stats = nv.collect(tiny, small_set(topics=14), samples=True)
    edit = nv.fit_context(stats, nv.select(stats, "power", k=5))
    assert edit.scope == "generated" and nv.auto_gate(tiny, small_set(topics=14)) is None
    assert nv.methods.Evidence(tiny, stats, {}).scope == "generated"
    shown = nv.collect(demo, demo_pairs.for_value("power", "security"), samples=True)
    context = nv.fit_context(shown, nv.select(shown, "power", layers=(1,)))
    assert context.scope == "last" and nv.methods.Evidence(demo, shown, {}).scope == "last"
    assert nv.auto_gate(demo, demo_pairs, gate="none") is None

    doses: list[float] = []

    def metric(item: nv.editing.Edit) -> DosePoint:
        doses.append(item.dose)
        return DosePoint(gain=0.0)

    for item, unit in ((edit, "log-odds"), (nv.Amplify(edit.neurons), "contrasts"), (nv.Ablate(edit.neurons), "share")):
        doses.clear()
        nv.calibrate(item, metric, 1.0)
        assert tuple(doses) == GRIDS[unit]  # type: ignore[index]
    with pytest.raises(InputError, match="pass grid="):
        nv.calibrate(nv.Scale(edit.neurons), metric, 1.0)
    with pytest.raises(InputError, match="no common grid"):
        nv.editing.calibrate_many([edit, nv.Amplify(edit.neurons)], lambda requests: [], 1.0)
