"""What makes a table of contrastive prompts usable; every failure is one line that names the file and the line in

it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from neva_tl.errors import InputError
from neva_tl.prompts.splits import SPLITS
from neva_tl.values import VALUES

POLES = ("+", "-")

#: Says where a row of the table came from, e.g. "pairs.csv, line 12".
Where = Callable[[int], str]


def check(df: pd.DataFrame, name: str, where: Where, minimum: int = 2) -> None:
    """Check a whole table of prompts.

    Args:
        df: the columns of `ContrastSet`, a default index.
        name: the set's name, for errors that belong to no single row.
        where: place of row i in the user's file.
        minimum: pairs (or, unpaired, rows per pole) that every value must have.

    Raises:
        InputError: the first thing that is wrong.
    """
    if df.empty:
        raise InputError(f"{name} holds no prompts: give at least two pairs for one value")
    _check_cells(df, where)
    _check_spans(df, where)
    _check_pairs(df, where)
    _check_unique(df, where)
    _check_clusters(df, where)
    _check_amount(df, name, minimum)


def _first(bad: pd.Series | np.ndarray) -> int | None:
    """Position of the first True, or None."""
    found = np.flatnonzero(np.asarray(bad, dtype=bool))
    return int(found[0]) if len(found) else None


def _check_cells(df: pd.DataFrame, where: Where) -> None:
    if (row := _first(~df["value"].isin(VALUES))) is not None:
        raise InputError(
            f"{where(row)}: unknown value {df['value'].iloc[row]!r}: Schwartz's ten values are {', '.join(VALUES)}"
        )
    if (row := _first(~df["pole"].isin(POLES))) is not None:
        raise InputError(
            f"{where(row)}: pole is {df['pole'].iloc[row]!r}: write + (expresses the value) or - (opposes it)"
        )
    for column in ("text", "cluster", "source"):
        blank = df[column].isna() | df[column].astype(str).str.strip().eq("")
        if (row := _first(blank)) is not None:
            raise InputError(f"{where(row)}: the {column} is empty: fill it in or remove the row")
    if (row := _first(~df["split"].isin(SPLITS))) is not None:
        raise InputError(
            f"{where(row)}: split is {df['split'].iloc[row]!r}: one of {', '.join(SPLITS)}, or leave the column out"
        )


def _check_spans(df: pd.DataFrame, where: Where) -> None:
    start, end = df["answer_start"], df["answer_end"]
    if (row := _first(start.isna() != end.isna())) is not None:
        raise InputError(
            f"{where(row)}: only one end of the answer span is given: give answer_start and answer_end, or neither"
        )
    length = df["text"].str.len()
    outside = (start < 0) | (end <= start) | (end > length)
    if (row := _first(outside.fillna(False))) is not None:
        raise InputError(
            f"{where(row)}: the answer span {start.iloc[row]}:{end.iloc[row]} does not lie inside the text "
            f"of {length.iloc[row]} characters: offsets count from 0, the end is excluded"
        )
    for i in np.flatnonzero(start.notna()).tolist():
        if not df["text"].iloc[i][int(start.iloc[i]) : int(end.iloc[i])].strip():
            raise InputError(f"{where(i)}: the answer span holds only spaces")


def _check_pairs(df: pd.DataFrame, where: Where) -> None:
    paired = df[df["pair_id"].notna()]
    half_paired = set(paired["value"]) & set(df.loc[df["pair_id"].isna(), "value"])
    if half_paired:
        value = sorted(half_paired)[0]
        row = _first((df["value"] == value) & df["pair_id"].isna())
        raise InputError(
            f"{where(row or 0)}: {value} mixes paired and unpaired rows: give every row of a value a pair_id, or none"
        )
    pairs = paired.groupby("pair_id", sort=False)
    wrong = (pairs["pole"].transform("nunique") != 2) | (pairs["pole"].transform("size") != 2)
    if wrong.any():
        pair_id = paired.loc[wrong, "pair_id"].iloc[0]
        found = " ".join(paired.loc[paired["pair_id"] == pair_id, "pole"])
        place = where(int(paired.index[wrong][0]))
        raise InputError(f"{place}: pair {pair_id!r} has the poles {found}: a pair is exactly one + and one -")
    for column in ("value", "cluster", "source", "split"):
        wrong = pairs[column].transform("nunique") != 1
        if wrong.any():
            place, pair_id = where(int(paired.index[wrong][0])), paired.loc[wrong, "pair_id"].iloc[0]
            raise InputError(f"{place}: the two rows of pair {pair_id!r} differ in {column}: a pair shares it")


def _check_unique(df: pd.DataFrame, where: Where) -> None:
    # A text may stand in several pairs (one + against two -), a pair of texts only once.
    texts = df.groupby(["value", "pair_id"])["text"]
    again = df.assign(one=texts.transform("min"), other=texts.transform("max")).duplicated(
        ["value", "pole", "text", "one", "other"]
    )
    if (row := _first(again)) is not None:
        raise InputError(f"{where(row)}: this text stands twice for {df['value'].iloc[row]}: remove one of the rows")
    poles = df.groupby(["value", "text"])["pole"].transform("nunique")
    if (row := _first(poles > 1)) is not None:
        raise InputError(
            f"{where(row)}: the same text is both + and - for {df['value'].iloc[row]}: it cannot be a contrast"
        )


def _check_clusters(df: pd.DataFrame, where: Where) -> None:
    splits = df.groupby(["source", "value", "cluster"])["split"].transform("nunique")
    if (row := _first(splits > 1)) is not None:
        raise InputError(
            f"{where(row)}: cluster {df['cluster'].iloc[row]!r} lies in two splits: "
            "texts of one cluster must stay together, or training leaks into the test"
        )


def _check_amount(df: pd.DataFrame, name: str, minimum: int) -> None:
    # Poles first over all values: a value with one pole is the clearer complaint than one with few rows.
    table = df.groupby(["value", "pole"]).size().unstack(fill_value=0).reindex(columns=list(POLES), fill_value=0)
    for value, row in table.iterrows():
        for pole in POLES:
            if row[pole] == 0:
                meaning = "expressing" if pole == "+" else "opposing or withholding"
                raise InputError(f"{name}: {value} has no {pole} prompts: add texts {meaning} it")
    paired = set(df.loc[df["pair_id"].notna(), "value"])
    for value, row in table.iterrows():
        if row.min() < minimum:
            unit = "pairs" if value in paired else "prompts per pole"
            raise InputError(f"{name}: {value} has {row.min()} {unit}: at least {minimum} are needed, add more topics")
