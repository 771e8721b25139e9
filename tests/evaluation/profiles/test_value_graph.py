"""Value graphs on linear-Gaussian data with a known graph."""

import builtins

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation import ValueProfile, item_rows, learn_value_graph, profile_rows
from neva_tl.evaluation.judges.base import ItemScores
from neva_tl.evaluation.profiles.value_graph import _arcs

pytest.importorskip("causallearn", reason="needs causal-learn (pip install 'neva_tl[judges]')")

#: cause, effect, weight; nodes by their place. Two colliders (1 and 8) orient what they meet; 4 - 5 cannot be oriented.
PLANTED = [(0, 1, 0.8), (2, 1, 0.8), (1, 3, 0.7), (4, 5, -0.8), (6, 8, 0.7), (7, 8, 0.7), (8, 9, 0.8)]
ORDER = [0, 2, 1, 3, 4, 5, 6, 7, 8, 9]


def planted(n, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 10))
    for j in ORDER:
        x[:, j] = rng.normal(size=n) + sum(w * x[:, i] for i, k, w in PLANTED if k == j)
    return pd.DataFrame(x, columns=VALUES)


def pairs_of(frame):
    return {frozenset(pair) for pair in zip(frame["a"], frame["b"], strict=True)}


@pytest.mark.parametrize("method", ["pc", "ges"])
def test_a_known_skeleton_is_found_with_what_can_be_oriented(method):
    found = learn_value_graph(planted(500), method=method, n_boot=25, share=0.8)
    true = {frozenset((VALUES[i], VALUES[j])) for i, j, _ in PLANTED}
    assert pairs_of(found.edges) == true
    arcs = {(a, b) for a, b, about in found.graph.edges(data=True) if about["directed"]}
    colliders = {(VALUES[i], VALUES[j]) for i, j, _ in PLANTED if (i, j) != (4, 5)}
    assert arcs == colliders
    assert found.graph.has_edge(VALUES[4], VALUES[5]) and found.graph.has_edge(VALUES[5], VALUES[4])
    row = found.df[(found.df["a"] == VALUES[4]) & (found.df["b"] == VALUES[5])].iloc[0]
    assert row["direction"] == "-" and row["r"] < -0.5 and row["distance"] == 36
    assert nx.number_of_nodes(found.graph) == 10 and found.n_failed == 0


def test_independent_columns_give_almost_no_edge():
    count = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        noise = pd.DataFrame(rng.normal(size=(120, 10)), columns=VALUES)
        count += len(learn_value_graph(noise, n_boot=25).edges)
    assert count <= 2  # of 180 pairs


def test_shares_are_shares_and_the_seed_decides():
    data = planted(80, seed=3)
    a, b = (learn_value_graph(data, n_boot=10, seed=5).df for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert (a["forward"] + a["backward"] <= a["adjacent"] + 1e-12).all() and a["adjacent"].between(0, 1).all()
    assert (a["drawn"] == (a["adjacent"] >= 0.7)).all() and (a.loc[~a["drawn"], "direction"] == "").all()
    assert len(a) == 45 and len(learn_value_graph(data, n_boot=10, seed=5, share=0.1).edges) > 0


def test_whole_clusters_are_drawn():
    """Rows repeated in clusters carry no more than one row each: where the cluster is known, the edge is not stable."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 2))  # independent; their chance correlation looks certain once each row is there 12 times
    x[:, 1] += 0.45 * (x[:, 0] - x[:, 0].mean()) - np.polyfit(x[:, 0], x[:, 1], 1)[0] * x[:, 0]
    repeated = pd.DataFrame(np.repeat(x, 12, axis=0) + 0.01 * rng.normal(size=(144, 2)), columns=["power", "security"])
    clusters = np.repeat(np.arange(12), 12)
    apart = learn_value_graph(repeated, n_boot=60, alpha=0.001).df["adjacent"][0]
    together = learn_value_graph(repeated, n_boot=60, alpha=0.001, clusters=clusters).df["adjacent"][0]
    assert apart > 0.85 and together < apart - 0.1


def test_end_marks_become_arcs():
    # causal-learn: ends[j, i] = 1 and ends[i, j] = -1 is i -> j
    ends = np.zeros((4, 4))
    ends[1, 0], ends[0, 1] = 1, -1  # 0 -> 1
    ends[2, 3] = ends[3, 2] = -1  # 2 - 3
    ends[0, 3] = ends[3, 0] = 1  # 0 <-> 3
    arcs = _arcs(ends)
    assert arcs[0, 1] and not arcs[1, 0] and arcs[2, 3] and arcs[3, 2] and arcs[0, 3] and arcs[3, 0]
    assert arcs.sum() == 5


def test_rows_from_profiles_and_from_texts():
    scores = tuple(np.array([0.1 * j, 0.2 * j, np.nan if j == 3 else 0.3]) for j in range(10))
    shared = ItemScores(VALUES, scores, tuple(np.array(["x", "y", "z"]) for _ in VALUES), shared=True)
    rows, clusters = item_rows(shared)
    assert rows.shape == (2, 10) and clusters.tolist() == ["x", "y"] and rows.loc[1, "power"] == pytest.approx(0.8)
    apart = ItemScores(VALUES, scores, shared.clusters)
    with pytest.raises(InputError, match="other items for each value"):
        item_rows(apart)
    edited = ItemScores(VALUES, tuple(s + 1 for s in scores), shared.clusters)
    table = profile_rows({"plain": ValueProfile(apart), "edited": ValueProfile(apart, edited)})
    assert table.loc["edited", "power"] - table.loc["plain", "power"] == pytest.approx(1.0)
    assert table.loc["plain", "achievement"] == pytest.approx((0.3 + 0.6) / 2)  # its third score is missing


def test_it_shows_itself():
    found = learn_value_graph(planted(200), n_boot=5)
    figure = found.show()
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert set(VALUES) <= labels and len(figure.axes[0].patches) == len(found.edges)
    assert "<table" in found._repr_html_() and "value graph" in str(found)
    empty = learn_value_graph(planted(200), n_boot=5).df.assign(drawn=False, direction="")
    from neva_tl.plots import value_graph_plot

    assert "no stable edge" in {text.get_text() for text in value_graph_plot(empty).axes[0].texts}


@pytest.mark.parametrize(
    ("change", "options", "complaint"),
    [
        (lambda x: x.head(10), {}, "at least 14 rows, not 10"),
        (lambda x: x.assign(power=1.0), {}, "power never change"),
        (lambda x: x.assign(power=np.nan), {}, "power have missing"),
        (lambda x: x.sub(x.mean(axis=1), axis=0), {}, "determine each other"),
        (lambda x: x, {"method": "lingam"}, "choose pc or ges"),
        (lambda x: x, {"share": 0.0}, "share in"),
        (lambda x: x, {"alpha": 1.5}, "alpha"),
        (lambda x: x, {"clusters": ["a"] * 60}, "three clusters"),
        (lambda x: x, {"clusters": ["a"]}, "1 cluster names"),
    ],
)
def test_what_cannot_be_learned_from_is_said(change, options, complaint):
    with pytest.raises(InputError, match=complaint):
        learn_value_graph(change(planted(60)), n_boot=3, **options)


def test_a_missing_library_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("causallearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'neva_tl\[judges\]'"):
        learn_value_graph(planted(60), n_boot=3)
