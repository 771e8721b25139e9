"""Train, validation and test by hash of the cluster: no random state, no dependence on the order of a file.

Clusters are ranked by the sha256 of their name; the first half is train, the next fifth validation, the rest test.
Ranking (rather than cutting the hash itself at .5 and .7) keeps the shares exact in small sets.
"""

from __future__ import annotations

import hashlib

import pandas as pd

SPLITS = ("train", "validation", "test")


def hash_key(text: str, salt: str = "") -> str:
    """Hexadecimal sha256 of a text, the order in which clusters are ranked.

    Args:
        salt: another salt gives an order that is independent of the one used for splits.
    """
    return hashlib.sha256((salt + text).encode()).hexdigest()


def counts(n: int) -> tuple[int, int, int]:
    """How many of n clusters go to train, validation and test: 50/20/30, with small sets filled train first, then test.

    Two clusters are the least that selection can work with, so train has two before any other split has one.
    """
    train = min(n, max(2, round(0.5 * n)))
    test = min(n - train, max(1, round(0.3 * n)))
    return train, n - train - test, test


def by_rank(names: list[str]) -> dict[str, str]:
    """Split of each distinct name, by hash rank among them."""
    ranked = sorted(set(names), key=hash_key)
    train, validation, test = counts(len(ranked))
    return dict(zip(ranked, ["train"] * train + ["validation"] * validation + ["test"] * test, strict=True))


def assign(df: pd.DataFrame) -> pd.Series:
    """Split of every row of a contrast table, by hash rank of its cluster within (source, value).

    In unpaired data a cluster may hold one pole only; those are ranked apart from clusters of the other pole, so that
    both poles reach every split in the same shares (ours).

    Args:
        df: columns `source`, `value`, `pole`, `cluster`.
    """
    keys = ["source", "value", "cluster"]
    clusters = df.assign(plus=df["pole"] == "+", minus=df["pole"] == "-").groupby(keys)
    plus, minus = clusters["plus"].transform("any"), clusters["minus"].transform("any")
    split = pd.Series("", index=df.index, dtype=object)
    for _, part in df.groupby([df["source"], df["value"], plus, minus], sort=False):
        split.loc[part.index] = part["cluster"].map(by_rank(part["cluster"].tolist()))
    return split
