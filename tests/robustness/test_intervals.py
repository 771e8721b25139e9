"""No public measure gives an interval that excludes its estimate, on random responses.

The measures of leakage are in tests/evaluation/measures/test_estimate.py, the limits in tests/core/statistics/test_limits.py,
the tables of a run in tests/helpers/results_schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neva_tl
from helpers.planted_judge import judged, responses
from helpers.planted_neurons import make_stats
from helpers.results_schema import excluded
from neva_tl.circuits.search.faithfulness import _ratio
from neva_tl.circuits.search.single import intervals
from neva_tl.circuits.search.task import ValueTask
from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.core.values import VALUES
from neva_tl.evaluation.benchmarks import Scores, compare_capability, mean_over_conditions
from neva_tl.evaluation.benchmarks.compare import bonett_price
from neva_tl.evaluation.judge_quality.annotation import unblinded
from neva_tl.evaluation.judge_quality.corrected import correct
from neva_tl.evaluation.judge_quality.mixing import mixing
from neva_tl.evaluation.judge_quality.quality import Judged, agreement, quality
from neva_tl.evaluation.judges.base import ItemScores
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.evaluation.profiles.profile import ValueProfile, couple
from neva_tl.evaluation.profiles.svo import SvoResult, bootstrap_angles, chosen, ring_games, to_scale
from neva_tl.selection import nested_bootstrap
from neva_tl.selection.planted.measure import share
from neva_tl.study.analyses import equal_gain, method_comparison, sparsity, two_values

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def contained(*tables: pd.DataFrame | dict[str, Any] | Iterable[Estimate]) -> None:
    """Check tables (columns of intervals are recognised by name), rows, and estimates."""
    for table in tables:
        if isinstance(table, dict):
            table = pd.DataFrame([table])
        elif not isinstance(table, pd.DataFrame):
            table = pd.DataFrame([x.to_json() for x in table])
        count, outside = excluded(table)
        assert count, "no interval in the table"
        assert not outside, outside


def item_scores(rng: np.random.Generator) -> ItemScores:
    n = int(rng.integers(2, 8))
    scores = tuple(rng.standard_t(2, n) for _ in VALUES)
    for x in scores:
        x[rng.random(n) < 0.3] = np.nan
    clusters = tuple(np.array([f"t{k}" for k in rng.integers(0, 4, n)]) for _ in VALUES)
    return ItemScores(VALUES, scores, clusters)


@few
@given(SEEDS)
def test_profiles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = item_scores(rng)
    after = ItemScores(VALUES, tuple(x + rng.normal(0, 1, len(x)) for x in before.scores), before.clusters)
    profile = ValueProfile(before, after, judge="j", unit="u", n_boot=20)
    table = profile.df
    for side in ("before", "after", "change"):
        rows = table[[side, f"{side}_lo", f"{side}_hi"]].astype(float)
        assert not ((rows[f"{side}_lo"] > rows[side]) | (rows[f"{side}_hi"] < rows[side])).any()
    for x in (profile.tax("power"), couple({"power": profile}, n_boot=20).coupling):
        assert x.lo is None or x.est is None or x.lo <= x.est


@few
@given(SEEDS)
def test_social_value_orientation(seed: int) -> None:
    rng, games = np.random.default_rng(seed), ring_games()
    sides = []
    for _ in range(2):
        utility = rng.standard_t(2, (len(games), len(games[0].allocations)))
        draws = bootstrap_angles(games, to_scale(games, chosen(games, utility)), n_boot=20, seed=seed)
        sides.append(SvoResult(games, utility, np.zeros(utility.shape[1]), draws))
    contained(sides[0].to(sides[1]).df)


@few
@given(SEEDS, st.integers(2, 30))
def test_agreement_and_quality_of_judges(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 10)) < 0.3).astype(float)
    scores = np.where(rng.random((n, 10)) < 0.2, np.nan, rng.random((n, 10)).round(1))
    clusters = np.array([f"c{k}" for k in rng.integers(0, max(2, n // 3), n)])
    result = agreement(scores, labels, clusters, n_boot=20)
    _, outside = excluded(result.df)
    assert not outside
    assert result.mean.lo is None or result.mean.lo <= result.mean.est <= result.mean.hi
    texts = LabelledTexts("made", ("t",) * n, ("",) * n, labels, VALUES, clusters, np.array(["test"] * n))
    decisions = np.where(np.isnan(scores), np.nan, scores >= 0.5)
    card = quality(
        SimpleNamespace(name="j", unit="u"), texts, n_boot=20, said=Judged(scores, decisions, None, None, True, 1.0)
    )
    for table in (card.df, card.macro):
        _, outside = excluded(table)
        assert not outside


@few
@given(SEEDS)
def test_annotations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = [f"k{k}" for k in range(12)]
    answers = {(key, 0): {name: int(rng.integers(0, 2)) for name in VALUES} for key in keys}
    conditions = pd.DataFrame(
        {
            "method": ["neva"] * 6 + ["caa"] * 6,
            "item": keys,
            "base": keys[::-1],
            "topic": [f"t{k % 3}" for k in range(12)],
        }
    ).assign(steered="power")
    contained(unblinded(conditions, answers, n_boot=20))


@pytest.mark.parametrize(("seed", "n_boot"), [(0, 5), (1, 40)])
def test_corrected_leakage(seed: int, n_boot: int) -> None:
    texts = judged(seed=seed, n=200)
    result = correct(
        responses(np.eye(10)[:3] * 0.4 + 0.05, seed=seed), texts, n_boot=n_boot, n_permutations=9, n_splits=2
    )
    for table in (
        result.table(),
        result.per_value(),
        result.summary(),
        result.csr,
        mixing(texts, n_boot=n_boot).table(),
    ):
        contained(table)


@settings(max_examples=6, deadline=None)
@given(SEEDS, st.integers(2, 30), st.booleans())
def test_capability(seed: int, n: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    clusters = [f"c{k}" for k in rng.integers(0, max(2, n // 2), n)] if grouped else [str(k) for k in range(n)]

    def right(share: float) -> Scores:
        rows = {"item": [str(k) for k in range(n)], "cluster": clusters, "acc": (rng.random(n) < share).astype(float)}
        return Scores("set", "pair", "k", f"at {share}", pd.DataFrame(rows))

    def texts(condition: str) -> Scores:
        rows = {"item": [str(k) for k in range(n)], "cluster": clusters, "loss": rng.gamma(2, 3, n)}
        rows |= {"tokens": rng.integers(1, 9, n), "bytes": rng.integers(9, 30, n)}
        return Scores("texts", "text", "k", condition, pd.DataFrame(rows))

    base, others = right(0.9), [right(0.2), right(1.0), right(0.0)]
    contained(base.df, compare_capability(base, others[0]).df, mean_over_conditions(base, others))
    contained(compare_capability(texts("unedited"), texts("edited")).df)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 9), st.sampled_from([0.01, 0.5, 0.95]))
def test_differences_of_paired_shares(lost: int, won: int, more: int, level: float) -> None:
    n = lost + won + more
    if n:
        lo, hi = bonett_price(lost, won, n, level)
        assert -1 <= lo <= (won - lost) / n <= hi <= 1
        assert share(won, n, level)[1] <= won / n <= share(won, n, level)[2]


@few
@given(SEEDS, st.integers(2, 9))
def test_circuits(seed: int, n: int) -> None:
    """Faithfulness (a ratio), and Welch's intervals of effects that are equal up to rounding."""
    rng = np.random.default_rng(seed)
    signs = np.array([1.0, -1.0] * n)
    rows = np.column_stack([rng.normal(0, 0.1, (2 * n, 3)) + signs[:, None] * [0.0, 1.0, 0.9], signs])
    ratio = cluster_bootstrap(rows, np.repeat(np.arange(n), 2), _ratio, n=20, rng=rng)
    assert ratio.lo <= ratio.est <= ratio.hi
    change = np.concatenate([rng.standard_t(1, (2 * n, 4)), 0.1 + 1e-17 * rng.normal(size=(2 * n, 2))], axis=1)
    task = object.__new__(ValueTask)
    object.__setattr__(task, "signs", signs)
    est, lo, hi = intervals(task, change).T
    assert (lo <= est).all()
    assert (est <= hi).all()


