"""Texts explorer: written texts in pairs, as data for a script.

Python normalises the table of texts into pairs (before, after) and packs them as columns of numbers and interned strings;
`explorer.js.j2` filters, sorts and draws them as text nodes. The comparison of two runs packs its own pairs the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.plots.pages import json_text
from neva_tl.plots.style import method_label, method_order, present_values, value_colour
from neva_tl.study.report.numbers import finite

#: Largest size of the data in the page, in bytes; a report stays below 8 MB with its pictures and circuits.
MOST_BYTES = 2_500_000
#: Longest text in characters; longer ones are cut.
MOST_CHARACTERS = 4000
#: Bytes of one pair's numbers in the page, about.
ROW_BYTES = 40
#: Columns of pairs.
PAIR_COLUMNS = (
    *("prompt", "value", "method", "target", "dose", "split", "sample"),
    *("before", "after", "before_valid", "after_valid", "before_score", "after_score"),
)
KEYS = ["prompt", "sample", "split"]


def explorer(
    generations: pd.DataFrame, values: pd.DataFrame | None = None, *, most: int = MOST_BYTES
) -> dict[str, Any]:
    """Pack every edited text with the unedited text of its prompt.

    Args:
        generations: table `generations`: prompt, text, method, steered; target_gain, sample, split, valid and score_VALUE where
            available.
        values: table `values`, for the doses behind the target gains; None shows the target gains alone.
        most: largest size of the data in bytes; further prompts are left out, with a line that says so.

    Returns:
        `explorer` of the template (`data`, `note`, `count`); empty where no edited text has an unedited counterpart.
    """
    written = normalised(generations, values)
    if written is None:
        return {}
    unedited = written["method"] == "unedited"
    base = written[unedited].drop_duplicates(KEYS)
    base = base[[*KEYS, "text", "valid"]].rename(columns={"text": "before", "valid": "before_valid"})
    edited = written[~unedited & (written["value"] != "")].rename(columns={"text": "after", "valid": "after_valid"})
    pairs = edited.rename(columns={"score": "after_score"}).merge(base, on=KEYS, how="inner", sort=False)
    pairs["before_score"] = _base_scores(pairs, written[unedited])
    if not len(pairs):
        return {}
    return {"explorer": packed(pairs, sides=("unedited", ""), most=most)}


def normalised(generations: pd.DataFrame, values: pd.DataFrame | None = None) -> pd.DataFrame | None:
    """Return the table of texts with the same columns for every kind of run.

    Args:
        generations: see `explorer`.
        values: see `explorer`.

    Returns:
        prompt, sample, split, method, value (empty for unedited texts), target and dose (NaN without), text, valid, score (of
        the steered value), and score_VALUE; None where a column is missing.
    """
    name = next((name for name in ("method", "condition") if name in generations.columns), None)
    if name is None or not {"prompt", "text", "steered"} <= set(generations.columns):
        return None
    df = pd.DataFrame({"prompt": generations["prompt"].astype(str), "method": generations[name].astype(str)})
    df["value"] = generations["steered"].astype(object).where(generations["steered"].notna(), "").astype(str)
    df["target"] = generations["target_gain"].astype(float) if "target_gain" in generations.columns else np.nan
    df["split"] = generations["split"].astype(str) if "split" in generations.columns else "test"
    df["text"] = [
        text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} …" for text in _texts(generations)
    ]
    valid = generations["valid"] if "valid" in generations.columns else pd.Series(True, index=generations.index)
    df["valid"] = valid.astype(object).where(valid.notna(), True).astype(bool)
    if "sample" in generations.columns:
        df["sample"] = generations["sample"].astype(int)
    else:
        df["sample"] = df.groupby(["prompt", "split", "method", "value", "target"], dropna=False).cumcount()
    df["dose"] = generations["dose"].astype(float) if "dose" in generations.columns else _doses(df, values)
    df["score"] = np.nan
    for column in generations.columns:
        if str(column).startswith("score_"):
            df[column] = generations[column].astype(float)
            steered = df["value"] == str(column).removeprefix("score_")
            df.loc[steered, "score"] = df.loc[steered, column]
    return df


def _texts(generations: pd.DataFrame) -> list[str]:
    return [str(text).strip() for text in generations["text"]]


def _doses(df: pd.DataFrame, values: pd.DataFrame | None) -> np.ndarray:
    """The dose of each text, from the table of values; NaN where it has none."""
    needed = {"method", "steered", "target_gain", "dose"}
    if values is None or not needed <= set(values.columns):
        return np.full(len(df), np.nan)
    doses = {
        (str(row["method"]), str(row["steered"]), round(float(row["target_gain"]), 6)): finite(row["dose"])
        for row in values.to_dict("records")
        if finite(row["target_gain"]) is not None
    }
    keys = zip(df["method"], df["value"], df["target"].round(6), strict=True)
    return np.array([doses.get(key) for key in keys], dtype=float)


def _base_scores(pairs: pd.DataFrame, unedited: pd.DataFrame) -> np.ndarray:
    """The unedited text's score of the value that each pair is steered towards."""
    columns = [column for column in unedited.columns if column.startswith("score_")]
    rows = unedited.drop_duplicates(KEYS).set_index(KEYS)[columns].to_dict("index")
    keys = zip(*(pairs[key] for key in KEYS), strict=True)
    scores = [rows[key].get(f"score_{value}") for key, value in zip(keys, pairs["value"], strict=True)]
    return np.array(scores, dtype=float)


