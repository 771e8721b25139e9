"""Paired comparison against SciPy, statsmodels' tables and hand computation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks import Scores, compare_capability, mean_over_conditions
from neva_tl.evaluation.benchmarks.compare import bonett_price


def scores(
    right: list[float] | np.ndarray, clusters: list[str] | None = None, condition: str = "x", key: str = "k"
) -> Scores:
    items = [str(i) for i in range(len(right))]
    table = pd.DataFrame({"item": items, "cluster": clusters or items, "acc": np.asarray(right, float)})
    return Scores("set", "pair", key, condition, table)


def texts(loss: np.ndarray, tokens: np.ndarray, n_bytes: np.ndarray, condition: str = "x") -> Scores:
    items = [str(i) for i in range(len(loss))]
    table = pd.DataFrame({"item": items, "cluster": items, "loss": loss, "tokens": tokens, "bytes": n_bytes})
    return Scores("texts", "text", "k", condition, table)


def test_bonett_price_by_hand() -> None:
    # 6 lost, 1 won of 50: (2 - 7) / 52, spread sqrt((9/52 - 25/52^2) / 52)
    middle, half = -5 / 52, 1.959963985 * np.sqrt((9 / 52 - 25 / 52**2) / 52)
    assert bonett_price(6, 1, 50) == pytest.approx((middle - half, middle + half))
    lo, hi = bonett_price(0, 0, 100)
    assert lo == -hi and 0.02 < hi < 0.05  # no item changed: still a width
    for bad in ((1, 0, 0), (3, 3, 5), (-1, 0, 5)):
        with pytest.raises(InputError, match="cannot be"):
            bonett_price(*bad)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 200))
def test_bonett_price_is_symmetric_and_inside(lost: int, won: int, more: int) -> None:
    n = lost + won + more
    lo, hi = bonett_price(lost, won, n)
    assert -1 <= lo < hi <= 1
    assert bonett_price(won, lost, n) == pytest.approx((-hi, -lo))
    assert bonett_price(lost, won, n, level=0.5)[0] > lo


def test_bonett_price_covers_as_often_as_it_says() -> None:
    p_lost, p_won, n = 0.12, 0.04, 80
    draws = np.random.default_rng(1).multinomial(n, [p_lost, p_won, 1 - p_lost - p_won], size=4000)
    inside = [lo <= p_won - p_lost <= hi for lo, hi in (bonett_price(int(a), int(b), n) for a, b, _ in draws)]
    assert 0.935 < np.mean(inside) < 0.98


def test_mcnemar_is_the_binomial_test_of_the_items_that_changed() -> None:
    rng = np.random.default_rng(0)
    before = (rng.random(200) < 0.6).astype(float)
    after = np.where(rng.random(200) < np.where(before, 0.25, 0.1), 1 - before, before)
    (row,) = compare_capability(scores(before), scores(after, condition="edited")).df.to_dict("records")
    lost, won = int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum())
    assert (row["lost"], row["won"], row["n"]) == (lost, won, 200) and lost != won
    assert row["p"] == pytest.approx(binomtest(lost, lost + won, 0.5).pvalue)
    assert row["difference"] == pytest.approx(after.mean() - before.mean()) == pytest.approx((won - lost) / 200)
    assert (row["base"], row["edited"]) == pytest.approx((before.mean(), after.mean()))
    assert (row["lo"], row["hi"]) == bonett_price(lost, won, 200)
    assert row["interval"] == "Bonett-Price, items" and row["condition"] == "edited"


def test_nothing_changed() -> None:
    (row,) = compare_capability(scores([1, 0, 1, 1]), scores([1, 0, 1, 1])).df.to_dict("records")
    assert row["p"] == 1.0 and row["difference"] == 0 and row["lo"] < 0 < row["hi"]


def test_clusters_widen_the_interval() -> None:
    """Items of a cluster change together: the bootstrap by cluster knows, the items' interval does not."""
    names = [str(i // 20) for i in range(200)]
    lost = np.isin(np.arange(200) // 20, (0, 1, 2))
    before, after = np.ones(200), np.where(lost, 0.0, 1.0)
    (clustered,) = compare_capability(scores(before, names), scores(after, names)).df.to_dict("records")
    assert clustered["interval"] == "Bonett-Price or bootstrap, 10 clusters"
    # the bootstrap of ten clusters of which three lost everything: a binomial(10, .3) over 10
    expected = np.quantile(np.random.default_rng(2).binomial(10, 0.3, 100_000) / 10, [0.025, 0.975])
    assert (-clustered["hi"], -clustered["lo"]) == pytest.approx(tuple(expected), abs=0.051)
    lo, hi = bonett_price(60, 0, 200)
    assert clustered["hi"] - clustered["lo"] > 2 * (hi - lo)


def test_a_repeated_question_does_not_narrow_the_interval() -> None:
    """Five of sixty won and none lost: a bootstrap can draw no loss, so that alone it would leave 0 out."""
    names = ["same", "same", *(str(i) for i in range(58))]
    before, after = np.zeros(60), np.r_[np.zeros(55), np.ones(5)]
    (row,) = compare_capability(scores(before, names), scores(after, names)).df.to_dict("records")
    lo, hi = bonett_price(0, 5, 60)
    assert row["lo"] <= lo and row["hi"] >= hi
    (still,) = compare_capability(scores(before, names), scores(before, names)).df.to_dict("records")
    assert still["lo"] < 0 < still["hi"]  # no item changed: the bootstrap alone would have no width


def test_perplexity_is_a_ratio_of_sums_and_its_bootstrap_is_paired() -> None:
    rng = np.random.default_rng(0)
    tokens, n_bytes = rng.integers(20, 60, 40).astype(float), rng.integers(80, 300, 40).astype(float)
    loss = tokens * rng.normal(3, 1, 40).clip(0.5)
    base, edited = texts(loss, tokens, n_bytes), texts(loss + 0.1 * tokens, tokens, n_bytes, "edited")
    df = compare_capability(base, edited).df.set_index("metric")
    assert df.loc["perplexity", "base"] == pytest.approx(np.exp(loss.sum() / tokens.sum()))
    assert df.loc["byte_perplexity", "edited"] == pytest.approx(
        np.exp((loss.sum() + 0.1 * tokens.sum()) / n_bytes.sum())
    )
    # each text loses the same per token, so every resample's ratio is exp(.1) times: paired, the interval is that of the base
    row, spread = df.loc["perplexity"], base.df.set_index("metric").loc["perplexity"]
    factor = np.exp(0.1) - 1
    assert (row["lo"], row["hi"]) == pytest.approx((factor * spread["lo"], factor * spread["hi"]))
    assert np.isnan(row["p"]) and np.isnan(row["lost"])


def test_mean_over_conditions() -> None:
    rng = np.random.default_rng(0)
    base = scores((rng.random(120) < 0.7).astype(float))
    others = [scores((rng.random(120) < p).astype(float), condition=str(p)) for p in (0.5, 0.6, 0.7)]
    (row,) = mean_over_conditions(base, others).to_dict("records")
    right = np.mean([one.table["acc"] for one in others], axis=0)
    d = right - base.table["acc"].to_numpy()
    assert row["edited"] == pytest.approx(right.mean()) and row["difference"] == pytest.approx(d.mean())
    half = 1.96 * d.std(ddof=1) / np.sqrt(120)
    assert (row["lo"], row["hi"]) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.02)
    assert np.isnan(row["p"]) and row["n"] == 120
    with pytest.raises(InputError, match="at least one"):
        mean_over_conditions(base, [])


def test_single_shares_have_wilsons_interval() -> None:
    found = scores([1.0] * 7 + [0.0] * 3)
    assert found.df[["lo", "hi"]].to_numpy()[0] == pytest.approx(proportion_confint(7, 10, method="wilson"))
    assert found.df["n"].tolist() == [10]


def test_other_items_are_refused() -> None:
    with pytest.raises(InputError, match="other items in edited"):
        compare_capability(scores([1, 0]), scores([1, 0], key="other", condition="edited"))
    with pytest.raises(InputError, match="no set was scored in both"):
        compare_capability({"a": scores([1, 0])}, {"b": scores([1, 0])})


def test_comparison_shows_itself() -> None:
    found = compare_capability(scores([1, 0, 1, 1]), scores([1, 0, 0, 1], condition="<edited>"))
    assert "&lt;edited&gt;" in found._repr_html_() and "-0.25" in str(found)
    assert found.show().axes[0].get_xlabel() == "difference"
