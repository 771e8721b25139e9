"""Rows of a file with one pair a line, which several readers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva_tl.core.theories import ValueTheory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import dropped


@dataclass(frozen=True)
class PairLine:
    """One line of a file of pairs.

    Attributes:
        line: Number of the line.
        value: Name of the value.
        content: Texts of the line as the file has them; the pair's id is their hash, so that splits and caps do not depend on
            the order of lines.
        plus: Text that expresses the value; the answer, where there is a prompt.
        minus: Text that opposes or withholds it; the answer, where there is a prompt.
        topic: The cluster; empty makes the pair a cluster of its own.
        prompt: Text before both answers; empty for none.
    """

    line: int
    value: str
    content: tuple[str, ...]
    plus: str
    minus: str
    topic: str
    prompt: str = ""

    def rows(self, pair_hash: str, source: str) -> list[dict[str, Any]]:
        """Return the rows of both poles.

        Args:
            pair_hash: Hash of the pair.
            source: Name of the format.
        """
        shared = {
            "value": self.value,
            "pair_id": f"{self.value}/{pair_hash}",
            "cluster": f"{self.value}/{self.topic or pair_hash}",
            "source": source,
            "line": self.line,
        }
        return [{**shared, "pole": pole, **self._text(text)} for pole, text in (("+", self.plus), ("-", self.minus))]

    def _text(self, text: str) -> dict[str, Any]:
        if not self.prompt:
            return {"text": text}
        start = len(self.prompt) + 1
        return {"text": f"{self.prompt} {text}", "answer_start": start, "answer_end": start + len(text)}


def pairs_of(lines: Iterable[PairLine], file: Path, source: str, theory: ValueTheory | None) -> ContrastSet:
    """Return the pairs of a file; leaves out repeated ones, which the note counts.

    Args:
        lines: The lines of the file.
        file: The file.
        source: Name of the format.
        theory: Theory of the values; None takes the one that their names imply.

    Raises:
        InputError: The set is not usable.
    """
    pairs: dict[str, list[dict[str, Any]]] = {}
    repeated = 0
    for item in lines:
        pair_hash = hash_key("\n".join((item.value, *item.content)))[:12]
        if pair_hash in pairs:
            repeated += 1
            continue
        pairs[pair_hash] = item.rows(pair_hash, source)
    note = dropped(repeated, len(pairs) + repeated, "pairs", "repeated ones")
    return ContrastSet.from_rows([row for pair in pairs.values() for row in pair], str(file), note=note, theory=theory)


def value_of_name(file: Path) -> str:
    """Return the value that a file is named after: `Self_Control.csv` is of self-control.

    Args:
        file: The file.
    """
    return file.stem.lower().replace("_", "-").replace(" ", "-")
