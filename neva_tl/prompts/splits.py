"""Train, validation and test splits by hash of the cluster, independent of random state and file order.

Clusters are ranked by the sha256 of their name; the first half is train, the next fifth validation, the rest test.
Ranking (rather than cutting the hash itself at .5 and .7) keeps the shares exact in small sets.
"""

from __future__ import annotations

import hashlib

import pandas as pd

SPLITS = ("train", "validation", "test")
#: Shares of train (for fitting gates) and validation (for doses) among open prompts. Selection never uses open prompts:
#: half of them are test prompts.
_OPEN_SHARES = (0.2, 0.3)


def hash_key(text: str, salt: str = "") -> str:
    """Compute the hexadecimal sha256 of a text, the sort key of clusters.

    Args:
        text: Text to hash.
        salt: Prefix of the text; another salt gives an order that is independent of the splits' order.
    """
    return hashlib.sha256(f"{salt}{text}".encode()).hexdigest()


def counts(n: int) -> tuple[int, int, int]:
    """Divide n clusters into train, validation and test (50/20/30; small sets fill train first, then test).

    Train gets two clusters before any other split gets one: selection needs at least two.

    Args:
        n: Number of clusters.
    """
    train = min(n, max(2, round(0.5 * n)))
    test = min(n - train, max(1, round(0.3 * n)))
    return train, n - train - test, test


def by_rank(names: list[str]) -> dict[str, str]:
    """Assign a split to each distinct name by its hash rank.

    Args:
        names: Cluster names; repeated ones count once.
    """
    ranked = sorted(set(names), key=hash_key)
    train, validation, test = counts(len(ranked))
    return dict(zip(ranked, ["train"] * train + ["validation"] * validation + ["test"] * test, strict=True))


def of_open_prompts(topics: list[str]) -> dict[str, str]:
    """Assign a split to the topic of each open prompt by its hash rank, 20/30/50.

    Args:
        topics: Topics; repeated ones count once.
    """
    ranked = sorted(set(topics), key=hash_key)
    train, validation = (round(share * len(ranked)) for share in _OPEN_SHARES)
    names = ["train"] * train + ["validation"] * validation + ["test"] * (len(ranked) - train - validation)
    return dict(zip(ranked, names, strict=True))


def assign(df: pd.DataFrame) -> pd.Series:
    """Assign a split to every row of a contrast table, by hash rank of its cluster within (source, value).

    In unpaired data a cluster may have one pole only; such clusters are ranked per pole, so that both poles reach every
    split in the same shares (ours).

    Args:
        df: Table with the columns `source`, `value`, `pole`, `cluster`.
    """
    keys = ["source", "value", "cluster"]
    clusters = df.assign(plus=df["pole"] == "+", minus=df["pole"] == "-").groupby(keys)
    plus, minus = clusters["plus"].transform("any"), clusters["minus"].transform("any")
    split = pd.Series("", index=df.index, dtype=object)
    for _, group in df.groupby([df["source"], df["value"], plus, minus], sort=False):
        split.loc[group.index] = group["cluster"].map(by_rank(group["cluster"].tolist()))
    return split
