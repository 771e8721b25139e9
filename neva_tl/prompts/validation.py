"""Validation of contrastive prompts; every error is one line that names the file and its line.

A study checks thousands of rows several times, so columns are compared as integer codes, never row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory, check_name, check_spelling
from neva_tl.prompts.splits import SPLITS

POLES = ("+", "-")

#: Names a row of the table in messages, e.g. "pairs.csv, line 12".
Where = Callable[[int], str]


def check(df: pd.DataFrame, name: str, where: Where, minimum: int = 2, theory: ValueTheory | None = None) -> None:
    """Check a complete table of prompts.

    Args:
        df: Table with the columns of `ContrastSet` and a default index.
        name: Name of the set, for errors about more than one row.
        where: Function from row i to its file and line.
        minimum: Smallest number of pairs (unpaired: rows per pole) of every value.
        theory: Theory that must have the values; None accepts any name except a misspelt one of Schwartz's ten.

    Raises:
        InputError: Describes the first problem.
    """
    _check_any(df, name)
    _check_values(df, where, theory)
    _check_cells(df, where)
    _check_spans(df, where)
    _check_pairs(df, where)
    _check_shared(df, where)
    _check_unique(df, where)
    _check_clusters(df, where)
    _check_amount(df, name, minimum)


def check_types(df: pd.DataFrame, where: Where) -> None:
    """Refuse cells that are neither text nor missing, and text that no file can store.

    Args:
        df: Table as a reader or a user made it; `pair_id` and `cluster` may be numbers.
        where: See `check`.

    Raises:
        InputError: Names the first such cell.
    """
    if not df.columns.is_unique:
        raise InputError("a table of prompts has two columns of one name: rename one")
    for column in ("value", "pole", "text", "cluster", "split", "source", "pair_id", "form", "system"):
        if column not in df.columns or not len(df):
            continue
        cells = df[column]
        if pd.api.types.infer_dtype(cells, skipna=True) not in ("string", "empty"):
            for row, cell in enumerate(cells):
                missing = cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell))
                number = (
                    column in ("pair_id", "cluster")
                    and isinstance(cell, int | np.integer)
                    and not isinstance(cell, bool)
                )
                if not (missing or isinstance(cell, str) or number):
                    kind = type(cell).__name__
                    raise InputError(f"{where(row)}: {column} is {cell!r:.60}: a text is expected, not {kind}")
        try:
            "".join(cell for cell in cells if isinstance(cell, str)).encode()
        except UnicodeEncodeError as error:
            row = next(i for i, cell in enumerate(cells) if isinstance(cell, str) and _surrogate(cell))
            raise InputError(
                f"{where(row)}: the {column} holds half of a surrogate pair, which is not a character: remove it"
            ) from error


def _surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def check_part(df: pd.DataFrame, name: str, where: Where, minimum: int = 2) -> None:
    """Check a subset of rows of a table that passed `check`: only properties that a subset can violate.

    These are whether any row remains, whether pairs are complete, and whether every value has enough rows of both poles. All
    other checks concern single rows (cells, spans) or forbid combinations of rows (a text twice or at both poles, a cluster
    in two splits, a value half paired), which a subset cannot introduce.

    Args:
        df: See `check`.
        name: See `check`.
        where: See `check`.
        minimum: See `check`.

    Raises:
        InputError: Describes the first problem.
    """
    _check_any(df, name)
    _check_pairs(df, where)
    _check_amount(df, name, minimum)


def _codes(*columns: pd.Series) -> Int[np.ndarray, " n"]:
    """Return integers from 0 that are equal for equal rows; -1 for a missing cell (of a single column)."""
    codes = pd.factorize(columns[0])[0]
    for column in columns[1:]:
        more = pd.factorize(column)[0]
        codes = pd.factorize(codes * (more.max(initial=0) + 1) + more)[0]
    return codes


def _mixed(group: Int[np.ndarray, " n"], code: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Mark the rows of groups with more than one code."""
    last_code = np.zeros(group.max(initial=-1) + 1, dtype=code.dtype)
    last_code[group] = code
    mixed = np.zeros(len(last_code), dtype=bool)
    mixed[group[last_code[group] != code]] = True
    return mixed[group]


def _first(bad: pd.Series | np.ndarray) -> int | None:
    """Return the position of the first True, or None."""
    positions = np.flatnonzero(np.asarray(bad, dtype=bool))
    return int(positions[0]) if len(positions) else None


def _check_any(df: pd.DataFrame, name: str) -> None:
    if df.empty:
        raise InputError(f"{name} holds no prompts: give at least two pairs for one value")


