"""ContrastSet: a validated table of contrastive prompts, the form in which all texts enter a study."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from neva_tl.core.arguments import CheckedArguments, check_arguments
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.core.names import spelling
from neva_tl.core.theories import (
    IMPLIED,
    SCHWARTZ,
    TheorySpec,
    ValueName,
    ValueTheory,
    find_theory,
    resolve_theory,
    theory_record,
)
from neva_tl.prompts import provenance as provenance_file
from neva_tl.prompts import splits, validation
from neva_tl.prompts.example import Example

#: The table's columns, in order.
COLUMNS = (
    "value",
    "pair_id",
    "pole",
    "text",
    "answer_start",
    "answer_end",
    "cluster",
    "split",
    "source",
    "form",
)
#: Optional column of sets for chat models: the system's turn before the prompt. Sets without it keep their hash.
SYSTEM = "system"
#: Rows converted to JSON at a time: bounds the memory that a long table needs.
_LINES_AT_ONCE = 1024
_OPTIONAL = ("pair_id", "answer_start", "answer_end", "form")

#: A row as readers return it; `line` (the line in the user's file) serves error messages and is then dropped.
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ContrastSet(metaclass=CheckedArguments):
    """Texts that express a value (`+`) and texts that oppose or withhold it (`-`).

    Attributes:
        df: One row per text. Columns `value`; `pair_id` (one `+` and one `-` in the same context; None in unpaired data);
            `pole`; `text`; `answer_start`, `answer_end` (character offsets of the answer in the text; when missing, the
            full text counts); `cluster` (topic, template or source item: the unit of splits and intervals); `split`;
            `source`; `form` (statement_1st, question_3rd, ... or None); and where a row has one `system` (the system's turn
            before the prompt, for chat models only). Do not edit it in place, because parts and the hash
            rely on the validated rows: make a new set from a changed copy.
        name: Source of the set, for files and figures.
        note: Changes by the reader (rows dropped, absence used as a pole), or advice on generated texts; else empty.
        minimum: Smallest number of pairs, or rows per pole, of every value.
        theory: Theory of the values; by default the one that their names imply (Schwartz's, another built-in one, or the
            names alone in their order).
        provenance: Origin of generated texts as plain data (model, judge, settings, figures); empty for written ones. It is
            not part of the hash.

    Example:
        >>> pairs = nv.prompts.load("demo", per_value=20)
        >>> pairs
        ContrastSet(demo: 400 texts, 10 values, paired)
        >>> train, test = pairs.split("train"), pairs.split("test")
        >>> train.for_value("power", "security").values
        ('power', 'security')
    """

    df: pd.DataFrame
    name: str
    note: str = ""
    minimum: int = 2
    theory: ValueTheory = IMPLIED
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        df = self.df.reset_index(drop=True)
        describe_row = _row_namer(df, self.name)
        validation.check_types(df, describe_row)
        df = _normalise(df, self.name, SCHWARTZ if self.theory is IMPLIED else self.theory)
        validation.check(df, self.name, describe_row, self.minimum, None if self.theory is IMPLIED else self.theory)
        object.__setattr__(self, "df", df)
        object.__setattr__(self, "theory", resolve_theory(self.theory, df["value"].unique()))

    @classmethod
    @check_arguments
    def from_rows(
        cls, rows: Iterable[Row] | pd.DataFrame, name: str, *, note: str = "", theory: TheorySpec | None = None
    ) -> ContrastSet:
        """Build a set from row mappings; fills missing optional columns and assigns splits by hash of the cluster.

        Args:
            rows: Mappings with `value`, `pole`, `text` and any of the other columns; `line` is the line in the file.
            name: Name of the file or of the set.
            note: See `ContrastSet`.
            theory: See `ContrastSet`; also the name or the file of one.

        Raises:
            InputError: A row or the set is not usable; names the row.

        Example:
            >>> answers = {"+": "I keep every receipt.", "-": "I buy it at once."}
            >>> rows = [
            ...     {"value": "thrift", "pair_id": f"{i}", "pole": pole, "text": f"Question {i}? {answer}", "cluster": f"{i}"}
            ...     for i in range(12)
            ...     for pole, answer in answers.items()
            ... ]
            >>> nv.ContrastSet.from_rows(rows, "mine")
            ContrastSet(mine: 24 texts, 1 values, paired)
        """
        resolved = IMPLIED if theory is None else find_theory(theory)
        df = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        return cls(df, name, note, theory=resolved)

    def with_theory(self, theory: TheorySpec) -> ContrastSet:
        """Return the same prompts under another theory.

        Args:
            theory: The theory, or the name or the file of one.

        Raises:
            InputError: The theory lacks one of the values.

        Example:
            >>> pairs.with_theory("schwartz").theory.name
            'schwartz'
        """
        return ContrastSet(self.df, self.name, self.note, self.minimum, find_theory(theory), self.provenance)

    @property
    def values(self) -> tuple[str, ...]:
        """The values that the set covers, in the theory's order."""
        return self.theory.in_order(self.df["value"].unique())

    @property
    def paired(self) -> bool:
        """Whether every row belongs to a pair."""
        return bool(self.df["pair_id"].notna().all())

    @cached_property
    def hash(self) -> str:
        """sha256 of the content (rows in order, theory unless the names imply it; not the name): equal for equal prompts."""
        digest = hashlib.sha256()
        for line in _json_lines(self.df):
            digest.update(line.encode())
        if record := theory_record(self.theory, self.df["value"].unique()):
            digest.update(json.dumps(record, sort_keys=True).encode())
        return digest.hexdigest()

    @check_arguments
    def split(self, name: str) -> ContrastSet:
        """Return the rows of one split.

        Args:
            name: `train`, `validation` or `test`.

        Raises:
            InputError: Unknown split, or a split that lacks a pole of a value (train: has fewer than two pairs).

        Example:
            >>> sorted(pairs.split("validation").df["split"].unique())
            ['validation']
        """
        if name not in splits.SPLITS:
            raise InputError(f"unknown split {name!r}: one of {', '.join(splits.SPLITS)}")
        keep = (self.df["split"] == name).to_numpy()
        present = set(self.df["value"][keep])
        absent = [v for v in self.values if v not in present]
        if absent:
            raise InputError(
                f"{self.name}: the {name} split has no prompts for {absent[0]}: add topics, so that every split gets some"
            )
        return self.part(keep, f"{self.name} [{name}]", minimum=2 if name == "train" else 1)

    @check_arguments
    def for_value(self, *names: ValueName) -> ContrastSet:
        """Return the rows of one value, or of several.

        Args:
            *names: Names of values.

        Raises:
            InputError: Unknown value, or the set has no prompts for it.

        Example:
            >>> pairs.for_value("power").values
            ('power',)
        """
        distinct = [self.theory.value(name).name for name in names]
        for name in distinct:
            if name not in self.values:
                raise InputError(f"{self.name} has no prompts for {name}: it covers {', '.join(self.values)}")
        return self.part(self.df["value"].isin(distinct).to_numpy())

    @check_arguments
    def cap(self, per_value: int) -> ContrastSet:
        """Return at most `per_value` pairs (unpaired: rows per pole) of each value, with the same shares of splits.

        The choice depends only on a hash of the content, so that a quick run uses a fixed subset of the full set.

        Args:
            per_value: Largest number of pairs of each value, at least 2.

        Raises:
            InputError: `per_value` is below 2.

        Example:
            >>> len(pairs.cap(10))  # ten values, ten pairs, two poles
            200
        """
        if per_value < 2:
            raise InputError(f"per_value is {per_value}: at least two pairs per value are needed")
        df = self.df
        unit = df["pair_id"].where(df["pair_id"].notna(), df["cluster"].astype(str) + "\n" + df["text"])
        keys = [splits.hash_key(str(content), salt="cap ") for content in unit]
        split = df["split"].tolist()
        keep = np.zeros(len(df), dtype=bool)
        for rows in df.groupby(["value", "pole"], sort=False).indices.values():
            quotas = _quotas(Counter(split[i] for i in rows), per_value)
            for i in sorted(rows, key=keys.__getitem__):
                if quotas[split[i]] > 0:
                    quotas[split[i]] -= 1
                    keep[i] = True
        return self.part(keep)

    @check_arguments
    def part(self, keep: Bool[np.ndarray, " n"], name: str | None = None, *, minimum: int | None = None) -> ContrastSet:
        """Return the rows where `keep` is True, in order; pairs stay complete.

        Args:
            keep: One entry per row of `df`.
            name: Name of the new set; None keeps this set's name.
            minimum: See `ContrastSet`; None keeps this set's minimum.

        Raises:
            InputError: No row remains, a pair loses one of its rows, or a value has too few rows.

        Example:
            >>> short = pairs.part((pairs.df["value"] == "power").to_numpy(), "power only")
            >>> short.name, len(short)
            ('power only', 240)
        """
        subset = object.__new__(type(self))  # without __post_init__: the rows are already validated
        # tables are never edited in place, so that two sets can share one
        df = self.df if keep.all() else self.df[keep].reset_index(drop=True)
        name, minimum = self.name if name is None else name, self.minimum if minimum is None else minimum
        validation.check_part(df, name, _row_namer(df, name), minimum)
        for attribute, content in (
            ("df", df),
            ("name", name),
            ("note", self.note),
            ("minimum", minimum),
            ("theory", self.theory),
            ("provenance", self.provenance),
        ):
            object.__setattr__(subset, attribute, content)
        return subset

    def examples(self) -> list[Example]:
        """Return each row as prompt and answer; without an answer span the full text is the answer.

        Example:
            >>> example = pairs.examples()[0]
            >>> example.answer
            'karin has learned that people need more'
        """
        return examples_of(self.df)

    @check_arguments
    def save(self, path: str | Path) -> Path:
        """Write the table as .csv, .jsonl or .parquet, by suffix; `prompts.load(path)` reads it.

        The provenance of generated texts is written to a second file, `NAME.provenance.json`.

        Args:
            path: File to write; its folder is created when missing.

        Raises:
            InputError: Another suffix.

        Example:
            >>> nv.prompts.load(pairs.save("pairs.csv")).hash == pairs.hash
            True
        """
        path = Path(path)
        writers: dict[str, Callable[[Path], Any]] = {
            ".csv": lambda file: self.df.to_csv(file, index=False),
            ".jsonl": lambda file: file.write_text("".join(_json_lines(self.df)), encoding="utf-8"),
            ".parquet": lambda file: self.df.to_parquet(file, index=False),
        }
        if path.suffix not in writers:
            raise InputError(f"{path}: prompts are written as .csv, .jsonl or .parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            writers[path.suffix](file)
        if self.provenance:
            provenance_file.write(path, self.provenance, theory_record(self.theory, self.values), rows_hash(self.df))
        return path

    def counts(self) -> pd.DataFrame:
        """Count rows per value (in the theory's order), split and pole.

        Example:
            >>> pairs.counts().loc["power", "train"].to_dict()
            {'+': 60, '-': 60}
        """
        table = self.df.groupby(["value", "split", "pole"]).size().unstack(["split", "pole"], fill_value=0)
        order = [(s, p) for s in splits.SPLITS for p in validation.POLES if (s, p) in table.columns]
        return table.reindex(index=list(self.values), columns=pd.MultiIndex.from_tuples(order, names=["split", "pole"]))

    def __len__(self) -> int:
        return len(self.df)

    def __repr__(self) -> str:
        kind = "paired" if self.paired else "unpaired" if self.df["pair_id"].isna().all() else "partly paired"
        note = f"; {self.note}" if self.note else ""
        return f"ContrastSet({self.name}: {len(self)} texts, {len(self.values)} values, {kind}{note})"

    def _repr_html_(self) -> str:
        facts = {"texts": len(self), "values": len(self.values), "clusters": int(self.df["cluster"].nunique())}
        head = self.df[["value", "pole", "split", "text"]].head(4)
        counts = card(f"Contrast set {self.name}", facts, self.counts(), note=self.note, index=True)
        return counts + card("First texts", table=head)

    def show(self) -> Any:
        """Draw the numbers of texts per value, pole and split as a matplotlib figure."""
        from neva_tl.plots import prompt_counts

        return prompt_counts(self.df[["value", "pole", "split"]], title=f"Contrast set {self.name}")


def examples_of(df: pd.DataFrame) -> list[Example]:
    """Return the rows of a contrast table as prompts and answers.

    Args:
        df: See `each_example`.
    """
    return list(each_example(df))


def each_example(df: pd.DataFrame) -> Iterator[Example]:
    """Yield the rows of a contrast table as prompts and answers; without an answer span the full text is the answer.

    Prompt, separator and answer together are the text up to the end of the answer, character for character. The separator is
    the white space before the answer, which a chat template replaces. A system's turn precedes the prompt.

    Args:
        df: Table with the columns `text`, `answer_start`, `answer_end`, and optionally `system`.
    """
    systems = df[SYSTEM] if SYSTEM in df.columns else [None] * len(df)
    for text, start, end, system in zip(df["text"], df["answer_start"], df["answer_end"], systems, strict=True):
        turns = () if pd.isna(system) else (("system", system),)
        if pd.isna(start):
            yield Example("", text, turns=turns)
            continue
        lead, answer = text[: int(start)], text[int(start) : int(end)]
        prompt = lead.rstrip()
        example = Example(prompt, answer, turns=turns)
        yield example if example.lead == lead else replace(example, separator=lead[len(prompt) :])


def _row_namer(df: pd.DataFrame, name: str) -> validation.Where:
    """Return a function that names row i in messages: by file and line if the reader recorded them."""
    if "line" not in df.columns:
        return lambda row: f"{name}, row {row + 1}"
    lines = df["line"].tolist()
    files = df["file"].tolist() if "file" in df.columns else [name] * len(lines)
    return lambda row: f"{files[row]}, line {lines[row]}"


def _normalise(df: pd.DataFrame, name: str, theory: ValueTheory) -> pd.DataFrame:
    """Return the table with all columns, in order and typed: None for missing text, nullable Int64 for offsets.

    Values that differ from those of the theory in case, spaces, hyphens and underscores are written as there.
    """
    missing = [column for column in ("value", "pole", "text") if column not in df.columns]
    if missing and len(df):
        raise InputError(f"{name} lacks the column {missing[0]}: prompts need value, pole (+ or -) and text")
    df = df.copy()
    for column in _OPTIONAL:
        if column not in df.columns:
            df[column] = None
    if "source" not in df.columns:
        df["source"] = name
    if "cluster" not in df.columns and len(df):
        # without a topic column, each pair (or unpaired text) is a cluster
        text_key = df["text"].fillna("").astype(str).map(splits.hash_key).str[:12]
        df["cluster"] = df["pair_id"].where(df["pair_id"].notna(), text_key)
    if "split" not in df.columns and len(df):
        df["split"] = splits.assign(df)
    df = df.reindex(columns=_columns(df))
    for column in ("answer_start", "answer_end"):
        try:
            df[column] = df[column].astype("Int64")
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{name}: {column} holds something else than whole numbers: give offsets in the text"
            ) from error
    if "value" in df.columns:
        written = [v for v in df["value"].unique() if isinstance(v, str) and v not in theory]
        other = {v: spelling(v, theory.names) or v for v in written}
        df["value"] = df["value"].replace(other) if other else df["value"]
    for column in df.columns.difference(["answer_start", "answer_end"]):
        df[column] = df[column].astype(object).where(df[column].notna(), None)
    return df


