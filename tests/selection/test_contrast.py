"""Selection over many neurons: screen, blocks and memory change nothing; held against plain NumPy over every neuron."""

from __future__ import annotations

import gc
import warnings
import weakref
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from helpers.planted_neurons import LAYERS, WIDTH, make_stats
from helpers.scripts import load_script
from neva_tl.activations import ActivationStats
from neva_tl.activations.accumulate import merge_folds
from neva_tl.core.statistics import merge_moments
from neva_tl.selection import Request, SelectionWarning, contrast, effect_table, select
from neva_tl.selection.base import best_first
from neva_tl.selection.effect_size import screen

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark, whose oracles know nothing of neva_tl."""
    return load_script("benchmark_select")


@pytest.mark.parametrize("design", ["paired", "unpaired"])
def test_selectors_equal_plain_numpy_over_every_neuron(bench: ModuleType, tmp_path: Path, design: str) -> None:
    bench.make(tmp_path / "moments", 3, 1700, 3, 60, 0.5, design)
    arrays = bench._Arrays(tmp_path / "moments")
    stats = ActivationStats.load(tmp_path / "moments")
    for method, oracle in bench.ORACLES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelectionWarning)
            df = select(stats, stats.values[0], method=method).df
        at, score = oracle(arrays)
        got = {"at": (df["layer"] * stats.d_mlp + df["neuron"]).to_numpy(), "score": df["score"].to_numpy()}
        assert len(at) >= 15, method
        assert bench.assert_same({"at": at, "score": score}, got, method) < 1e-9


def test_the_benchmark_notices_another_selection(bench: ModuleType) -> None:
    one = {"at": np.array([3, 1]), "score": np.array([2.0, 1.0])}
    for other in ({"at": np.array([3, 2])}, {"score": np.array([2.0, 1.0 + 1e-6])}, {"score": np.array([1.0, 2.0])}):
        with pytest.raises(AssertionError):
            bench.assert_same(one, {**one, **other}, "a test")


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.45, 0.8])
def test_the_screen_is_the_whole_table_cut_at_q(paired: bool, alpha: float) -> None:
    stats = make_stats(paired=paired, effect=1.2)
    for layers in (None, (2, 0)):
        table = effect_table(stats, "benevolence", layers=layers)
        request = Request("benevolence", alpha=alpha, layers=layers, require_split_half=False)
        passed, counts = screen(stats, request)
        want = table[table["q"] <= alpha].reset_index(drop=True)
        assert 0 < len(want) < len(table) and counts == {"q": len(want)}
        for name, column in passed.frame().items():
            np.testing.assert_array_equal(column.to_numpy(), want[name].to_numpy(), err_msg=str(name))


@pytest.mark.parametrize("paired", [True, False])
def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch, paired: bool) -> None:
    whole, parts = make_stats(paired=paired), make_stats(paired=paired)
    some = np.arange(whole.n_layers * whole.d_mlp)[::3]
    want = [*contrast.effects(whole, "tradition"), contrast.split_half(whole, "tradition", "post", some)]
    monkeypatch.setattr(contrast, "_BLOCK", 7)
    got = [*contrast.effects(parts, "tradition"), contrast.split_half(parts, "tradition", "post", some)]
    for one, two in zip(want, got, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)
    assert got[3].any() and not got[3].all()


def test_effects_are_measured_once_and_go_with_their_statistics() -> None:
    stats = make_stats(keep=False)
    first = contrast.effects(stats, "benevolence")
    assert contrast.effects(stats, "benevolence")[0].g is first[0].g
    other = replace(stats, diff_mean=stats.diff_mean * 2)
    assert np.abs(contrast.effects(other, "benevolence")[0].g).sum() > 1.5 * np.abs(first[0].g).sum()
    with pytest.raises(ValueError, match="read-only"):
        stats.mean[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        first[0].g[:] = 0
    gone, held = weakref.ref(stats), len(contrast._MEASURED)
    del stats
    gc.collect()
    assert gone() is None and len(contrast._MEASURED) < held


def test_moments_of_some_neurons_are_those_of_all() -> None:
    stats = make_stats(keep=False)
    at = np.array([5, 0, LAYERS * WIDTH - 1])
    for got, want in (
        (stats.moments("security", "+", at=at), stats.moments("security", "+")),
        (stats.moments("security", "-", [1, 3], at=at), stats.moments("security", "-", [1, 3])),
        (stats.pair_moments("security", at=at), stats.pair_moments("security")),
    ):
        assert got[0] == want[0]
        for part, whole in zip(got[1:], want[1:], strict=True):
            np.testing.assert_array_equal(part, whole.ravel()[at])
    np.testing.assert_array_equal(stats.sd("security", at=slice(7, 90)), stats.sd("security").ravel()[7:90])
    np.testing.assert_array_equal(stats.delta("security", at=at), stats.delta("security").ravel()[at])


def test_best_first_is_a_stable_sort() -> None:
    score = np.random.default_rng(0).integers(0, 9, 200).astype(float)
    order = np.argsort(-score, kind="stable")
    for most in (None, 1, 17, 199, 200, 500):
        np.testing.assert_array_equal(best_first(score, most), order[:most])
    assert len(best_first(np.zeros(0), 3)) == 0


def test_folds_merge_to_the_bits_of_the_general_rule() -> None:
    rng = np.random.default_rng(3)
    n = np.array([0, 4, 1, 0, 7, 2, 0, 9])
    mean, m2 = rng.normal(size=(8, 2, 50)).astype(np.float32), rng.random((8, 2, 50)).astype(np.float32)
    for fold in (None, 4, 0, [0, 3], [7, 1, 2]):
        chosen = range(8) if fold is None else [fold] if isinstance(fold, int) else fold
        got = merge_folds(n, mean, m2, fold)
        if not n[list(chosen)].any():
            assert got.n == 0 and not got.mean.any() and not got.m2.any()
            continue
        want = merge_moments((int(n[f]), mean[f], m2[f]) for f in chosen)
        for one, two in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, two)
