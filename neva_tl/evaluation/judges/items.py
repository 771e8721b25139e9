"""The log-probability judge's items.

Pair rows laid out so that one list of per-token log-probabilities becomes item scores.
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
        name: the value.
        plus, minus: rows of the + and - examples in the flat list; aligned when paired.
        clusters: topic of each item: of each pair, or of each + row followed by each - row.
        paired: pairs, or two samples of texts.
    """

    name: str
    plus: Int[np.ndarray, " _"]
    minus: Int[np.ndarray, " _"]
    clusters: np.ndarray
    paired: bool

    def scores(self, per_token: Float[np.ndarray, " n"]) -> Float[np.ndarray, " _"]:
        """Item scores whose mean is `mean m`: per-token log P(+) - log P(-) of each pair.

        Unpaired: `+ log P(+) * n / n_plus` for + rows and `- log P(-) * n / n_minus` for - rows (n = all rows), so
            that their mean
        is the difference of the pole means.
        """
        if self.paired:
            return per_token[self.plus] - per_token[self.minus]
        total = len(self.plus) + len(self.minus)
        return np.concatenate(
            [per_token[self.plus] * total / len(self.plus), -per_token[self.minus] * total / len(self.minus)]
        )

    def sd(self, per_token: Float[np.ndarray, " n"]) -> float:
        """Spread of m over items: SD of the pair differences, or sqrt(var(+) + var(-)) where unpaired (independent
        draws).

        Raises:
            InputError: fewer than two items per pole, or no spread.
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
    """Lay out a ContrastSet's rows by value.

    Args:
        pairs: rows of one split.
        forms: keep these forms only (`question_1st`, ...).
        topics: keep so many topics of each value (the first by a hash of their names).
        per_value: at most so many pairs (rows per pole where unpaired) a value, spread over its topics as evenly as
            can be; which ones depends on hashes of their content alone.

    Raises:
        InputError: nothing is left, or a value lost a pole.
    """
    df, examples = pairs.df, pairs.examples()
    rows = np.arange(len(df))
    if forms is not None:
        rows = rows[df["form"].isin(list(forms)).to_numpy()]
        if not len(rows):
            known = sorted(str(f) for f in df["form"].dropna().unique())
            raise InputError(
                f"{pairs.name} has no rows of form {', '.join(forms)}: it has {', '.join(known) or 'no forms'}"
            )
    kept: list[Example] = []
    groups = []
    for name in pairs.values:
        own = rows[(df["value"].to_numpy()[rows]) == name]
        if not len(own):
            raise InputError(f"{pairs.name} has no rows for {name} in the forms asked for")
        if topics is not None:
            clusters = df["cluster"].astype(str).to_numpy()[own]
            first = sorted(set(clusters), key=lambda cluster: hash_key(cluster, salt="judge "))[:topics]
            own = own[np.isin(clusters, first)]
        groups.append(_group(name, df.iloc[own], [examples[r] for r in own], kept, per_value))
    return Items(tuple(kept), tuple(groups))


def _group(
    name: str, df: pd.DataFrame, examples: list[Example], kept: list[Example], per_value: int | None
) -> ItemGroup:
    poles, clusters = df["pole"].to_numpy(), df["cluster"].astype(str).to_numpy()
    if df["pair_id"].notna().all():
        where = {(pid, pole): k for k, (pid, pole) in enumerate(zip(df["pair_id"], poles, strict=True))}
        ids = [pid for pid in dict.fromkeys(df["pair_id"]) if (pid, "+") in where and (pid, "-") in where]
        chosen = _spread([(str(clusters[where[pid, "+"]]), str(pid)) for pid in ids], per_value)
        plus, minus = [where[ids[k], "+"] for k in chosen], [where[ids[k], "-"] for k in chosen]
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
            f"{name}: the log-probability judge needs both poles, and one is missing in the rows asked for"
        )
    start = len(kept)
    kept.extend(examples[k] for k in [*plus, *minus])
    item_clusters = clusters[plus] if paired else clusters[[*plus, *minus]]
    return ItemGroup(
        name,
        np.arange(start, start + len(plus)),
        np.arange(start + len(plus), start + len(plus) + len(minus)),
        item_clusters.astype(str),
        paired,
    )


def _spread(keys: Sequence[tuple[str, str]], limit: int | None) -> list[int]:
    """Indices of at most `limit` items, taken in turns from each cluster (hash order), returned in their own order."""
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
    """Pairs that affirm or negate something without value: `topic, prompt, affirm, negate`.

    Default neva_tl's own 32.
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
