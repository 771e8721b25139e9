"""ContextAware against its closed form, Lagrange algebra and an independent scikit-learn pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.editing import ContextAware, LayerProbe, edit, fit_context
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (1, 2), (1, 30)]


@pytest.fixture(scope="module")
def stats() -> ActivationStats:
    """Planted: `power` raises neurons 7 and 2 of layer 1 and 3 of layer 0; `benevolence` is noise with an offset."""
    rng = np.random.default_rng(0)
    rows = [
        {"value": v, "pole": p, "pair_id": f"{v}{i}", "cluster": f"{v}{i}"}
        for v in ("power", "benevolence")
        for i in range(60)
        for p in "+-"
    ]
    table = pd.DataFrame(rows)
    h = rng.normal(size=(len(table), 3, 48)).astype(np.float32) * rng.uniform(0.2, 3.0, size=(1, 3, 48))
    raised = ((table["value"] == "power") & (table["pole"] == "+")).to_numpy()
    for layer, k, step in ((1, 7, 2.0), (1, 2, -1.5), (0, 3, 1.0)):
        h[raised, layer, k] += step
    h[(table["value"] == "benevolence").to_numpy(), 1, 30] += 4.0
    return ActivationStats.from_samples(h.astype(np.float32), table)


@pytest.fixture(scope="module")
def context(stats: ActivationStats, tiny: Any, make_set: Any) -> ContextAware:
    return fit_context(stats, make_set(tiny, AT), others=20, seed=3)


def training_rows(stats: ActivationStats, others: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Target +, target -, and `others` + of every other value (drawn as documented: permuted by the seed)."""
    assert stats.samples is not None
    table = stats.samples.table
    plus = np.flatnonzero((table["value"] == "power") & (table["pole"] == "+"))
    minus = np.flatnonzero((table["value"] == "power") & (table["pole"] == "-"))
    other = np.flatnonzero((table["value"] == "benevolence") & (table["pole"] == "+"))
    other = np.random.default_rng(seed).permutation(other)[:others]
    rows = np.sort(np.concatenate([plus, minus, other]))
    return rows, np.isin(rows, plus)


def test_probes_equal_a_scikit_learn_pipeline(stats: ActivationStats, context: ContextAware) -> None:
    assert stats.samples is not None
    rows, label = training_rows(stats, 20, 3)
    assert [p.layer for p in context.probes] == [0, 1]
    for probe in context.probes:
        x = stats.samples.h[rows, probe.layer][:, probe.index].astype(np.float64)
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, class_weight="balanced", max_iter=1000))
        pipeline.fit(x, label)
        ours = 1 / (1 + np.exp(-(x @ probe.weight + probe.bias)))
        np.testing.assert_allclose(ours, pipeline.predict_proba(x)[:, 1], atol=1e-8)


def test_mean_difference_is_that_of_the_values_own_poles(stats: ActivationStats, context: ContextAware) -> None:
    """Along `mean(+) - mean(-)` of the value itself: the other values' prompts shape the probe, not the direction."""
    delta = stats.delta("power")
    for probe in context.probes:
        d = delta[probe.layer, probe.index]
        np.testing.assert_allclose(probe.unit, d / (probe.weight @ d), rtol=1e-4)
        assert probe.weight @ probe.unit == pytest.approx(1.0)


def test_smallest_direction_minimises_the_standardised_change(stats: ActivationStats, tiny: Any, make_set: Any) -> None:
    assert stats.samples is not None
    rows, _ = training_rows(stats, 20, 3)
    smallest = fit_context(stats, make_set(tiny, AT), direction="smallest", others=20, seed=3)
    probe = smallest.probes[1]
    sigma = stats.samples.h[rows, probe.layer][:, probe.index].astype(np.float64).std(axis=0)
    found = minimize(
        lambda u: ((u / sigma) ** 2).sum(),
        np.ones(len(sigma)),
        constraints={"type": "eq", "fun": lambda u: probe.weight @ u - 1},
        tol=1e-12,
    )
    np.testing.assert_allclose(probe.unit, found.x, rtol=1e-3, atol=1e-4)
    lagrange = sigma**2 * probe.weight / (probe.weight**2 @ sigma**2)
    np.testing.assert_allclose(probe.unit, lagrange, rtol=1e-8)


