"""Poolings against each text run alone with raw hooks of the test's own; moments of tokens against two passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl import models
from neva_tl.activations import ActivationStats, collect, fold_of
from neva_tl.activations.accumulate import POLES, Accumulator, CellIndex, reduced
from neva_tl.activations.pooling import _Bags
from neva_tl.core.errors import InputError
from neva_tl.models.hooks import record_hooks
from neva_tl.models.inference.encoding import encode_one, pad
from neva_tl.prompts import ContrastSet

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def alone(model: Any, pairs: ContrastSet) -> list[dict[str, np.ndarray]]:
    """Answer tokens of each text, run alone: `post`, `gate` `[t, l, k]`, `resid` `[t, l, d]`, float64."""
    layers = range(models.info(model).n_layers)
    out = []
    for item in encode_one(model, pairs.examples()):
        batch = pad(model, [item])
        sites = {"post": "post", "gate": "gate", "resid": "resid_post"}
        names = {kind: [models.hook_name(model, layer, site) for layer in layers] for kind, site in sites.items()}
        with record_hooks(model, [name for group in names.values() for name in group]) as seen:
            models.forward(model, batch.tokens, batch.mask)
        found = {kind: torch.stack([seen[name][0] for name in group], dim=1) for kind, group in names.items()}
        found["gate"] = torch.nn.functional.silu(found["gate"])
        out.append({kind: x[item.start :].double().numpy() for kind, x in found.items()})
    return out


def rows_of(pairs: ContrastSet, value: str, pole: str) -> list[int]:
    return np.flatnonzero((pairs.df["value"] == value) & (pairs.df["pole"] == pole)).tolist()


def two_pass(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).sum(axis=0)


def check(stats: ActivationStats, x: dict[str, list[np.ndarray]], pairs: ContrastSet) -> None:
    """Moments of observations (a list of arrays `[observations, l, k]`, one per text)."""
    for value in stats.values:
        for pole in POLES:
            rows = rows_of(pairs, value, pole)
            for site in ("post", "gate"):
                n, mean, m2 = stats.moments(value, pole, site=site)
                whole = np.concatenate([x[site][row] for row in rows])
                want_mean, want_m2 = two_pass(whole)
                assert n == len(whole)
                np.testing.assert_allclose(mean, want_mean, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(m2, want_m2, rtol=1e-4, atol=1e-5)
                v, p = stats.index(value), POLES.index(pole)
                folds = np.array([fold_of(c) for c in pairs.df["cluster"].iloc[rows]])
                fold = int(folds[0])
                mine = np.concatenate([x[site][row] for row, f in zip(rows, folds, strict=True) if f == fold])
                held = stats.mean if site == "post" else stats.gate_mean
                assert held is not None
                np.testing.assert_allclose(held[v, p, fold], mine.mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_every_token_is_an_observation(
    model: Any, pairs: ContrastSet, alone: list[dict[str, np.ndarray]], shared: bool
) -> None:
    stats = collect(model, pairs, pooling="token", token_budget=300, share_prefixes=shared)
    check(stats, {site: [item[site] for item in alone] for site in ("post", "gate")}, pairs)
    rows = rows_of(pairs, "power", "+")
    at = stats.index("power")
    resid = np.concatenate([alone[row]["resid"] for row in rows]).mean(axis=0)
    np.testing.assert_allclose(stats.resid[at, 0], resid, rtol=1e-4, atol=1e-5)
    weight = stats.n[at, 0] / stats.n[at, 0].sum()
    share = np.concatenate([alone[row]["post"] for row in rows]) > 0
    np.testing.assert_allclose(np.tensordot(weight, stats.positive[at, 0], 1), share.mean(axis=0), atol=1e-6)
    assert not stats.diff_n.any()


def test_greatest_value_of_each_neuron(model: Any, pairs: ContrastSet, alone: list[dict[str, np.ndarray]]) -> None:
    stats = collect(model, pairs, pooling="max", token_budget=300)
    greatest = {site: [item[site].max(axis=0)[None] for item in alone] for site in ("post", "gate")}
    check(stats, greatest, pairs)
    # the residual stream stays the mean over the same tokens
    rows = rows_of(pairs, "benevolence", "-")
    resid = np.mean([alone[row]["resid"].mean(axis=0) for row in rows], axis=0)
    np.testing.assert_allclose(stats.resid[stats.index("benevolence"), 1], resid, rtol=1e-4, atol=1e-5)


def test_tokens_have_no_samples(model: Any, pairs: ContrastSet) -> None:
    with pytest.raises(InputError, match="keeps no samples"):
        collect(model, pairs, pooling="token", samples=True)


def test_a_million_observations_far_from_zero_do_not_drift() -> None:
    """Moments taken batch by batch against two passes in float64; a float32 sum of squares would be useless here."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1_000_000, 2)) * [0.01, 1.0] + [100.0, -3.0]).astype(np.float32)
    table = pd.DataFrame({"value": "power", "pole": "+", "fold": 0, "pair_id": None}, index=range(1000))
    acc = Accumulator.empty(("power",), [torch.device("cpu")], 2, 1, gated=False)
    part = CellIndex.of(table, ("power",)).update(np.arange(1000))
    for start in range(0, len(x), 1000):
        rows = torch.from_numpy(x[start : start + 1000])
        moments = reduced(rows, part.cell_index, 1)
        acc.add(part, [{"post": moments, "positive": torch.zeros(1, 2), "resid": torch.zeros(1, 1)}])
    got = acc.arrays()
    mean, m2 = two_pass(x.astype(np.float64))
    assert got["n"].sum() == 1_000_000
    np.testing.assert_allclose(got["mean"][0, 0, 0, 0], mean, rtol=1e-7)
    np.testing.assert_allclose(got["m2"][0, 0, 0, 0], m2, rtol=1e-6)
    naive = np.square(x).cumsum(axis=0, dtype=np.float32)[-1] - x.cumsum(axis=0, dtype=np.float32)[-1] ** 2 / len(x)
    assert abs(naive[0] / m2[0] - 1) > 0.1, "the float32 way would have done: this test shows nothing"


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_half_precision_is_pooled_in_float32(mode: Any) -> None:
    """Only the pooled tokens are converted; the result is that of a float32 copy of all tokens, to the last bit."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 9, 5, generator=rng).bfloat16()
    bags = _Bags(torch.tensor([1, 2, 5, 6, 7]), torch.tensor([0, 2]))
    pooled, local_bags = bags.in_float32(x)
    assert pooled.dtype == torch.float32 and len(pooled) == 5
    assert torch.equal(local_bags.pool(pooled, mode), bags.pool(x.float(), mode))
    assert bags.in_float32(x.float())[1] is bags