@few
@given(SEEDS)
def test_comparisons_of_methods(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    rows = method_comparison.ratio_of_means(rng.gamma(0.3, 1, n), rng.gamma(0.3, 1, n), name="kl", n_boot=20)
    contained(rows)

    def curve(method: str) -> equal_gain.Curve:
        gain = np.cumsum(rng.gamma(2, 0.1, (21, 3)), axis=1)
        gain[:, 0] = 0
        leak = rng.normal(0.05, 0.1, (21, 3))
        leak[:, 0] = 0
        costs = {"kl": np.array([0, *rng.gamma(1, 1, 2)]), "loss": np.array([0, *rng.normal(0, 1, 2)])}
        return equal_gain.Curve(method, gain, leak, costs, ("power", "tradition"), 12)

    ours, rival = curve("neva"), curve("caa")
    contained(equal_gain.contest(ours, rival, 0.1), equal_gain.curves_table({"none": [ours, rival]}))
    draws = {name: rng.standard_t(2, 21) for name in ("gain", "min_gain", "leakage", "kept")}
    contained(two_values.numbers(draws, 12), sparsity._numbers(draws["gain"], draws["leakage"], 12))
    contained([sparsity.over_values(rng.gamma(0.3, 1, 3).tolist(), seed, 20)])


@pytest.mark.parametrize("seed", range(3))
def test_neurons_of_a_nested_bootstrap(seed: int) -> None:
    stats = make_stats(clusters=12, values=("benevolence",), effect=0.4, seed=seed)
    result = nested_bootstrap(stats, "benevolence", k=5, draws=10, lam=0.0)
    assert result.lo <= result.corrected <= result.hi


#: Modules that may compute tails of draws, or call another library's interval, because `limits` follows at once.
TAILS = {
    "core/statistics/limits.py", "core/statistics/resampling.py", "evaluation/measures/estimate.py", "selection/nested.py",
    "study/analyses/method_comparison.py", "circuits/search/single.py",
}  # fmt: skip


def test_no_module_computes_intervals_of_its_own() -> None:
    root = Path(neva_tl.__file__).parent
    calls: Callable[[str], bool] = lambda text: any(  # noqa: E731
        name in text for name in ("proportion_confint(", ".confidence_interval(", "conf_int(", "nanquantile(")
    )
    own = {str(path.relative_to(root)) for path in root.rglob("*.py") if calls(path.read_text(encoding="utf-8"))}
    assert own <= TAILS
    for name in own | TAILS:
        text = (root / name).read_text(encoding="utf-8")
        assert "containing(" in text or "shifted(" in text, name
