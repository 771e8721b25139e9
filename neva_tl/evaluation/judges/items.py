"""Items of the log-probability judge.

Pair rows are laid out so that one list of per-token log-probabilities gives the item scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from neva_tl.core.errors import InputError
from neva_tl.prompts import ContrastSet, Example
from neva_tl.prompts.splits import hash_key


@dataclass(frozen=True, eq=False)
class ItemGroup:
    """Items of one measured value (or of the affirmation column).

    Attributes:
        name: The value.
        plus: Rows of the + examples in the flat list.
        minus: Rows of the - examples in the flat list, aligned with `plus` where paired.
        clusters: Topic of each item: of each pair, or of each + row followed by each - row.
        paired: Whether the items are pairs, or two samples of texts.
    """

    name: str
    plus: Int[np.ndarray, " _"]
    minus: Int[np.ndarray, " _"]
    clusters: np.ndarray
    paired: bool

    def scores(self, per_token: Float[np.ndarray, " n"]) -> Float[np.ndarray, " _"]:
        """Compute item scores whose mean is `mean m`.

        Paired: per-token log P(+) - log P(-) of each pair. Unpaired: `+ log P(+) * n / n_plus` for + rows and
        `- log P(-) * n / n_minus` for - rows (n = all rows), so that their mean is the difference of the pole means.

        Args:
            per_token: Mean log-probability per token of each example in the flat list.
        """
        if self.paired:
            return per_token[self.plus] - per_token[self.minus]
        total = len(self.plus) + len(self.minus)
        return np.concatenate(
            [per_token[self.plus] * total / len(self.plus), -per_token[self.minus] * total / len(self.minus)]
        )

    def sd(self, per_token: Float[np.ndarray, " n"]) -> float:
        """Compute the spread of m over items.

        The SD of the pair differences, or sqrt(var(+) + var(-)) where unpaired (independent draws).

        Args:
            per_token: Mean log-probability per token of each example in the flat list.

        Raises:
            InputError: A pole has fewer than two items, or the items have no spread.
        """
        if min(len(self.plus), len(self.minus)) < 2:
            raise InputError(f"{self.name}: the log-probability judge needs two validation pairs or more for its unit")
        if self.paired:
            spread = float(np.std(per_token[self.plus] - per_token[self.minus], ddof=1))
        else:
            spread = float(np.sqrt(np.var(per_token[self.plus], ddof=1) + np.var(per_token[self.minus], ddof=1)))
        if not np.isfinite(spread) or spread <= 0:
            raise InputError(f"{self.name}: the validation items do not differ in log-probability, so there is no unit")
        return spread


@dataclass(frozen=True, eq=False)
class Items:
    """A flat list of examples and the groups that index into it."""

    examples: tuple[Example, ...]
    groups: tuple[ItemGroup, ...]


def pair_items(
    pairs: ContrastSet,
    *,
    forms: Sequence[str] | None = None,
    topics: int | None = None,
    per_value: int | None = None,
) -> Items:
    """Arrange the rows of a ContrastSet by value.

    Args:
        pairs: Rows of one split.
        forms: Forms to use (`question_1st`, ...); None uses all.
        topics: Number of topics of each value to use (the first by a hash of their names); None uses all.
        per_value: Largest number of pairs (rows per pole where unpaired) of a value, spread as evenly as possible over its
            topics and selected by hashes of their content; None uses all.

    Raises:
        InputError: No row remains, or a value has no row of a pole.
    """
    df, examples = pairs.df, pairs.examples()
    rows = np.arange(len(df))
    if forms is not None:
        rows = rows[df["form"].isin(list(forms)).to_numpy()]
        if not len(rows):
            available = sorted(str(f) for f in df["form"].dropna().unique())
            raise InputError(
                f"{pairs.name} has no rows of form {', '.join(forms)}: it has {', '.join(available) or 'no forms'}"
            )
    flat: list[Example] = []
    groups = []
    for name in pairs.values:
        of_value = rows[(df["value"].to_numpy()[rows]) == name]
        if not len(of_value):
            raise InputError(f"{pairs.name} has no rows for {name} in the requested forms")
        if topics is not None:
            clusters = df["cluster"].astype(str).to_numpy()[of_value]
            first = sorted(set(clusters), key=lambda cluster: hash_key(cluster, salt="judge "))[:topics]
            of_value = of_value[np.isin(clusters, first)]
        groups.append(_group(name, df.iloc[of_value], [examples[r] for r in of_value], flat, per_value))
    return Items(tuple(flat), tuple(groups))


def _group(
    name: str, df: pd.DataFrame, examples: list[Example], flat: list[Example], per_value: int | None
) -> ItemGroup:
    poles, clusters = df["pole"].to_numpy(), df["cluster"].astype(str).to_numpy()
    if df["pair_id"].notna().all():
        where = {(pid, pole): k for k, (pid, pole) in enumerate(zip(df["pair_id"], poles, strict=True))}
        ids = [pid for pid in dict.fromkeys(df["pair_id"]) if (pid, "+") in where and (pid, "-") in where]
        selected = _spread([(str(clusters[where[pid, "+"]]), str(pid)) for pid in ids], per_value)
        plus, minus = [where[ids[k], "+"] for k in selected], [where[ids[k], "-"] for k in selected]
        paired = True
    else:
        by_pole = {pole: np.flatnonzero(poles == pole) for pole in ("+", "-")}
        picked = {
            pole: r[_spread([(str(clusters[k]), df["text"].iloc[k]) for k in r], per_value)]
            for pole, r in by_pole.items()
        }
        plus, minus = [int(k) for k in picked["+"]], [int(k) for k in picked["-"]]
        paired = False
    if not plus or not minus:
        raise InputError(
            f"{name}: the log-probability judge needs both poles, and one is missing in the requested rows"
        )
    start = len(flat)
    flat.extend(examples[k] for k in [*plus, *minus])
    item_clusters = clusters[plus] if paired else clusters[[*plus, *minus]]
    return ItemGroup(
        name,
        np.arange(start, start + len(plus)),
        np.arange(start + len(plus), start + len(plus) + len(minus)),
        item_clusters.astype(str),
        paired,
    )


def _spread(keys: Sequence[tuple[str, str]], limit: int | None) -> list[int]:
    """Select at most `limit` items, in turns from each cluster (in hash order).

    Returns:
        Their indices in ascending order.
    """
    if limit is None or len(keys) <= limit:
        return list(range(len(keys)))
    turn: dict[str, int] = {}
    ranked = []
    for k in sorted(range(len(keys)), key=lambda k: hash_key("\n".join(keys[k]), salt="judge ")):
        cluster = keys[k][0]
        turn[cluster] = turn.get(cluster, -1) + 1
        ranked.append((turn[cluster], hash_key(cluster, salt="judge "), k))
    return sorted(k for _, _, k in sorted(ranked)[:limit])


def affirmation_items(records: Iterable[dict[str, str]] | None = None) -> Items:
    """Arrange pairs that affirm or negate a statement without a value.

    Args:
        records: Records with topic, prompt, affirm and negate. None uses neva_tl's 32.
    """
    if records is None:
        file = resources.files("neva_tl.evaluation.judges") / "affirmation.json"
        records = json.loads(file.read_text(encoding="utf-8"))
    rows = list(records)
    plus = [Example(r["prompt"], r["affirm"]) for r in rows]
    minus = [Example(r["prompt"], r["negate"]) for r in rows]
    n = len(rows)
    group = ItemGroup(
        "affirmation", np.arange(n), np.arange(n, 2 * n), np.array([r["topic"] for r in rows], dtype=str), True
    )
    return Items((*plus, *minus), (group,))