def odds(x: Tensor, probe: LayerProbe) -> Tensor:
    h = x[..., torch.as_tensor(probe.index)].double()
    return h @ torch.as_tensor(probe.weight).double() + probe.bias


@pytest.mark.parametrize("dose", [0.0, 3.0])
def test_log_odds_become_the_larger_of_before_and_dose(context: ContextAware, tiny: Any, dose: float) -> None:
    x = torch.randn(3, 7, 48, generator=torch.Generator().manual_seed(1)) * 2
    free = replace(context, probes=tuple(replace(probe, lowest=-np.inf) for probe in context.probes))
    for probe, change in zip(free.probes, free.with_dose(dose).changes(tiny), strict=True):
        new, before = change.apply(x), odds(x, probe)
        torch.testing.assert_close(odds(new, probe), before.clamp(min=dose), atol=1e-4, rtol=1e-4)
        satisfied = before >= dose
        assert satisfied.any() or dose > 0
        torch.testing.assert_close(new[satisfied], x[satisfied], atol=0, rtol=0)
        others = np.setdiff1d(np.arange(48), probe.index)
        assert torch.equal(new[..., others], x[..., others])


@pytest.mark.parametrize("dose", [-2.0, -0.5])
def test_a_negative_dose_suppresses(context: ContextAware, tiny: Any, dose: float) -> None:
    """Log-odds become the smaller of before and dose: `at(p0 < .5)` brings tokens down to p0 and raises none."""
    x = torch.randn(3, 7, 48, generator=torch.Generator().manual_seed(2)) * 2
    free = replace(context, probes=tuple(replace(probe, highest=np.inf) for probe in context.probes))
    item = free.at(float(1 / (1 + np.exp(-dose))))
    assert item.dose == pytest.approx(dose)
    for probe, change in zip(free.probes, item.changes(tiny), strict=True):
        new, before = change.apply(x), odds(x, probe)
        torch.testing.assert_close(odds(new, probe), before.clamp(max=dose), atol=1e-4, rtol=1e-4)
        assert (before > dose).any() and torch.equal(new[before <= dose], x[before <= dose])
    # a token above every training text counts as the highest of them
    for probe, change in zip(context.probes, context.with_dose(dose).changes(tiny), strict=True):
        far = torch.zeros(1, 1, 48)
        far[..., torch.as_tensor(probe.index)] = torch.as_tensor(80 * probe.unit, dtype=torch.float32)
        moved = odds(change.apply(far), probe) - odds(far, probe)
        torch.testing.assert_close(moved, torch.full_like(moved, dose - probe.highest), atol=1e-3, rtol=1e-4)


def test_a_token_below_every_training_text_is_treated_as_the_lowest(
    stats: ActivationStats, context: ContextAware, tiny: Any
) -> None:
    assert stats.samples is not None
    rows, _ = training_rows(stats, 20, 3)
    for probe, change in zip(context.probes, context.with_dose(3.0).changes(tiny), strict=True):
        x = stats.samples.h[rows, probe.layer][:, probe.index].astype(np.float64)
        assert probe.lowest == pytest.approx(float((x @ probe.weight + probe.bias).min()))
        far = torch.zeros(1, 1, 48)
        # 50 log-odds below the lowest: its change is the lowest token's, no larger
        far[..., torch.as_tensor(probe.index)] = torch.as_tensor(-50 * probe.unit, dtype=torch.float32)
        moved = odds(change.apply(far), probe) - odds(far, probe)
        torch.testing.assert_close(moved, torch.full_like(moved, 3.0 - probe.lowest), atol=1e-3, rtol=1e-4)