def packed(pairs: pd.DataFrame, *, sides: tuple[str, str], most: int = MOST_BYTES) -> dict[str, Any]:
    """Pack pairs of texts as inert JSON.

    Args:
        pairs: `PAIR_COLUMNS`, one row per pair of texts.
        sides: headings of the two texts; an empty one is replaced by the pair's method.
        most: largest size in bytes; the first prompts that fit are packed, with all their pairs.

    Returns:
        `data` (JSON for the script), `note` (a sentence on the prompts left out, or empty) and `count` (pairs in the page).
    """
    prompts = list(dict.fromkeys(pairs["prompt"]))
    fitting = _prompts_that_fit(pairs, prompts, most)
    note = ""
    if len(fitting) < len(prompts):
        note = (
            f"This page has the texts of {len(fitting)} of {len(prompts)} prompts, the first ones of the table; "
            "the run's table generations has all of them."
        )
        pairs = pairs[pairs["prompt"].isin(set(fitting))]
    texts, prompt_of = _Interned(), _Interned(fitting)
    value_of = _Interned(present_values(name for name in pairs["value"] if name))
    method_of = _Interned(method_order(pairs["method"]))
    target_of = _Interned(sorted(pairs["target"].dropna().unique().tolist()))
    split_of = _Interned()
    columns: dict[str, list[Any]] = {
        "p": [prompt_of(x) for x in pairs["prompt"]],
        "v": [value_of(x) if x else -1 for x in pairs["value"]],
        "m": [method_of(x) for x in pairs["method"]],
        "d": [target_of(x) if x == x else -1 for x in pairs["target"]],
        "x": [_digits(x) for x in pairs["dose"]],
        "s": [split_of(x) for x in pairs["split"]],
        "n": pairs["sample"].astype(int).tolist(),
        "a": [texts(x) for x in pairs["before"]],
        "b": [texts(x) for x in pairs["after"]],
        "i": [int(not x) for x in pairs["before_valid"]],
        "j": [int(not x) for x in pairs["after_valid"]],
        "y": [_digits(x) for x in pairs["before_score"]],
        "z": [_digits(x) for x in pairs["after_score"]],
    }
    data = {
        "sides": list(sides),
        "prompts": prompt_of.items,
        "values": [[name, value_colour(name)] for name in value_of.items],
        "methods": [method_label(name) for name in method_of.items],
        "targets": target_of.items,
        "splits": split_of.items,
        "texts": texts.items,
        "count": len(pairs),
        # a column with one number throughout is stored once
        "rows": {name: column[0] if len(set(column)) == 1 else column for name, column in columns.items()},
    }
    return {"data": json_text(data), "note": note, "count": len(pairs)}


def _prompts_that_fit(pairs: pd.DataFrame, prompts: Sequence[str], most: int) -> list[str]:
    """The first prompts whose texts have at most `most` bytes together; at least one."""
    fitting: list[str] = []
    used = 0
    sizes = {prompt: len(rows) * ROW_BYTES + _size(rows) for prompt, rows in pairs.groupby("prompt", sort=False)}
    for prompt in prompts:
        used += sizes[prompt]
        if fitting and used > most:
            break
        fitting.append(prompt)
    return fitting


def _size(rows: pd.DataFrame) -> int:
    texts = {*rows["prompt"], *rows["before"], *rows["after"]}
    return sum(len(json_text(text)) for text in texts)


class _Interned:
    """Number of each distinct item, in the order of the first list and then of appearance."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self.items: list[Any] = list(items)
        self._index = {item: number for number, item in enumerate(self.items)}

    def __call__(self, item: Any) -> int:
        if item not in self._index:
            self._index[item] = len(self.items)
            self.items.append(item)
        return self._index[item]


def _digits(raw: Any) -> float | None:
    """A number with three significant digits, the precision of the page; None where it is missing."""
    number = finite(raw)
    return None if number is None else float(f"{number:.3g}")
