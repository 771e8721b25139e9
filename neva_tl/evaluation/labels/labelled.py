"""Labelled texts, for measuring judges and training classifiers.

`LabelledTexts.load("valueeval:DIR" | "persona:DIR" | "x.csv" | "x.jsonl")`. A label is 1 (the text expresses the value), 0 (it
does not), or NaN (unknown). Splits come from the source where it has them, else from a hash of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ, value
from neva_tl.prompts import splits
from neva_tl.prompts.readers import persona, valueeval
from neva_tl.prompts.text_files import (
    bad_rows,
    complain,
    counted,
    dropped,
    existing_file,
    existing_folder,
    joined_notes,
    read_jsonl,
    read_table,
)

#: ValueEval's file names -> splits.
_SPLITS = {"training": "train", "validation": "validation", "test": "test", "validation-zhihu": "zhihu"}


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts with a label for each value or category.

    Attributes:
        name: Name of the source.
        texts: The texts that a judge reads.
        contexts: The text before each text, which a judge may receive as the prompt; an empty string where there is none.
        labels: 1, 0 or NaN (unknown), one column per name.
        names: Names of the columns: the ten values, or the source's categories.
        clusters: Topic or source item of each text, the unit of intervals.
        splits: Split of each text: train, validation, test, or a split that only the source has, such as zhihu.
        source: Specification that `load` read, with an absolute path; empty for texts of another origin.
        note: Rows that the reader left out, and why; empty for none.
        against: Whether a label of 0 means that the text goes against the value (persona), not only that it does not express
            it.

    Example:
        >>> table = pd.DataFrame({"text": ["He rules the town."], "power": [1], "benevolence": [0], "split": "test"})
        >>> table.to_csv("labels.csv", index=False)
        >>> labelled = nv.evaluation.LabelledTexts.load("labels.csv")
        >>> labelled.counts().query("unknown == 0")
                 label  yes  no  unknown
        4        power    1   0        0
        8  benevolence    0   1        0
    """

    name: str
    texts: tuple[str, ...]
    contexts: tuple[str, ...]
    labels: Float[np.ndarray, "n c"]
    names: tuple[str, ...]
    clusters: np.ndarray
    splits: np.ndarray
    source: str = ""
    note: str = ""
    against: bool = False

    __repr__ = brief

    @classmethod
    def load(cls, spec: str | Path, *, skip_bad: bool = False) -> LabelledTexts:
        """Read labelled texts.

        Args:
            spec: `valueeval:DIR` (20 categories), `persona:DIR` (each statement has a label for one value only), or a .csv or
                .jsonl file with `text` and one column per value (0, 1 or empty), or with `text`, `value` and `label`.
                The columns `context`, `cluster` and `split` are optional.
            skip_bad: Leave malformed rows of a .csv or .jsonl file out and count them in `note`. The first malformed
                row raises otherwise.

        Raises:
            InputError: The path is missing or empty, a row is malformed (the message names file and line), or a label is
                outside the theory.
        """
        text = str(spec)
        scheme, colon, rest = text.partition(":")
        if colon and scheme in ("valueeval", "persona"):
            labelled = _valueeval(rest) if scheme == "valueeval" else _persona(rest)
            return replace(labelled, source=f"{scheme}:{Path(rest).expanduser().absolute()}")
        if Path(text).suffix in (".csv", ".jsonl"):
            return replace(_table_file(text, skip_bad), source=str(Path(text).expanduser().absolute()))
        raise InputError(f"unknown labelled texts {text!r}: give valueeval:DIR, persona:DIR, or a .csv or .jsonl file")

    def part(self, keep: Bool[np.ndarray, " n"]) -> LabelledTexts:
        """Return the texts where `keep` is True, in order.

        Args:
            keep: Mask of the texts.
        """
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
        """Return the texts of one split.

        Args:
            name: Name of the split.

        Raises:
            InputError: The split does not exist.
        """
        keep = self.splits == name
        if not keep.any():
            raise InputError(
                f"{self.name} has no split {name!r}: it has {', '.join(sorted(set(self.splits.tolist())))}"
            )
        return self.part(keep)

    def head(self, n: int) -> LabelledTexts:
        """Return at most n texts, a fixed subset by a hash of their content, in order.

        Args:
            n: Largest number of texts.
        """
        order = sorted(range(len(self)), key=lambda i: splits.hash_key(self.texts[i], salt="labelled "))[:n]
        keep = np.zeros(len(self), dtype=bool)
        keep[order] = True
        return self.part(keep)

    def balanced(self, n: int) -> LabelledTexts:
        """Return at most n texts per column and label (1 and 0), a fixed subset by a hash of their content, in order.

        Args:
            n: Largest number of texts per column and label.
        """
        keep = np.zeros(len(self), dtype=bool)
        for column in self.labels.T:
            for label in (1.0, 0.0):
                rows = np.flatnonzero(column == label).tolist()
                keep[sorted(rows, key=lambda i: splits.hash_key(self.texts[i], salt="labelled "))[:n]] = True
        return self.part(keep)

    def to_values(self) -> LabelledTexts:
        """Return the texts with labels for Schwartz's ten values.

        A value's label is 1 where the label of any of its categories is 1.
        """
        if self.names == SCHWARTZ.names:
            return self
        return replace(self, labels=to_values(self.labels, self.names), names=SCHWARTZ.names)

    def __len__(self) -> int:
        return len(self.texts)

    def counts(self) -> pd.DataFrame:
        """Count the texts of each column: label, yes, no, unknown."""
        yes, no = (self.labels == 1).sum(axis=0), (self.labels == 0).sum(axis=0)
        unknown = np.isnan(self.labels).sum(axis=0)
        return pd.DataFrame({"label": list(self.names), "yes": yes, "no": no, "unknown": unknown})

    def _repr_html_(self) -> str:
        facts = {"texts": len(self), "clusters": len(set(self.clusters.tolist()))}
        return card(f"Labelled texts {self.name}", facts, self.counts(), note=self.note)

    def show(self) -> Any:
        """Plot the share of texts with each label as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        counts = self.counts()
        share = counts["yes"] / (counts["yes"] + counts["no"]).clip(lower=1)
        table = pd.DataFrame({"label": counts["label"], "est": share, "lo": np.nan, "hi": np.nan})
        return interval_plot(table, title=f"Labels of {self.name}", axis="share of texts")


def to_values(scores: Float[np.ndarray, "n c"], names: Sequence[str]) -> Float[np.ndarray, "n v"]:
    """Convert columns of ValueEval's categories to the ten values.

    A value's score is the largest one of its categories (its label is 1 where any of theirs is); NaN where all are NaN.

    Args:
        scores: Scores or labels, one column per name.
        names: ValueEval's categories or the ten values.

    Raises:
        InputError: A column is neither one of the ten values nor one of the categories.
    """
    column_values = [value_of(name) for name in names]
    out = np.full((len(scores), len(SCHWARTZ)), np.nan)
    for j, target in enumerate(SCHWARTZ.names):
        columns = scores[:, [k for k, name in enumerate(column_values) if name == target]]
        if columns.shape[1]:
            defined = ~np.isnan(columns).all(axis=1)
            out[defined, j] = np.nanmax(columns[defined], axis=1)
    return out


def value_of(name: str) -> str:
    """Return the value of a column's name.

    Args:
        name: One of the ten values or of ValueEval's categories.

    Raises:
        InputError: The name is outside the theory.
    """
    return valueeval.CATEGORIES[name] if name in valueeval.CATEGORIES else value(name).name


def _valueeval(path: str) -> LabelledTexts:
    folder = existing_folder(path, "ValueEval's arguments-*.tsv and labels-*.tsv")
    rows: list[dict[str, Any]] = []
    for stem, split in _SPLITS.items():
        if (folder / f"arguments-{stem}.tsv").exists() and (folder / f"labels-{stem}.tsv").exists():
            rows += [{**row, "split": split} for row in valueeval.arguments(folder, stem)]
    if not rows:
        raise InputError(f"{folder} holds no pair of files arguments-NAME.tsv and labels-NAME.tsv")
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
        note=joined_notes(valueeval.without_labels(folder), _other_parts(folder)),
    )


def _other_parts(folder: Path) -> str:
    """Return the sentence about labelled files that belong to none of the splits; empty for none."""
    names = [file.stem.removeprefix("arguments-") for file in sorted(folder.glob("arguments-*.tsv"))]
    others = [name for name in names if name not in _SPLITS and (folder / f"labels-{name}.tsv").exists()]
    files = ", ".join(f"arguments-{name}.tsv" for name in others)
    return f"Not read, because only the splits {', '.join(_SPLITS)} are: {files}." if files else ""


def _persona(path: str) -> LabelledTexts:
    pairs = persona.read(path, SCHWARTZ)
    df = pairs.df
    column = np.array([SCHWARTZ.index(name) for name in df["value"]])
    labels = np.full((len(df), len(SCHWARTZ)), np.nan)
    labels[np.arange(len(df)), column] = (df["pole"] == "+").to_numpy(float)
    return LabelledTexts(
        "persona",
        tuple(df["text"]),
        ("",) * len(df),
        labels,
        SCHWARTZ.names,
        df["cluster"].to_numpy(str),
        df["split"].to_numpy(str),
        note=pairs.note,
        against=True,
    )


def _table_file(path: str, skip_bad: bool) -> LabelledTexts:
    file = existing_file(path, "labelled texts")
    bad = bad_rows(skip_bad)
    rows: Iterable[tuple[int, Mapping[str, Any]]]
    rows = read_table(file, ("text",), bad=bad) if file.suffix == ".csv" else read_jsonl(file, ("text",), bad=bad)
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    good, replaced = 0, 0
    for line, row in rows:
        try:
            text, row_labels = _row_text(row), _row_labels(row)
        except InputError as error:
            complain(f"{file}, line {line}: {error}", bad)
            continue
        context = str(row.get("context") or "").strip()
        entry = entries.setdefault(
            (context, text), {"labels": {}, "cluster": row.get("cluster"), "split": row.get("split")}
        )
        replaced += any(entry["labels"].get(name, label) != label for name, label in row_labels.items())
        entry["labels"] |= row_labels
        good += 1
    if not entries:
        raise InputError(f"{file} holds no labelled text")
    labels = np.array(
        [[entry["labels"].get(name, np.nan) for name in SCHWARTZ.names] for entry in entries.values()], dtype=float
    )
    clusters = [str(entry["cluster"] or splits.hash_key(text)[:12]) for (_, text), entry in entries.items()]
    row_splits = [entry["split"] for entry in entries.values()]
    by_rank = splits.by_rank(clusters)
    assigned = row_splits if all(row_splits) else [by_rank[name] for name in clusters]
    return LabelledTexts(
        file.name,
        tuple(text for _, text in entries),
        tuple(context for context, _ in entries),
        labels,
        SCHWARTZ.names,
        np.array(clusters, dtype=str),
        np.array(assigned, dtype=str),
        note=joined_notes(
            counted(str(file), bad, good),
            dropped(replaced, good, "rows", "a later row of the same text has another label, which counts"),
        ),
    )


def _row_text(row: Mapping[str, Any]) -> str:
    text = str(row["text"] or "").strip()
    if not text:
        raise InputError("the text is empty")
    return text


def _row_labels(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the labels of one row.

    The row has `value` and `label`, or one column per value (or per category of ValueEval).
    """
    if "label" in row and "value" in row:
        columns = {str(row["value"]).strip(): row["label"]}
    else:
        columns = {key: row[key] for key in row if key in SCHWARTZ.names or key in valueeval.CATEGORIES}
        if not columns:
            raise InputError("no label: give value and label, or a column for each value")
    out: dict[str, float] = {}
    for name, label in columns.items():
        value_name, text = value_of(name), "" if label is None else str(label).strip()
        if text in ("", "nan"):
            continue
        if text not in ("0", "1", "0.0", "1.0", "True", "False", "true", "false"):
            raise InputError(f"the label of {name} is {text!r}: 0, 1 or nothing is expected")
        out[value_name] = max(out.get(value_name, 0.0), float(text in ("1", "1.0", "True", "true")))
    if not out:
        raise InputError("no value is labelled")
    return out
