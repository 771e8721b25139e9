"""Item scores with and without each edit, the input of the leakage measures and their bootstrap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueTheory, resolve_theory


@dataclass(frozen=True, eq=False)
class Responses:
    """Item scores of one method: unedited, and under the edit towards each steered value.

    Attributes:
        method: Name of the method.
        steered: Steered values, one condition each.
        values: Measured values in the order of their theory; they include every steered value.
        base: Per measured value j, the unedited scores of its items `[n_j]`; NaN = missing (the judge failed).
        edited: Per measured value j, scores under each condition `[n_steered, n_j]`.
        clusters: Per measured value j, the topic of each item `[n_j]` (the unit of resampling).
        shared: All measured values have the same items (a text judge scores each text for all values). Clusters are then
            resampled once for all j, which preserves the correlation between columns; otherwise within each j.
        bounds: Smallest and largest possible score, for worst-case bounds of missing scores; None = unbounded.
        excluded: Per measured value j, items that do not count in D[i, j] `[n_steered, n_j]` (dilemmas that offer i).
        judge: Name of the judge, printed with every table.
        unit: Unit of the scores, printed with every table; scores of different units cannot be compared.
        question: Exact wording of the judge's question, printed with results; empty if the judge asks none.
        theory: Theory of the values; None for the one that the measured names imply.

    Example:
        >>> base, edited = np.array([0.1, 0.2, 0.1]), np.array([[0.6, 0.7, 0.5]])
        >>> responses = nv.evaluation.Responses(
        ...     "mine", ("thrift",), (base,), (edited,), (np.array(["a", "b", "c"]),), values=("thrift",)
        ... )
        >>> responses.effects().round(2).tolist()
        [[0.47]]
    """

    method: str
    steered: tuple[str, ...]
    base: tuple[Float[np.ndarray, " _"], ...]
    edited: tuple[Float[np.ndarray, "i _"], ...]
    clusters: tuple[np.ndarray, ...]
    values: tuple[str, ...] = SCHWARTZ.names
    shared: bool = False
    bounds: tuple[float, float] | None = (0.0, 1.0)
    excluded: tuple[Bool[np.ndarray, "i _"], ...] | None = None
    judge: str = ""
    unit: str = ""
    question: str = ""
    theory: ValueTheory | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        lengths = {len(self.values), len(self.base), len(self.edited), len(self.clusters)}
        if len(lengths) != 1:
            raise InputError(
                f"responses of {self.method!r}: base, edited and clusters need one array per measured value"
            )
        for name, base, edited, clusters in zip(self.values, self.base, self.edited, self.clusters, strict=True):
            if len(base) == 0:
                raise InputError(
                    f"responses of {self.method!r}: no items measure {name!r}: add prompts, or leave it out"
                )
            if edited.shape != (len(self.steered), len(base)) or len(clusters) != len(base):
                raise InputError(
                    f"responses of {self.method!r}, value {name!r}: expected edited scores of shape "
                    f"({len(self.steered)}, {len(base)}) and {len(base)} clusters, got {edited.shape} and {len(clusters)}"
                )

    @property
    def value_theory(self) -> ValueTheory:
        """Theory of the measured and steered values."""
        return resolve_theory(self.theory, [*self.values, *self.steered])

    @property
    def target(self) -> Int[np.ndarray, " i"]:
        """Column of each steered value in the measured values.

        Raises:
            InputError: A steered value is not measured, so its gain is undefined.
        """
        missing = [name for name in self.steered if name not in self.values]
        if missing:
            raise InputError(f"steered towards {missing[0]!r}, which is not measured: add items that measure it")
        return np.array([self.values.index(name) for name in self.steered], dtype=int)

    @property
    def n(self) -> int:
        """Number of items: prompts x samples if shared, else the sum over the measured values."""
        return len(self.base[0]) if self.shared else sum(len(b) for b in self.base)

    def _repr_html_(self) -> str:
        rows = [
            {"measured": name, "items": len(base), "topics": len(set(clusters.tolist())), "unedited": _mean(base)}
            for name, base, clusters in zip(self.values, self.base, self.clusters, strict=True)
        ]
        for row, edited in zip(rows, self.edited, strict=True):
            row |= {f"towards {name}": _mean(scores) for name, scores in zip(self.steered, edited, strict=True)}
        facts = {"judge": self.judge or None, "unit": self.unit or None, "steered": ", ".join(self.steered)}
        return card(f"Responses under {self.method}: mean scores", facts, pd.DataFrame(rows), note=self.note)

    @property
    def note(self) -> str:
        """The judge's question as a sentence for notes; empty if the judge asks none."""
        return f"Question to {self.judge}: {self.question}" if self.question else ""

    def effects(self) -> Float[np.ndarray, "i j"]:
        """Return the point estimate of D, the mean over items of edited - unedited score; NaN if no item counts."""
        columns = []
        for j, (base, edited) in enumerate(zip(self.base, self.edited, strict=True)):
            change = edited - base[None, :]
            if self.excluded is not None:
                change = np.where(self.excluded[j], np.nan, change)
            columns.append([_mean(row) for row in change])
        return np.array(columns, dtype=float).reshape(len(self.values), len(self.steered)).T

    def show(self) -> Any:
        """Draw the point estimate of D as a heatmap (matplotlib); `measure` adds the intervals."""
        from neva_tl.plots import leakage_heatmap

        rows = [
            {"method": self.method, "steered": steered, "measured": measured, "d": d, "lo": np.nan, "hi": np.nan}
            for steered, row in zip(self.steered, self.effects(), strict=True)
            for measured, d in zip(self.values, row, strict=True)
        ]
        return leakage_heatmap(pd.DataFrame(rows))

    def select(self, steered: Iterable[str]) -> Responses:
        """Return the responses for some of the steered values (e.g. those that two methods both reach).

        Args:
            steered: Names of the values.

        Raises:
            InputError: A value was not steered.
        """
        selected = tuple(steered)
        unknown = [name for name in selected if name not in self.steered]
        if unknown:
            raise InputError(f"responses of {self.method!r} have no edit towards {unknown[0]!r}")
        rows = [self.steered.index(name) for name in selected]
        excluded = None if self.excluded is None else tuple(e[rows] for e in self.excluded)
        return replace(self, steered=selected, edited=tuple(e[rows] for e in self.edited), excluded=excluded)


def _mean(scores: Float[np.ndarray, " n"]) -> float:
    finite = scores[np.isfinite(scores)]
    return float(finite.mean()) if len(finite) else float("nan")
