"""Text-judged runs of one model as one result: tables, goals, and a Markdown table for a page of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.formatting import finite_number
from neva_tl.core.method_records import find_method
from neva_tl.study.analyses.text_values import equal_gain, goals, tables
from neva_tl.study.analyses.text_values.conditions import JoinedRuns, join_runs
from neva_tl.study.run.run_folder import RunFolder


@dataclass(frozen=True, eq=False)
class TextValues:
    """Several values and seeds of one model, judged by one judge of texts.

    Attributes:
        joined: The runs.
        values: A row per method and value (`tables.by_value`).
        means: A row per method over the values (`tables.over_values`).
        pairs: Gains of our methods against those of the role prompt and of the vectors (`tables.pairs`).
        equal_gain: Figures at doses of equal validation gain; empty where no run has them (`equal_gain.joined_table`).
        goals: The goals with their verdicts (`goals.goals`).
    """

    joined: JoinedRuns
    values: pd.DataFrame
    means: pd.DataFrame
    pairs: pd.DataFrame
    equal_gain: pd.DataFrame
    goals: pd.DataFrame

    def __str__(self) -> str:
        lines = [goals.sentence(goal) for goal in self.goals.to_dict("records")]
        note = [self.joined.note] if self.joined.note else []
        return "\n".join([self.markdown(), "", *lines, *note])

    def _repr_html_(self) -> str:
        facts = {"model": self.joined.model, "judge": self.joined.judge, "values": len(self.joined.values)}
        return card("Values and seeds, judged texts", facts, self.means, note=self.joined.note)

    def show(self, value: str | None = None) -> Any:
        """Draw the gain of each method with its interval over prompts (matplotlib).

        Args:
            value: A steered value; None draws the means over all values.

        Raises:
            InputError: No run steered this value.
        """
        from neva_tl.plots import interval_plot

        if value is None:
            rows, title = self.means[self.means["values"] == tables.ALL], f"Gain, {len(self.joined.values)} values"
        elif value in self.joined.values:
            rows, title = self.values[self.values["value"] == value], f"Gain, {value}"
        else:
            raise InputError(f"no run steered {value!r}: there is {', '.join(self.joined.values)}")
        labels = rows["method"].map(lambda name: find_method(name).label)
        table = pd.DataFrame({"label": labels, "est": rows["gain"], "lo": rows["gain_lo"], "hi": rows["gain_hi"]})
        return interval_plot(table, title=title, axis=f"change of {self.joined.unit}", guide=0.0)

    def markdown(self) -> str:
        """Write the tables of means, of values and of equal gains in the style of docs/results."""
        parts = [_means(self.means), _by_value(self.values, self.joined.values)]
        if len(self.equal_gain):
            parts.append(_equal(self.equal_gain))
        return "\n\n".join(parts)

    def write(self, root: str | Path) -> None:
        """Write the tables (parquet and CSV), `text_values.json` and `text_values.md`.

        Args:
            root: A folder.
        """
        store = RunFolder(Path(root))
        for name in ("values", "means", "pairs", "equal_gain", "goals"):
            store.write_table(f"tables/text_{name}", getattr(self, name))
        joined = self.joined
        store.write_json(
            "text_values.json",
            {"model": joined.model, "judge": joined.judge, "unit": joined.unit, "target_gain": joined.target}
            | {"runs": [one.root.name for one in joined.stores], "seed": joined.seed, "n_boot": joined.n_boot}
            | {"measurable": list(tables.measurable_values(joined)), "goals": self.goals.to_dict("records")},
        )
        store.write_text("text_values.md", f"{self}\n")


def text_values(folders: Sequence[str | Path], *, seed: int = 0, n_boot: int = 2000) -> TextValues:
    """Join text-judged runs that differ in values or seeds.

    Args:
        folders: Run folders with the same model, judge, matched gain and test prompts.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.

    Raises:
        InputError: See `conditions.join_runs`.

    Example:
        >>> result = text_values(["runs/text-tradition", "runs/text-power"])  # doctest: +SKIP
        >>> print(result)  # doctest: +SKIP
    """
    joined = join_runs(folders, seed=seed, n_boot=n_boot)
    equal = equal_gain.joined_table(joined)
    return TextValues(
        joined,
        tables.by_value(joined),
        tables.over_values(joined),
        tables.pairs(joined),
        equal,
        goals.goals(joined, equal if len(equal) else None),
    )


def _number(raw: Any, digits: int = 2) -> str:
    """Write a number as docs/results does: `.20`, `-.05`, `2.90`, `-` for none."""
    number = finite_number(raw)
    if number is None:
        return "-"
    text = f"{number:.{digits}f}"
    if float(text) == 0:
        return f"{0:.{digits}f}".removeprefix("0")
    return text.replace("0.", ".", 1) if abs(number) < 1 and text.lstrip("-").startswith("0.") else text


def _estimate(row: Mapping[Any, Any], name: str, low: str = "_lo", high: str = "_hi") -> str:
    text = _number(row[name])
    lo, hi = (finite_number(row[f"{name}{end}"]) for end in (low, high))
    return text if lo is None or hi is None else f"{text} [{_number(lo)}, {_number(hi)}]"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _means(means: pd.DataFrame) -> str:
    """Write the table of means over values."""
    several = means["gain_values_lo"].notna().any()
    columns = ["method", "values", "gain, over prompts", *(["over prompts and values"] if several else []), "wrong way"]
    columns += ["NLR", "invalid", "KL", "perplexity over unedited"]
    rows = []
    for row in means.to_dict("records"):
        wide = f"[{_number(row['gain_values_lo'])}, {_number(row['gain_values_hi'])}]"
        count = f"{row['n_values']}" if row["values"] == tables.ALL else f"{row['n_values']} measurable"
        cells = [row["method"], count, _estimate(row, "gain"), *([wide] if several else [])]
        cells += [_estimate(row, name) for name in ("wrong_way", "nlr")]
        rows.append([*cells, _number(row["invalid"]), _number(row["kl"]), _number(row["perplexity_ratio"], 1)])
    return _table(columns, rows)


def _by_value(values: pd.DataFrame, names: Sequence[str]) -> str:
    """Write the gains by value, with the positive control of each, and KL and perplexity of each method."""
    methods = list(dict.fromkeys(values["method"]))
    columns = ["value", "measurable", *methods, "KL, in this order", "perplexity over unedited, in this order"]
    rows = []
    for name in names:
        of_value = {row["method"]: row for row in values[values["value"] == name].to_dict("records")}
        first = next(iter(of_value.values()))
        measurable = {True: "yes", False: "no"}.get(first["measurable"], "-")
        gains = [_gain(of_value[m]) if m in of_value else "-" for m in methods]
        costs = [
            ", ".join(_number(of_value[m][cost], digits) if m in of_value else "-" for m in methods)
            for cost, digits in (("kl", 2), ("perplexity_ratio", 1))
        ]
        rows.append([name, measurable, *gains, *costs])
    return _table(columns, rows)


def _gain(row: Mapping[Any, Any]) -> str:
    text = _estimate(row, "gain")
    return text if row["seeds"] == 1 else f"{text}, seeds {_number(row['gain_min'])} to {_number(row['gain_max'])}"


def _equal(table: pd.DataFrame) -> str:
    columns = ["at equal validation gain", "value", "validation gain", "doses", "test gains", "NLR", "KL", "KL ratio"]
    columns += ["perplexity over unedited"]
    rows = []
    for row in table.to_dict("records"):
        sides = [
            ", ".join(_number(row[f"{name}_{side}"]) for side in ("ours", "rival"))
            for name in ("nlr", "kl", "perplexity_ratio")
        ]
        gains = ", ".join(_estimate(row, f"gain_{side}") for side in ("ours", "rival"))
        doses = ", ".join(f"{row[f'dose_{side}']:.3g}" for side in ("ours", "rival"))
        name = f"{row['n_values']} values" if row["value"] == tables.ALL else row["value"]
        cells = [f"{row['ours']}, {row['rival']}", name, _number(row["validation_gain"]), doses, gains, *sides[:2]]
        rows.append([*cells, _estimate(row, "kl_ratio"), sides[2]])
    return _table(columns, rows)
