"""Graph of the ten values' scores, learned from many profiles.

An edge joins two values that change together, given all others. The idea is that of the causal value graph of arXiv 2501.00581.
The search is causal-learn's: PC (Fisher's z, constraint based) or GES (BIC, score based). Both assume linear relations with
Gaussian noise, independent rows and no hidden common cause, and both return an equivalence class: an edge that the data cannot
orient has no arrow. Where the rows are conditions of an experiment, their scores are a design, not a sample: the graph then
describes joint changes, not causes. Edges that are unstable under resampling are not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from neva_tl.core.arguments import check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import theory_of
from neva_tl.evaluation.judges.base import ItemScores
from neva_tl.evaluation.profiles.profile import ValueProfile

#: Largest share of failed draws (a resample without spread, or collinear) before learning fails.
MAX_FAILED = 0.1
#: Adjacency of a graph: `arcs[a, b]` without `arcs[b, a]` is a -> b; both are an edge without arrow.
Arcs = Bool[np.ndarray, "v v"]


@dataclass(frozen=True, eq=False)
class ValueGraph:
    """A partially directed graph with the stability of its edges and arrows.

    Attributes:
        values: Nodes in circle order.
        method: `pc` or `ges`.
        df: One row per pair: a, b, `adjacent` (share of draws that join them), `forward` and `backward` (share of draws with the
            arrow a -> b, b -> a), `r` (correlation in the data), `in_data` (joined on all rows), `distance` (degrees on the
            circle), `drawn`, and `direction` of the drawn edge: `->`, `<-`, `-`, or empty.
        share: Smallest share of draws with an edge that is drawn. An arrow is drawn where it has at least this share of the
            draws with the edge.
        n_rows: Number of rows.
        n_draws: Number of usable draws.
        n_failed: Number of draws without a graph.
    """

    values: tuple[str, ...]
    method: str
    df: pd.DataFrame
    share: float
    n_rows: int
    n_draws: int
    n_failed: int

    @property
    def graph(self) -> nx.DiGraph:
        """Drawn edges as a networkx graph.

        An arrow is one arc, an edge without arrow is two (attribute `directed`). Arcs have the attributes `adjacent`, `share` (of
        that arrow) and `r`.
        """
        out = nx.DiGraph(method=self.method, share=self.share)
        out.add_nodes_from(self.values)
        for row in self.df[self.df["drawn"]].to_dict("records"):
            both = row["direction"] == "-"
            for ends, share, mark in (
                ((row["a"], row["b"]), row["forward"], "->"),
                ((row["b"], row["a"]), row["backward"], "<-"),
            ):
                if both or row["direction"] == mark:
                    about = {"adjacent": row["adjacent"], "share": share, "r": row["r"], "directed": not both}
                    out.add_edge(*ends, **about)
        return out

    @property
    def edges(self) -> pd.DataFrame:
        """Drawn pairs, the most stable first."""
        return self.df[self.df["drawn"]].sort_values("adjacent", ascending=False, kind="stable").reset_index(drop=True)

    def _facts(self) -> dict[str, Any]:
        facts = {"search": self.method, "rows": self.n_rows, "draws": self.n_draws, "failed": self.n_failed}
        return facts | {"drawn from share": self.share, "edges": int(self.df["drawn"].sum())}

    def _repr_html_(self) -> str:
        return card("Value graph", self._facts(), self.edges)

    def __str__(self) -> str:
        head = ", ".join(f"{name} {x}" for name, x in self._facts().items())
        return f"value graph: {head}\n{self.edges.round(2).to_string(index=False) if len(self.edges) else 'no stable edge'}"

    def show(self) -> Any:
        """Plot the stable edges around the circle as a matplotlib figure."""
        from neva_tl.plots import value_graph_plot

        return value_graph_plot(self.df, title=f"Value graph ({self.method.upper()}, {self.n_rows} rows)")


@check_arguments
def learn_value_graph(
    rows: pd.DataFrame,
    *,
    method: str = "pc",
    clusters: Sequence[str] | np.ndarray | None = None,
    alpha: float = 0.01,
    share: float = 0.7,
    n_boot: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> ValueGraph:
    """Learn the graph and its stability.

    Args:
        rows: One row per profile, one column per value (two or more of the ten). Rows should be independent draws. The
            replicates of one bootstrap are not independent, and make any edge look certain.
        method: `pc`, or `ges` (without a level: its BIC counts a resampled row as a new one, so weak edges pass more easily).
        clusters: Cluster of each row (prompt, topic), the unit of resampling. None makes every row its own cluster.
        alpha: Level of PC's independence tests; unused by GES.
        share: Smallest share of draws with a drawn edge, and of these with its arrow.
        n_boot: Number of draws with replacement.
        seed: Seed of the draws.
        progress: Show a progress bar on stderr.

    Raises:
        InputError: causal-learn is missing, the method is unknown, scores are too few, missing or constant, or columns
            determine each other (mean-centred profiles sum to a constant).
        WorkError: More than a tenth of the draws gave no graph.
    """
    search = _search(method, alpha)
    x, values = _checked(rows)
    if not 0 < share <= 1 or n_boot < 2:
        raise InputError(f"a value graph needs a share in (0, 1] and at least 2 draws, not {share} and {n_boot}")
    names = np.arange(len(x)).astype(str) if clusters is None else np.asarray(clusters, dtype=str)
    if len(names) != len(x):
        raise InputError(f"{len(x)} rows but {len(names)} cluster names")
    distinct, member = np.unique(names, return_inverse=True)
    if len(distinct) < 3:
        raise InputError(f"a value graph needs at least three clusters of rows to resample: there are {len(distinct)}")
    arcs = search(x)
    groups = [np.flatnonzero(member == k) for k in range(len(distinct))]
    rng = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    for _ in progress_bar(range(n_boot), desc="value graph", unit="draw", progress=progress):
        picked = x[np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])]
        if _usable(picked):
            drawn.append(search(picked))
    failed = n_boot - len(drawn)
    if failed > MAX_FAILED * n_boot:
        raise WorkError(f"{failed} of {n_boot} resamples had constant or collinear columns: more rows are needed")
    table = _table(values, x, arcs, np.stack(drawn), share)
    return ValueGraph(values, method, table, share, len(x), len(drawn), failed)


@check_arguments
def profile_rows(profiles: Mapping[str, ValueProfile]) -> pd.DataFrame:
    """Arrange the mean scores of profiles as rows.

    A row has the edited scores of a profile with an edit, else the unedited ones.

    Args:
        profiles: Name of each condition -> profile.

    Raises:
        InputError: `profiles` is empty.
    """
    if not profiles:
        raise InputError("there are no profiles to make rows of")
    means = {name: profile.means(edited=profile.after is not None) for name, profile in profiles.items()}
    return pd.DataFrame.from_dict(means, orient="index")


@check_arguments
def item_rows(items: ItemScores) -> tuple[pd.DataFrame, np.ndarray]:
    """Arrange item scores as rows, one per text, and return their clusters.

    Texts with a missing score are left out.

    Args:
        items: Item scores of values that share their items.

    Raises:
        InputError: The values have different items (each value of a survey has its own).
    """
    if not items.shared:
        raise InputError("these scores have other items for each value: make rows of entire profiles (profile_rows)")
    table = pd.DataFrame(dict(zip(items.values, items.scores, strict=True)))
    complete = table.notna().all(axis=1).to_numpy()
    return table[complete].reset_index(drop=True), np.asarray(items.clusters[0], dtype=str)[complete]


def _checked(rows: pd.DataFrame) -> tuple[Float[np.ndarray, "n v"], tuple[str, ...]]:
    """Check the scores and arrange them in the order of their theory.

    Raises:
        InputError: The scores are unusable; see `learn_value_graph`.
    """
    columns = tuple(map(str, rows.columns))
    values = theory_of(columns).in_order(columns)
    if len(values) < 2:
        raise InputError("a value graph needs the scores of two values or more")
    x = rows[list(values)].to_numpy(dtype=np.float64)
    if len(x) < len(values) + 4:
        raise InputError(f"a value graph over {len(values)} values needs at least {len(values) + 4} rows, not {len(x)}")
    if not np.isfinite(x).all():
        bad = values[int(np.argmin(np.isfinite(x).all(axis=0)))]
        raise InputError(f"the scores of {bad} have missing entries: leave those rows out")
    flat = np.ptp(x, axis=0) == 0
    if flat.any():
        raise InputError(f"the scores of {values[int(np.argmax(flat))]} never change: leave that column out")
    if not _usable(x):
        raise InputError(
            "the columns determine each other (mean-centred profiles sum to a constant): use scores that are not centred, "
            "or leave a value out"
        )
    return x, values


def _usable(x: Float[np.ndarray, "n v"]) -> bool:
    """Whether the correlation matrix of the columns can be inverted."""
    if (np.ptp(x, axis=0) == 0).any():
        return False
    return bool(np.linalg.eigvalsh(np.corrcoef(x, rowvar=False))[0] > 1e-8)


def _search(method: str, alpha: float) -> Callable[[Float[np.ndarray, "n v"]], Arcs]:
    """Return the search as a function from rows to arcs.

    Raises:
        InputError: causal-learn is missing, or the method or level is invalid.
    """
    if method not in ("pc", "ges"):
        raise InputError(f"unknown search {method!r}: choose pc or ges")
    if not 0 < alpha < 1:
        raise InputError(f"alpha must lie in (0, 1), not {alpha}")
    try:
        from causallearn.search.ConstraintBased.PC import pc
        from causallearn.search.ScoreBased.GES import ges
    except ImportError as error:
        raise InputError("value graphs need causal-learn: pip install 'neva_tl[judges]'") from error

    def by_pc(x: Float[np.ndarray, "n v"]) -> Arcs:
        return _arcs(pc(x, alpha=alpha, indep_test="fisherz", show_progress=False).G.graph)

    def by_ges(x: Float[np.ndarray, "n v"]) -> Arcs:
        return _arcs(ges(x, score_func="local_score_BIC")["G"].graph)

    return by_pc if method == "pc" else by_ges


def _arcs(ends: Int[np.ndarray, "v v"] | Float[np.ndarray, "v v"]) -> Arcs:
    """Convert causal-learn's end marks to arcs.

    `ends[j, i] = 1` with `ends[i, j] = -1` is i -> j; -1 twice is an edge without arrow, and so is 1 twice (two rules disagree).
    """
    joined = (ends != 0) & (ends.T != 0)
    out_of = joined & (ends == -1) & (ends.T == 1)
    either = joined & (ends == ends.T)
    return np.asarray(out_of | either, dtype=bool)


def _table(
    values: tuple[str, ...],
    x: Float[np.ndarray, "n v"],
    arcs: Arcs,
    draws: Bool[np.ndarray, "b v v"],
    share: float,
) -> pd.DataFrame:
    r = np.corrcoef(x, rowvar=False)
    theory = theory_of(values)
    rows = []
    for i, j in combinations(range(len(values)), 2):
        to, back = draws[:, i, j], draws[:, j, i]
        adjacent = float((to | back).mean())
        forward, backward = float((to & ~back).mean()), float((back & ~to).mean())
        drawn = adjacent >= share
        direction = ""
        if drawn:
            direction = "->" if forward >= share * adjacent else "<-" if backward >= share * adjacent else "-"
            if (
                min(forward, backward) >= share * adjacent
            ):  # with a low share both may pass, and the direction is unknown
                direction = "-"
        rows.append(
            {
                "a": values[i],
                "b": values[j],
                "adjacent": adjacent,
                "forward": forward,
                "backward": backward,
                "r": float(r[i, j]),
                "in_data": bool(arcs[i, j] or arcs[j, i]),
                "distance": theory.distance(values[i], values[j]) if theory.has_circle else np.nan,
                "drawn": drawn,
                "direction": direction,
            }
        )
    return pd.DataFrame(rows)
