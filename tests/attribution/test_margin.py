"""Margin effects against finite differences through the edited model itself, and the selector that ranks by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neva_tl import models, selection
from neva_tl.activations import ActivationStats, collect
from neva_tl.attribution import MarginEffects, margin_effects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Shift, edit
from neva_tl.methods import Evidence, rotated
from neva_tl.methods.rotated import rotations
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.contrast import examples_of

pytestmark = pytest.mark.core
WORDS = {"power": ("rules", "yields"), "benevolence": ("helps", "hurts"), "security": ("guards", "risks")}


@pytest.fixture(scope="module")
def pairs() -> ContrastSet:
    rows = []
    for value, words in WORDS.items():
        for i in range(12):
            for pole, word in zip("+-", words, strict=True):
                prompt = f"Who is number {i}?"
                text = f"{prompt} The one who {word} in town {i}."
                rows.append(
                    {
                        "value": value, "pair_id": f"{value}{i}", "pole": pole, "text": text, "cluster": f"c{i}",
                        "split": "train", "answer_start": len(prompt) + 1, "answer_end": len(text),
                    }
                )  # fmt: skip
    return ContrastSet(pd.DataFrame(rows), "made up")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return models.load(str(tiny_checkpoint(tmp_path_factory.mktemp("margin") / "llama")))


@pytest.fixture(scope="module")
def stats(model: Any, pairs: ContrastSet) -> ActivationStats:
    return collect(model, pairs, samples=True)


@pytest.fixture(scope="module")
def effects(model: Any, stats: ActivationStats) -> MarginEffects:
    assert stats.samples is not None
    return margin_effects(model, stats.samples.table, stats.values, texts=12)


def margin(model: Any, pairs: ContrastSet, value: str, edits: tuple[Shift, ...]) -> float:
    """The value's margin of the edited model, by the log-probabilities that judges use."""
    means = {}
    for pole in "+-":
        df = pairs.df[(pairs.df["value"] == value) & (pairs.df["pole"] == pole)]
        with edit(model, *edits) as session:
            total, count = inference.answer_logprobs(model, examples_of(df), session=session)
        means[pole] = float((np.asarray(total) / np.asarray(count)).mean())
    return means["+"] - means["-"]


def one_neuron(stats: ActivationStats, layer: int, neuron: int) -> NeuronSet:
    df = pd.DataFrame(
        {"layer": [layer], "neuron": [neuron], "mean_plus": [1.0], "mean_minus": [0.0], "sd": [1.0], "score": [1.0]}
    )
    return NeuronSet("power", "hand", df, stats.n_layers, stats.d_mlp, fingerprint=stats.fingerprint)


@pytest.mark.parametrize(("layer", "neuron"), [(0, 3), (0, 17), (1, 5)])
def test_a_small_constant_changes_the_margin_as_said(
    model: Any, pairs: ContrastSet, stats: ActivationStats, effects: MarginEffects, layer: int, neuron: int
) -> None:
    step = 0.02
    for value in WORDS:
        shift = Shift(one_neuron(stats, layer, neuron), scope="generated")
        up, down = (margin(model, pairs, value, (shift.with_dose(dose),)) for dose in (step, -step))
        assert effects.of(value)[layer, neuron] == pytest.approx((up - down) / (2 * step), rel=0.02, abs=2e-5)


def test_standard_errors_are_those_of_two_independent_means(model: Any, stats: ActivationStats) -> None:
    """Against single texts, one at a time: mean and spread by NumPy."""
    assert stats.samples is not None
    table = stats.samples.table
    whole = margin_effects(model, table, ("power",), texts=12)
    parts = {}
    for pole in "+-":
        own = table[(table["value"] == "power") & (table["pole"] == pole)]
        other = table[(table["value"] == "power") & (table["pole"] != pole)]
        alone = []
        for i in range(len(own)):
            # a pole of two equal texts has the gradient of that text; the other pole is the same in all and drops out
            twice = pd.concat([own.iloc[[i, i]], other]).assign(pair_id=None)
            alone.append(margin_effects(model, twice, ("power",), texts=12).effect[0])
        parts[pole] = np.stack(alone)
    spread = sum(part.var(axis=0) / (len(part) - 1) for part in parts.values())
    np.testing.assert_allclose(whole.se[0], np.sqrt(spread), rtol=1e-3, atol=1e-7)