def _columns(df: pd.DataFrame) -> list[str]:
    """Return the table's columns in order: `system` only where a row has one."""
    return [*COLUMNS, *([SYSTEM] if SYSTEM in df.columns and df[SYSTEM].notna().any() else [])]


def rows_hash(df: pd.DataFrame) -> str:
    """Compute the sha256 of the rows in order, whatever the theory.

    Args:
        df: Table of a contrast set.
    """
    digest = hashlib.sha256()
    for line in _json_lines(df):
        digest.update(line.encode())
    return digest.hexdigest()


def _json_lines(df: pd.DataFrame) -> Iterator[str]:
    """Yield rows as lines of JSON; their bytes determine the hash and must not change."""
    encode, names = json.JSONEncoder(ensure_ascii=False).encode, _columns(df)
    for first in range(0, len(df), _LINES_AT_ONCE):
        chunk = df.iloc[first : first + _LINES_AT_ONCE]
        columns = [chunk[name].astype(object).where(chunk[name].notna(), None).tolist() for name in names]
        for row in zip(*columns, strict=True):
            yield encode(dict(zip(names, row, strict=True))) + "\n"


def _quotas(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide `total` in proportion to the available numbers (largest remainders; at least one of each)."""
    everything = sum(available.values())
    if everything <= total:
        return dict(available)
    exact = {name: total * n / everything for name, n in available.items()}
    quota = {name: max(1, int(share)) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in by_remainder:
        if sum(quota.values()) < total:
            quota[name] += 1
    return quota