def test_layers_that_a_contrast_hardly_moves_are_left_alone(stats: ActivationStats, tiny: Any, make_set: Any) -> None:
    weak = [*AT, (2, 5), (2, 6)]  # nothing is planted in layer 2
    everything = fit_context(stats, make_set(tiny, weak), least_reach=-np.inf)
    delta = stats.delta("power")
    reach = {p.layer: float(p.weight @ delta[p.layer, p.index]) for p in everything.probes}
    assert [p.layer for p in everything.probes] == [0, 1, 2] and reach[2] < 1 < reach[1]
    for probe in everything.probes:
        assert probe.reach == pytest.approx(reach[probe.layer], rel=1e-4)
    assert [p.layer for p in fit_context(stats, make_set(tiny, weak)).probes] == [i for i in reach if reach[i] >= 1]
    # where no layer moves enough, the best one is kept rather than nothing
    best = max(reach, key=lambda layer: reach[layer])
    assert [p.layer for p in fit_context(stats, make_set(tiny, weak), least_reach=1e9).probes] == [best]


def test_layers_act_in_order(context: ContextAware, tiny: Any) -> None:
    """A later probe sees the earlier layers' edits: in the edited run every touched token satisfies every probe."""
    free = tuple(replace(probe, lowest=-np.inf) for probe in context.probes)
    item = replace(context, probes=free, dose=4.0, scope="generated")
    batch = inference.encode(tiny, [Example("Who eats?", "Tom eats bread"), Example("", "The old king counts")])
    seen: dict[int, Tensor] = {}
    clean: dict[int, Tensor] = {}

    def run(store: dict[int, Tensor], session: Any = None) -> None:
        handles = [
            models.add_hook(
                tiny, models.hook_name(tiny, p.layer, "post"), lambda x, hook=None, at=p.layer: store.update({at: x})
            )
            for p in item.probes
        ]
        inference.forward_batch(tiny, batch, session=session)
        for handle in handles:
            handle.remove()

    run(clean)
    with edit(tiny, item) as session:
        run(seen, session)
    for probe in item.probes:
        got = odds(seen[probe.layer], probe)
        assert (got[batch.answer] >= 4.0 - 1e-3).all()
    first, second = item.probes
    untouched = batch.mask & ~batch.answer
    assert torch.equal(seen[0][untouched], clean[0][untouched])
    # layer 1's need is computed on what layer 0's edit left, not on the clean run
    assert (odds(clean[first.layer], first)[batch.answer] < 4.0).any()
    assert not torch.allclose(seen[second.layer][..., 11][batch.answer], clean[second.layer][..., 11][batch.answer])


def test_at_takes_a_probability(context: ContextAware) -> None:
    assert context.at(0.9).dose == pytest.approx(np.log(9))
    assert context.at(0.5).dose == 0
    for p0 in (0.0, 1.0, -0.5, 2.0, float("nan")):
        with pytest.raises(InputError, match="inside"):
            context.at(p0)


def test_refusals(stats: ActivationStats, tiny: Any, make_set: Any) -> None:
    neurons = make_set(tiny, AT)
    with pytest.raises(InputError, match="samples=True"):
        fit_context(replace(stats, samples=None), neurons)
    with pytest.raises(InputError, match="empty"):
        fit_context(stats, make_set(tiny, []))
    with pytest.raises(InputError, match="was not collected"):
        fit_context(stats, replace(neurons, value="hedonism"))
    with pytest.raises(InputError, match="neurons"):
        fit_context(stats, replace(neurons, d_mlp=64))
    with pytest.raises(InputError, match="other weights"):
        fit_context(stats, replace(neurons, fingerprint={"weights_hash": "0"})).changes(tiny)


def test_neurons_that_never_vary_are_left_out(stats: ActivationStats, tiny: Any, make_set: Any) -> None:
    assert stats.samples is not None
    h = stats.samples.h.copy()
    h[:, 1, 30], h[:, 0, :] = 2.0, 0.0
    flat = fit_context(ActivationStats.from_samples(h, stats.samples.table), make_set(tiny, AT))
    assert [p.layer for p in flat.probes] == [1] and 30 not in flat.probes[0].index
