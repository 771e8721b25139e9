"""Result of a transfer study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError

#: Name of the row over all steered values.
ALL = "all"


@dataclass(frozen=True, eq=False)
class TransferResult:
    """Gains and leakage of every source on every source.

    Attributes:
        df: Columns source, scored, method, value (or `all`), dose, status, gain with its ends (95 %, over B's test items; of
            `all`: the mean), leakage, nlr with its ends (null where the gain is within noise of 0), affirmation, n, n_values
            (steered values of the row), system (system prompt of the items; "" for the chat template's own) and seen: whether
            the edit was selected on the scored `source`, with the scored `phrasing` of the system prompt, on `both` or on
            `neither`. `source` is a source or `leave B out`; `scored` is a source or `SOURCE, phrasing N`.
        overlap: Neurons selected on two sources, with columns value, a, b, size_a, size_b, shared, expected, jaccard,
            jaccard_expected, p_more.
        judge: Name of the judge.
        unit: Unit of the gains.
    """

    df: pd.DataFrame
    overlap: pd.DataFrame
    judge: str = "logprob"
    unit: str = ""

    def matrix(self, method: str, value: str = ALL) -> pd.DataFrame:
        """Return the gains of one method: sources as rows, scored sources as columns; NaN where nothing was measured.

        Args:
            method: Name of the method.
            value: A value, or `all`.

        Raises:
            InputError: The method was not measured for the value.
        """
        rows = self.df[(self.df["method"] == method) & (self.df["value"] == value)]
        if not len(rows):
            raise InputError(f"nothing was measured for {method} and {value}")
        sources, scored = (list(dict.fromkeys(rows[name])) for name in ("source", "scored"))
        return rows.pivot(index="source", columns="scored", values="gain").loc[sources, scored]

    def _headline(self) -> pd.DataFrame:
        return self.df[self.df["value"] == ALL].drop(columns=["value", "dose", "status"]).reset_index(drop=True)

    def _repr_html_(self) -> str:
        head = card("Transfer between sources", {"judge": self.judge, "unit": self.unit}, self._headline(), rows=20)
        return head + card("Neurons that two sources share", table=self.overlap, rows=20)

    def show(self) -> Any:
        """Draw the mean gains with intervals, one line per method and pair of sources."""
        from neva_tl.plots import interval_plot

        rows = self._headline()
        label = [f"{m}: {a} on {b}" for m, a, b in zip(rows["method"], rows["source"], rows["scored"], strict=True)]
        table = pd.DataFrame({"label": label, "est": rows["gain"], "lo": rows["gain_lo"], "hi": rows["gain_hi"]})
        return interval_plot(table, title="Mean gain by source", axis=self.unit, guide=0.0)
