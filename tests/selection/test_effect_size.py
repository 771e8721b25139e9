"""Selector effect_size on planted truth, and its table against SciPy and statsmodels."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats as sps
from statsmodels.stats.multitest import multipletests

from helpers.planted_neurons import (
    LAYERS,
    NEGATIVE,
    READERS,
    SHARED,
    VALUES,
    WIDTH,
    WRITERS,
    activations,
    make_stats,
    table,
)
from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import detectable_g, hedges_correction
from neva_tl.editing import Ablate, Amplify, fit_context
from neva_tl.selection import SelectionWarning, default_k, effect_table
from neva_tl.selection import select as select_by

pytestmark = pytest.mark.core

select = partial(select_by, method="effect_size")


def names(neurons: NeuronSet) -> set[tuple[int, int]]:
    return set(zip(neurons.df["layer"], neurons.df["neuron"], strict=True))


def planted(*groups: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(layer, neuron) for group in groups for neuron in group for layer in range(LAYERS)}


@pytest.mark.parametrize("paired", [True, False])
def test_planted_neurons_are_found_and_no_other(paired: bool) -> None:
    stats = make_stats(paired=paired, clusters=40)
    found = select(stats, "benevolence", lam=0.0)
    assert planted(WRITERS, READERS, NEGATIVE, SHARED) <= names(found)
    assert len(found) <= len(planted(WRITERS, READERS, NEGATIVE, SHARED)) + 3
    assert found.df["rank"].tolist() == list(range(1, len(found) + 1))
    assert (found.df["score"].diff().dropna() <= 0).all()
    assert found.settings["design"] == ("paired" if paired else "unpaired")


def test_specificity_puts_shared_neurons_last_or_out() -> None:
    stats = make_stats(clusters=40)
    assert planted(SHARED) & names(select(stats, "benevolence", lam=0.0))
    assert not planted(SHARED) & names(select(stats, "benevolence", lam=1.5))
    leaks = effect_table(stats, "benevolence").set_index(["layer", "neuron"])
    shared = leaks.loc[sorted(planted(SHARED))]
    assert (shared["leak_value"] == "tradition").all() and (shared["leak"] > 0.7).all()


def test_a_neuron_that_lowers_another_value_is_not_penalised() -> None:
    rows = table(clusters=30)
    h = activations(rows)
    opposite = (rows["value"] == "security").to_numpy()
    h[opposite, 0, 0] -= np.where(rows["pole"][opposite] == "+", 1.0, -1.0)
    frame = effect_table(ActivationStats.from_samples(h, rows), "benevolence").set_index(["layer", "neuron"])
    row = frame.loc[(0, 0)]
    assert row["leak_value"] != "security"
    assert row["specific"] == pytest.approx(abs(row["g"]) - max(0.0, row["leak"]))


@pytest.mark.parametrize("paired", [True, False])
def test_table_equals_scipy(paired: bool) -> None:
    rows = table(paired=paired)
    h = activations(rows).astype(np.float64)
    frame = effect_table(ActivationStats.from_samples(h.astype(np.float32), rows), "benevolence", delta=0.0)
    own = (rows["value"] == "benevolence").to_numpy()
    plus, minus = h[own & (rows["pole"] == "+").to_numpy()], h[own & (rows["pole"] == "-").to_numpy()]
    theirs = sps.ttest_rel(plus, minus) if paired else sps.ttest_ind(plus, minus, equal_var=False)
    np.testing.assert_allclose(frame["t"], theirs.statistic.ravel(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frame["p"], theirs.pvalue.ravel(), rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(frame["q"], multipletests(frame["p"], method="fdr_bh")[1], rtol=1e-9)
    n = len(plus)
    if paired:
        g = (plus - minus).mean(0) / (plus - minus).std(0, ddof=1) * hedges_correction(n - 1.0)
    else:
        sd = np.sqrt((plus.var(0, ddof=1) + minus.var(0, ddof=1)) / 2)
        g = (plus.mean(0) - minus.mean(0)) / sd * hedges_correction(2.0 * n - 2)
    np.testing.assert_allclose(frame["g"], g.ravel(), rtol=1e-4, atol=1e-5)
    assert ((frame["lo"] < frame["g"]) & (frame["g"] < frame["hi"])).all()
    np.testing.assert_allclose(frame["mean_plus"], plus.mean(0).ravel(), rtol=1e-4, atol=1e-5)


def test_a_minimum_effect_selects_fewer() -> None:
    stats = make_stats(clusters=40, effect=0.8)
    counts = [len(select(stats, "benevolence", lam=0.0, delta=delta)) for delta in (0.0, 0.2, 0.4)]
    assert counts[0] >= counts[1] >= counts[2] and counts[0] > counts[2]


def test_split_half_drops_a_neuron_carried_by_half_of_the_topics() -> None:
    rows = table(clusters=40)
    h = activations(rows)
    stats = ActivationStats.from_samples(h, rows)
    fold = stats.samples.table["fold"].to_numpy()
    from neva_tl.core.statistics import halves_of_folds

    first, _ = halves_of_folds(stats.diff_n[stats.index("benevolence")])
    own = (rows["value"] == "benevolence").to_numpy()
    sign = np.where(rows["pole"] == "+", 1.0, -1.0)
    h[own, 1, 50] += (np.where(np.isin(fold, first), 4.0, -0.6) * sign)[own]
    stats = ActivationStats.from_samples(h, rows)
    assert (1, 50) in names(select(stats, "benevolence", require_split_half=False))
    assert (1, 50) not in names(select(stats, "benevolence"))


def test_familywise_p_where_samples_are() -> None:
    with_samples, without = make_stats(clusters=40), make_stats(clusters=40, keep=False)
    found = select(with_samples, "benevolence", lam=0.0)
    assert (found.df["p_fwe"].iloc[:5] <= 0.05).all()
    assert ((found.df["p_fwe"] > 0) & (found.df["p_fwe"] <= 1)).all()
    plain = select(without, "benevolence", lam=0.0)
    assert "p_fwe" not in plain.df
    assert names(plain) == names(found)
    again = select(with_samples, "benevolence", lam=0.0)
    assert again.df.equals(found.df)


def test_layers_are_the_family() -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence", layers=[1])
    assert found.layers == (1,) and found.settings["counts"]["neurons"] == WIDTH
    assert len(effect_table(stats, "benevolence", layers=(0, 2))) == 2 * WIDTH


def test_k_cuts_and_default_k_is_bounded() -> None:
    stats = make_stats(clusters=40)
    assert len(select(stats, "benevolence", k=4)) == 4
    assert names(select(stats, "benevolence", k=4)) <= names(select(stats, "benevolence"))
    assert (default_k(46080), default_k(2048), default_k(40)) == (1536, 68, 40)
    with pytest.warns(SelectionWarning, match="fewer than the k = 150"):
        select(stats, "benevolence", k=150)


def test_nothing_left_says_how_many_pairs() -> None:
    stats = make_stats(clusters=6, per_cluster=1, effect=0.0)
    with pytest.warns(SelectionWarning, match=r"with 6 pairs the largest \|g\| is .* needs about \d+ pairs"):
        found = select(stats, "benevolence")
    assert len(found) == 0 and isinstance(found, NeuronSet)


def test_an_empty_set_cannot_edit() -> None:
    stats = make_stats(clusters=6, per_cluster=1, effect=0.0)
    with pytest.warns(SelectionWarning):
        nothing = select(stats, "benevolence")
    for edit in (lambda: Amplify(nothing), lambda: Ablate(nothing), lambda: fit_context(stats, nothing)):
        with pytest.raises(InputError, match="benevolence is empty") as caught:
            edit()
        assert "\n" not in str(caught.value)


def test_doses_and_probabilities_out_of_range_are_refused() -> None:
    stats = make_stats(clusters=40)
    edit = fit_context(stats, select(stats, "benevolence", k=4))
    for p0 in (0.0, 1.0, -0.2, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"p0 is a probability inside \(0, 1\)"):
            edit.at(p0)
    for dose in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="finite number"):
            edit.with_dose(dose)


def test_a_selection_says_what_it_could_have_found() -> None:
    stats = make_stats(clusters=40)
    found = select(stats, "benevolence")
    n, tests = 80, LAYERS * WIDTH
    g = found.settings["power"]["detectable_g"]
    assert g == {
        "alone": pytest.approx(detectable_g(n, delta=0.2)),
        "all": pytest.approx(detectable_g(n, alpha=0.05 / tests, delta=0.2)),
    }
    said = f"with 80 pairs, effects above g = {g['all']:.2f} are found with 80 % power"
    assert said in found.power and said in repr(found) and said in found._repr_html_()
    assert f"({g['alone']:.2f} for one alone)" in found.power
    unpaired = select(make_stats(paired=False, clusters=40), "benevolence")
    assert "texts per pole" in unpaired.power


def test_null_data_select_nothing() -> None:
    chosen = 0
    for seed in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SelectionWarning)
            chosen += len(select(make_stats(seed, effect=0.0, clusters=30), "benevolence", delta=0.0))
    assert chosen <= 3


def test_bad_input() -> None:
    stats = make_stats()
    total = LAYERS * WIDTH
    cases = {
        f"the model has {total} neurons": {"k": total + 1},
        "choose k from 1": {"k": 0},
        "layer 9 does not exist": {"layers": [9]},
        "unknown selection method": {"method": "astrology"},
        "no option 'flipz'": {"flipz": 3},
        "alpha": {"alpha": 1.5},
        "k = -3 is not possible": {"k": -3},
        "must not be negative": {"delta": -0.1},
        "no statistics for site": {"site": "gate"},
    }
    for message, arguments in cases.items():
        with pytest.raises(InputError, match=message):
            select(stats, "benevolence", **arguments)
    with pytest.raises(InputError, match="power was not collected"):
        select(stats, "power")
    with pytest.raises(InputError, match="unknown value"):
        select(stats, "greed")


def test_nan_names_layer_and_neuron() -> None:
    stats = make_stats(keep=False)
    mean = stats.mean.copy()
    mean[stats.index("benevolence"), 0, :, 2, 17] = np.nan
    with pytest.raises(InputError, match="layer 2, neuron 17"):
        select(replace(stats, mean=mean), "benevolence")


def test_a_constant_neuron_is_never_selected() -> None:
    rows = table(clusters=30)
    h = activations(rows)
    h[:, 0, 40] = 0.1
    h[:, 0, 41] = 0.0
    frame = effect_table(ActivationStats.from_samples(h, rows), "benevolence").set_index(["layer", "neuron"])
    assert (frame.loc[[(0, 40), (0, 41)], "g"] == 0).all() and (frame.loc[[(0, 40), (0, 41)], "p"] > 0.99).all()
    assert np.isfinite(frame[["g", "lo", "hi", "p", "q", "leak", "specific"]].to_numpy()).all()


def test_one_cluster_cannot_be_halved() -> None:
    stats = make_stats(clusters=1, per_cluster=6)
    with pytest.raises(InputError, match="split halves"):
        select(stats, "benevolence")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        select(stats, "benevolence", require_split_half=False)


def test_saved_set_is_the_same(tmp_path: object) -> None:
    found = select(make_stats(clusters=30), "benevolence")
    again = NeuronSet.load(found.save(f"{tmp_path}/benevolence"))
    assert names(again) == names(found) and again.settings == found.settings
    np.testing.assert_allclose(again.df["g"], found.df["g"])


def test_a_real_models_size_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    v, f, layers, width = 4, 8, 30, 1536
    mean = rng.normal(size=(v, 2, f, layers, width), scale=0.1).astype(np.float32)
    diff = mean[:, 0] - mean[:, 1]
    ones = np.ones_like(mean) * 4
    stats = ActivationStats(
        values=(*VALUES, "universalism"),
        n=np.full((v, 2, f), 5),
        mean=mean,
        m2=ones,
        positive=ones,
        diff_n=np.full((v, f), 5),
        diff_mean=diff,
        diff_m2=ones[:, 0] * 2,
        resid=np.ones((v, 2, layers, 4), dtype=np.float32),
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        select(stats, "benevolence")
    assert time.perf_counter() - start < 10