def _check_values(df: pd.DataFrame, where: Where, theory: ValueTheory | None) -> None:
    for name in dict.fromkeys(df["value"]):
        row = _first(df["value"].isna() if name is None else df["value"] == name) or 0
        try:
            check_name(name)
            if theory is None:
                check_spelling(name)
            else:
                theory.index(name)
        except InputError as error:
            raise InputError(f"{where(row)}: {error}") from error


def _check_cells(df: pd.DataFrame, where: Where) -> None:
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
    marked = np.flatnonzero(start.notna())
    spans = (df[column].iloc[marked].tolist() for column in ("text", "answer_start", "answer_end"))
    for row, text, first, last in zip(marked.tolist(), *spans, strict=True):
        if not text[first:last].strip():
            raise InputError(f"{where(row)}: the answer span holds only spaces")


def _check_pairs(df: pd.DataFrame, where: Where) -> None:
    pair = _codes(df["pair_id"])
    paired = np.flatnonzero(pair >= 0)
    half_paired = set(df["value"].iloc[paired]) & set(df["value"][pair < 0])
    if half_paired:
        value = sorted(half_paired)[0]
        row = _first((df["value"] == value) & (pair < 0))
        raise InputError(
            f"{where(row or 0)}: {value} mixes paired and unpaired rows: give every row of a value a pair_id, or none"
        )
    pair = pair[paired]
    n_plus = np.bincount(pair, weights=df["pole"].iloc[paired] == "+")
    wrong = (np.bincount(pair) != 2) | (n_plus != 1)
    if (bad := _first(wrong[pair])) is not None:
        row = int(paired[bad])
        poles = " ".join(df["pole"].iloc[paired[pair == pair[bad]]])
        raise InputError(
            f"{where(row)}: pair {df['pair_id'].iloc[row]!r} has the poles {poles}: a pair is exactly one + and one -"
        )


def _check_shared(df: pd.DataFrame, where: Where) -> None:
    pair = _codes(df["pair_id"])
    paired = np.flatnonzero(pair >= 0)
    for column in ("value", "cluster", "source", "split"):
        if (bad := _first(_mixed(pair[paired], _codes(df[column])[paired]))) is not None:
            row = int(paired[bad])
            raise InputError(
                f"{where(row)}: the two rows of pair {df['pair_id'].iloc[row]!r} differ in {column}: a pair shares it"
            )


def _check_unique(df: pd.DataFrame, where: Where) -> None:
    # a text may appear in several pairs (one + against two -), a pair of texts only once
    pair, text = _codes(df["pair_id"]), _codes(df["text"])
    paired = np.flatnonzero(pair >= 0)
    # `_check_pairs` has passed: every pair has two rows, which sorting makes adjacent
    both = paired[np.argsort(pair[paired], kind="stable")].reshape(-1, 2)
    texts = np.full((len(df), 2), -1)
    texts[both] = np.sort(text[both], axis=1)[:, None]
    cells = {
        "value": _codes(df["value"]),
        "pole": _codes(df["pole"]),
        "text": text,
        "one": texts[:, 0],
        "other": texts[:, 1],
    }
    if (row := _first(pd.DataFrame(cells).duplicated())) is not None:
        raise InputError(f"{where(row)}: this text appears twice for {df['value'].iloc[row]}: remove one of the rows")
    if (row := _first(_mixed(_codes(df["value"], df["text"]), cells["pole"]))) is not None:
        raise InputError(
            f"{where(row)}: the same text is both + and - for {df['value'].iloc[row]}: it cannot be a contrast"
        )


def _check_clusters(df: pd.DataFrame, where: Where) -> None:
    cluster = _codes(df["source"], df["value"], df["cluster"])
    if (row := _first(_mixed(cluster, _codes(df["split"])))) is not None:
        raise InputError(
            f"{where(row)}: cluster {df['cluster'].iloc[row]!r} lies in two splits: "
            "texts of one cluster must stay together, or training leaks into the test"
        )


def _check_amount(df: pd.DataFrame, name: str, minimum: int) -> None:
    # poles first, for all values: a missing pole makes a clearer message than too few rows
    counts = Counter(zip(df["value"], df["pole"], strict=True))
    values = sorted(df["value"].unique())
    for value in values:
        for pole in POLES:
            if not counts[value, pole]:
                meaning = "expressing" if pole == "+" else "opposing or withholding"
                raise InputError(f"{name}: {value} has no {pole} prompts: add texts {meaning} it")
    paired = set(df.loc[df["pair_id"].notna(), "value"])
    for value in values:
        least = min(counts[value, pole] for pole in POLES)
        if least < minimum:
            unit = "pairs" if value in paired else "prompts per pole"
            raise InputError(f"{name}: {value} has {least} {unit}: at least {minimum} are needed, add more topics")
