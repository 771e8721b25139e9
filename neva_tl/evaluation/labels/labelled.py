"""Texts with labels: what judges are measured on and classifiers are trained on.

`LabelledTexts.load("valueeval:DIR" | "persona:DIR" | "x.csv" | "x.jsonl")`. A label is 1 (the text expresses the value),
0 (it does not), or NaN (nobody said). Splits: the source's own where it has them, else by hash of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES, value
from neva_tl.prompts import splits
from neva_tl.prompts.readers import persona, valueeval
from neva_tl.prompts.text_files import (
    bad_rows,
    complain,
    counted,
    existing_file,
    existing_folder,
    read_jsonl,
    read_table,
)

#: ValueEval's parts as splits.
_PARTS = {"training": "train", "validation": "validation", "test": "test", "validation-zhihu": "zhihu"}


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts and what they express.

    Attributes:
        name: of the source.
        texts: what a judge reads.
        contexts: what stands before each text (a judge may be shown it as the prompt); empty strings where nothing does.
        labels: 1, 0 or NaN (unknown), one column per name.
        names: the columns: the ten values, or a source's own categories.
        clusters: topic or source item of each text, the unit of intervals.
        splits: train, validation, test (or a part of the source's own, such as zhihu).
        source: what `load` read them from, with an absolute path; empty where they were made otherwise.
    """

    name: str
    texts: tuple[str, ...]
    contexts: tuple[str, ...]
    labels: Float[np.ndarray, "n c"]
    names: tuple[str, ...]
    clusters: np.ndarray
    splits: np.ndarray
    source: str = ""

    @classmethod
    def load(cls, spec: str | Path, *, skip_bad: bool = False) -> LabelledTexts:
        """Read labelled texts.

        Args:
            spec: `valueeval:DIR` (20 categories), `persona:DIR` (each statement about one value, the others unknown), or
                a .csv or .jsonl file with `text` and one column per value (0, 1 or empty), or with `text`, `value` and
                `label`; optional `context`, `cluster`, `split`.
            skip_bad: leave malformed rows of such a file out and say how many on stderr; they stop the reading else.

        Raises:
            InputError: nothing there, a malformed row (file and line are named), or a label outside the theory.
        """
        text = str(spec)
        scheme, colon, rest = text.partition(":")
        if colon and scheme in ("valueeval", "persona"):
            found = _valueeval(rest) if scheme == "valueeval" else _persona(rest)
            return replace(found, source=f"{scheme}:{Path(rest).expanduser().absolute()}")
        if Path(text).suffix in (".csv", ".jsonl"):
            return replace(_own(text, skip_bad), source=str(Path(text).expanduser().absolute()))
        raise InputError(f"unknown labelled texts {text!r}: give valueeval:DIR, persona:DIR, or a .csv or .jsonl file")

    def part(self, keep: Bool[np.ndarray, " n"]) -> LabelledTexts:
        """The texts where `keep` is True, in order."""
        index = np.flatnonzero(keep)
        return replace(
            self,
            texts=tuple(self.texts[i] for i in index),
            contexts=tuple(self.contexts[i] for i in index),
            labels=self.labels[index],
            clusters=self.clusters[index],
            splits=self.splits[index],
        )

    def split(self, name: str) -> LabelledTexts:
        """The texts of one split.

        Raises:
            InputError: it has none.
        """
        keep = self.splits == name
        if not keep.any():
            raise InputError(
                f"{self.name} has no split {name!r}: it has {', '.join(sorted(set(self.splits.tolist())))}"
            )
        return self.part(keep)

    def head(self, n: int) -> LabelledTexts:
        """At most n texts, chosen by a hash of their content (a fixed part of the whole), in order."""
        order = sorted(range(len(self)), key=lambda i: splits.hash_key(self.texts[i], salt="labelled "))[:n]
        keep = np.zeros(len(self), dtype=bool)
        keep[order] = True
        return self.part(keep)

    def to_values(self) -> LabelledTexts:
        """The same texts labelled by Schwartz's ten values: a value is there where any of its categories is."""
        if self.names == VALUES:
            return self
        return replace(self, labels=to_values(self.labels, self.names), names=VALUES)

    def __len__(self) -> int:
        return len(self.texts)

    def counts(self) -> pd.DataFrame:
        """Texts per column: label, yes, no, unknown."""
        yes, no = (self.labels == 1).sum(axis=0), (self.labels == 0).sum(axis=0)
        unknown = np.isnan(self.labels).sum(axis=0)
        return pd.DataFrame({"label": list(self.names), "yes": yes, "no": no, "unknown": unknown})

    def _repr_html_(self) -> str:
        facts = {"texts": len(self), "clusters": len(set(self.clusters.tolist()))}
        return card(f"Labelled texts {self.name}", facts, self.counts())

    def show(self) -> Any:
        """Share of texts that carry each label as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        found = self.counts()
        share = found["yes"] / (found["yes"] + found["no"]).clip(lower=1)
        table = pd.DataFrame({"label": found["label"], "est": share, "lo": np.nan, "hi": np.nan})
        return interval_plot(table, title=f"Labels of {self.name}", axis="share of texts")


def to_values(scores: Float[np.ndarray, "n c"], names: Sequence[str]) -> Float[np.ndarray, "n 10"]:
    """Columns of ValueEval's categories as ten values: the largest of a value's categories (for labels: any of them);
    NaN where all of them are unknown.

    Raises:
        InputError: a column is neither one of the ten values nor one of the categories.
    """
    where = [value_of(name) for name in names]
    out = np.full((len(scores), len(VALUES)), np.nan)
    for j, wanted in enumerate(VALUES):
        own = scores[:, [k for k, name in enumerate(where) if name == wanted]]
        if own.shape[1]:
            known = ~np.isnan(own).all(axis=1)
            out[known, j] = np.nanmax(own[known], axis=1)
    return out


def value_of(name: str) -> str:
    """The value that a column's name stands for.

    Raises:
        InputError: outside the theory.
    """
    return valueeval.CATEGORIES[name] if name in valueeval.CATEGORIES else value(name).name


def _valueeval(path: str) -> LabelledTexts:
    folder = existing_folder(path, "ValueEval's arguments-*.tsv and labels-*.tsv")
    rows: list[dict[str, Any]] = []
    for part, split in _PARTS.items():
        if (folder / f"arguments-{part}.tsv").exists() and (folder / f"labels-{part}.tsv").exists():
            rows += [{**row, "split": split} for row in valueeval.arguments(folder, part)]
    if not rows:
        raise InputError(f"{folder} holds no arguments-NAME.tsv with a labels-NAME.tsv beside it")
    names = tuple(valueeval.CATEGORIES)
    labels = np.array([[float(name in row["categories"]) for name in names] for row in rows])
    return LabelledTexts(
        "valueeval",
        tuple(row["text"][row["answer_start"] :] for row in rows),
        tuple(row["text"][: row["answer_start"]].strip() for row in rows),
        labels,
        names,
        np.array([row["cluster"] for row in rows], dtype=str),
        np.array([row["split"] for row in rows], dtype=str),
    )


def _persona(path: str) -> LabelledTexts:
    df = persona.read(path).df
    column = np.array([VALUES.index(name) for name in df["value"]])
    labels = np.full((len(df), len(VALUES)), np.nan)
    labels[np.arange(len(df)), column] = (df["pole"] == "+").to_numpy(float)
    return LabelledTexts(
        "persona",
        tuple(df["text"]),
        ("",) * len(df),
        labels,
        VALUES,
        df["cluster"].to_numpy(str),
        df["split"].to_numpy(str),
    )


def _own(path: str, skip_bad: bool) -> LabelledTexts:
    file = existing_file(path, "labelled texts")
    bad = bad_rows(skip_bad)
    rows: Iterable[tuple[int, Mapping[str, Any]]]
    rows = read_table(file, ("text",), bad=bad) if file.suffix == ".csv" else read_jsonl(file, ("text",), bad=bad)
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for line, row in rows:
        try:
            text, own = _own_text(row), _own_labels(row)
        except InputError as error:
            complain(f"{file}, line {line}: {error}", bad)
            continue
        context = str(row.get("context") or "").strip()
        entry = kept.setdefault(
            (context, text), {"labels": {}, "cluster": row.get("cluster"), "split": row.get("split")}
        )
        entry["labels"] |= own
    counted(str(file), bad)
    if not kept:
        raise InputError(f"{file} holds no labelled text")
    labels = np.array([[entry["labels"].get(name, np.nan) for name in VALUES] for entry in kept.values()], dtype=float)
    clusters = [str(entry["cluster"] or splits.hash_key(text)[:12]) for (_, text), entry in kept.items()]
    own_split = [entry["split"] for entry in kept.values()]
    by_rank = splits.by_rank(clusters)
    assigned = own_split if all(own_split) else [by_rank[name] for name in clusters]
    return LabelledTexts(
        file.name,
        tuple(text for _, text in kept),
        tuple(context for context, _ in kept),
        labels,
        VALUES,
        np.array(clusters, dtype=str),
        np.array(assigned, dtype=str),
    )


def _own_text(row: Mapping[str, Any]) -> str:
    text = str(row["text"] or "").strip()
    if not text:
        raise InputError("the text is empty")
    return text


def _own_labels(row: Mapping[str, Any]) -> dict[str, float]:
    """Labels of one row: `value` and `label`, or one column per value (categories of ValueEval are taken too)."""
    if "label" in row and "value" in row:
        found = {str(row["value"]).strip(): row["label"]}
    else:
        found = {key: row[key] for key in row if key in VALUES or key in valueeval.CATEGORIES}
        if not found:
            raise InputError("no label: give value and label, or a column for each value")
    out: dict[str, float] = {}
    for name, label in found.items():
        where, text = value_of(name), "" if label is None else str(label).strip()
        if text in ("", "nan"):
            continue
        if text not in ("0", "1", "0.0", "1.0", "True", "False", "true", "false"):
            raise InputError(f"the label of {name} is {text!r}: 0, 1 or nothing is expected")
        out[where] = max(out.get(where, 0.0), float(text in ("1", "1.0", "True", "true")))
    if not out:
        raise InputError("no value is labelled")
    return out