def test_saved_and_read(effects: MarginEffects, tmp_path: Path) -> None:
    read = MarginEffects.load(effects.save(tmp_path / "margins.safetensors"))
    np.testing.assert_allclose(read.effect, effects.effect, rtol=1e-6)
    np.testing.assert_allclose(read.se, effects.se, rtol=1e-6)
    assert (read.values, read.n) == (effects.values, 12) and [p.name for p in tmp_path.iterdir()] == [
        "margins.safetensors"
    ]


def test_selection_is_the_formula(stats: ActivationStats, effects: MarginEffects) -> None:
    options: dict[str, Any] = {"lam": 0.0, "require_q": False, "require_split_half": False}
    found = selection.select(stats, "power", method="margin", k=20, effects=effects, lam_write=1.5, **options)
    step = stats.moments("power", "+")[1] - stats.moments("power", "-")[1]
    write = {value: effects.of(value) * step for value in stats.values}
    other = np.mean([np.maximum(0, write[v]) for v in stats.values if v != "power"], axis=0)
    score = write["power"] - 1.5 * other
    assert len(found)
    at = (found.df["layer"].to_numpy(), found.df["neuron"].to_numpy())
    np.testing.assert_allclose(found.df["score"], score[at], rtol=1e-5)
    assert (np.diff(found.df["score"]) <= 0).all() and (found.df["score"] > 0).all()
    left_out = np.ones(score.shape, dtype=bool)
    left_out[at] = False
    if len(found) == 20:
        assert score[left_out].max() <= found.df["score"].min() + 1e-9
    assert found.settings["options"] == {"lam_write": 1.5}  # a placebo that selects alike measures its own effects


def test_measured_on_the_way_or_given_is_the_same(model: Any, stats: ActivationStats, effects: MarginEffects) -> None:
    options: dict[str, Any] = {"lam": 0.0, "require_q": False, "require_split_half": False, "k": 10}
    given = selection.select(stats, "power", method="margin", effects=effects, **options)
    measured = selection.select(stats, "power", method="margin", model=model, texts=12, **options)
    assert list(given.df["neuron"]) == list(measured.df["neuron"])


def test_placebos_select_alike(model: Any, stats: ActivationStats, effects: MarginEffects) -> None:
    """Shuffled poles get effects of their own; a rotated basis gets the effects rotated, which say the same of any step."""
    options: dict[str, Any] = {"lam": 0.0, "require_q": False, "require_split_half": False, "k": 10}
    found = selection.select(stats, "power", method="margin", effects=effects, **options)
    shuffled = selection.label_shuffled(stats, "power", like=found, model=model)
    assert 0 < len(shuffled) <= len(found) and not np.array_equal(shuffled.df["neuron"], found.df["neuron"])
    bases = rotations(stats.n_layers, stats.d_mlp, seed=0)
    step = np.random.default_rng(0).normal(size=(stats.n_layers, stats.d_mlp))
    turned = np.stack([row @ basis for row, basis in zip(step, bases, strict=True)])
    np.testing.assert_allclose(
        (effects.rotated(bases).effect * turned).sum(axis=(1, 2)), (effects.effect * step).sum(axis=(1, 2)), rtol=1e-5
    )
    evidence = Evidence(model, stats, {"power": found}, margins=effects)
    given, measured = (rotated(one, "power") for one in (evidence, replace(evidence, margins=None)))
    assert set(given.vectors) == set(measured.vectors)


def test_bad_requests(model: Any, stats: ActivationStats, effects: MarginEffects) -> None:
    assert stats.samples is not None
    table = stats.samples.table
    with pytest.raises(InputError, match="at least two texts"):
        margin_effects(model, table, ("power",), texts=1)
    with pytest.raises(InputError, match="collect with samples"):
        margin_effects(model, table.drop(columns=["text"]), ("power",))
    with pytest.raises(InputError, match=r"hedonism has 0 texts of the \+ pole"):
        margin_effects(model, table, ("hedonism",))
    with pytest.raises(InputError, match="no margin effects on hedonism"):
        effects.of("hedonism")
    with pytest.raises(InputError, match="with_texts"):
        selection.select(replace(stats, samples=None, texts=None), "power", method="margin", model=model)
    small = replace(effects, effect=effects.effect[:, :1], se=effects.se[:, :1])
    with pytest.raises(InputError, match="do not fit"):
        selection.select(stats, "power", method="margin", effects=small)
