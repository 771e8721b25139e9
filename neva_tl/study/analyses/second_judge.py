"""The texts of a finished run, scored again by another judge.

Nothing is generated: the second judge reads the stored test texts. Its gains and leakage are in the unit of its own
scores, so the two judges are compared by their signs and ranks, not by their sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.formatting import plain_interval
from neva_tl.core.theories import TheorySpec, find_theory
from neva_tl.evaluation.conditions.leakage import assemble
from neva_tl.evaluation.conditions.observe import score_texts
from neva_tl.evaluation.judges.base import ItemScores, Judge, judge_values, reads_texts
from neva_tl.evaluation.judges.registry import load_judge
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.study.run.run_folder import RunFolder

#: Tables that the analysis writes into a run folder.
TABLE, TEXTS = "tables/second_judge", "tables/second_judge_texts"


@dataclass(frozen=True, eq=False)
class SecondOpinion:
    """What two judges say about the same texts.

    Attributes:
        df: A row per method, target gain, steered value (or `all`, the mean) and judge: `gain` and `wrong_way` with intervals
            over topics; `nlr` with its interval in the rows `all`.
        agreement: A row per method, target gain and steered value: Spearman's correlation of the two judges' changes of the
            steered value over prompts, and the share of prompts on which their signs agree (a change of 0 agrees half).
        texts: Every text with both judges' scores of its steered value.
        judges: Names of the first and the second judge.
    """

    df: pd.DataFrame
    agreement: pd.DataFrame
    texts: pd.DataFrame
    judges: tuple[str, str]

    @property
    def note(self) -> str:
        """Judges that do not see the role prompt, the positive control; "" without one, and where no role prompt was measured."""
        role = self.df[(self.df["method"] == "role") & (self.df["steered"] == "all")]
        blind = role[~(role["gain_lo"] > 0)]
        return " ".join(
            f"{row['judge']} does not see the role prompt (gain {plain_interval(row['gain'], row['gain_lo'], row['gain_hi'])}): "
            "what it says of the other methods is not measurable."
            for row in blind.to_dict("records")
        )

    def __str__(self) -> str:
        tables = (
            f"{self.df.to_string(index=False)}\n\nagreement of the changes\n{self.agreement.to_string(index=False)}"
        )
        return f"{tables}\n\n{self.note}" if self.note else tables

    def _repr_html_(self) -> str:
        return card(
            "Second judge", {"first": self.judges[0], "second": self.judges[1]}, self.df, rows=40, note=self.note
        )

    def show(self) -> Any:
        """Plot the gains by both judges as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        rows = self.df[self.df["steered"] == "all"]
        target = rows["target_gain"].map(lambda x: "" if pd.isna(x) else f" @{x:g}")
        labels = rows["method"] + target + ", " + rows["judge"]
        table = pd.DataFrame({"label": labels, "est": rows["gain"], "lo": rows["gain_lo"], "hi": rows["gain_hi"]})
        return interval_plot(table, title="Gain by two judges", axis="change of the score", guide=0.0)


def second_opinion(
    run: RunFolder, judge: Judge | str, *, seed: int = 0, n_boot: int = 2000, theory: TheorySpec | None = None
) -> SecondOpinion:
    """Score the stored test texts of a run with another judge.

    Args:
        run: Folder of a finished run whose judge read texts.
        judge: The second judge, or its name. Leakage is read on the values that both judges score.
        seed: Seed of the bootstraps.
        n_boot: Bootstrap draws.
        theory: Theory of the run's values, where it is not the one that the values imply.

    Raises:
        InputError: The run's judge read no texts, the second judge reads none, is the run's own, or does not score a steered
            value.

    Example:
        >>> store = nv.Run.open("runs/text").store  # doctest: +SKIP
        >>> opinion = second_opinion(store, "llm:qwen2.5-coder-0.5b#oppose=no")  # doctest: +SKIP
        >>> opinion.agreement  # doctest: +SKIP
    """
    record = run.read_json("results.json")
    first = str(record["judge"])
    texts = run.read_table("tables/generations")
    if not run.has("cells/base.texts.parquet"):
        raise InputError(f"the judge of {run.root} ({first}) read no texts: run the study with a judge of texts first")
    reader = load_judge(judge, find_theory(theory) if theory else None) if isinstance(judge, str) else judge
    if not reads_texts(reader):
        raise InputError(
            f"the judge {reader.name} reads no texts: name one that does (llm:, chat:, classifier:, wordlist)"
        )
    if reader.name == first:
        raise InputError(f"{first} judged {run.root} already: name another judge")
    steered = list(dict.fromkeys(texts["steered"].dropna()))
    if missing := [name for name in steered if name not in judge_values(reader)]:
        raise InputError(f"the judge {reader.name} does not score {missing[0]!r}, which {run.root} steers towards")
    pairs = texts[["prompt", "text"]].drop_duplicates(ignore_index=True)
    again = score_texts(reader, list(pairs["text"]), list(pairs["prompt"])).drop(columns="text")
    kept = ["prompt", "topic", "sample", "text", "method", "steered", "target_gain"]
    merged = texts[kept].merge(
        pd.concat([pairs, again], axis=1), on=["prompt", "text"], how="left", validate="many_to_one"
    )
    names = tuple(name for name in judge_values(reader) if f"score_{name}" in texts)
    frames, agreements = [], []
    for method, target in _conditions(texts):
        one, two = (
            measure(_responses(table, method, target, steered, names, name), seed=seed, n_boot=n_boot)
            for table, name in ((texts, first), (merged, reader.name))
        )
        frames += [_rows(one, method, target, first), _rows(two, method, target, reader.name)]
        agreements += [_agreement(one, two, method, target, name) for name in steered]
    scores = merged.assign(first=_own_scores(texts), second=_own_scores(merged))
    return SecondOpinion(
        pd.concat(frames, ignore_index=True),
        pd.DataFrame(agreements),
        scores[[*kept, "first", "second"]],
        (first, reader.name),
    )


def write(run: RunFolder, opinion: SecondOpinion) -> None:
    """Write the tables of a second opinion into the run folder.

    Args:
        run: The run folder.
        opinion: The opinion.
    """
    run.write_table(TABLE, opinion.df)
    run.write_table(f"{TABLE}_agreement", opinion.agreement)
    run.write_table(TEXTS, opinion.texts)


def _conditions(texts: pd.DataFrame) -> list[tuple[str, float | None]]:
    rows = texts[texts["steered"].notna()][["method", "target_gain"]].drop_duplicates()
    return [(str(m), None if pd.isna(t) else float(t)) for m, t in rows.itertuples(index=False)]


def _responses(
    texts: pd.DataFrame, method: str, target: float | None, steered: list[str], names: tuple[str, ...], judge: str
) -> Responses:
    """Return the responses of one method at one target, from the score columns of a table of texts."""
    same = texts["target_gain"].isna() if target is None else texts["target_gain"] == target
    of_method = texts[(texts["method"] == method) & same.fillna(False)]
    edited = {name: _items(of_method[of_method["steered"] == name], names) for name in steered}
    return assemble(method, _items(texts[texts["method"] == "unedited"], names), edited, judge=judge)


def _items(texts: pd.DataFrame, names: tuple[str, ...]) -> ItemScores:
    topics = texts["topic"].to_numpy(dtype=str)
    scores = tuple(texts[f"score_{name}"].to_numpy(dtype=np.float64) for name in names)
    return ItemScores(names, scores, tuple(topics for _ in names), shared=True, bounds=(0.0, 1.0))


def _rows(result: LeakageResult, method: str, target: float | None, judge: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, gain in result.gains.items():
        rows.append({"steered": name} | gain.columns("gain") | result.wrong_ways[name].columns("wrong_way"))
    mean = {"steered": "all"} | result.gain.columns("gain") | result.wrong_way.columns("wrong_way")
    rows.append(mean | result.nlr.columns("nlr"))
    return pd.DataFrame(rows).assign(method=method, target_gain=target, judge=judge)


def _agreement(one: LeakageResult, two: LeakageResult, method: str, target: float | None, value: str) -> dict[str, Any]:
    from scipy.stats import spearmanr

    a, b = (_changes(result, value) for result in (one, two))
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    varied = len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0
    rho = float(spearmanr(a, b).statistic) if varied else float("nan")
    agree = float(np.mean((1 + np.sign(a) * np.sign(b)) / 2)) if len(a) else float("nan")
    return {"method": method, "target_gain": target, "steered": value, "rho": rho, "same_sign": agree, "n": len(a)}


def _changes(result: LeakageResult, value: str) -> np.ndarray:
    responses = result.responses
    j = responses.values.index(value)
    return np.asarray(responses.edited[j][responses.steered.index(value)] - responses.base[j])


def _own_scores(texts: pd.DataFrame) -> list[float]:
    """Return the score of each text's steered value; NaN for unedited texts."""
    columns = texts.to_dict("records")
    return [float("nan") if pd.isna(row["steered"]) else float(row[f"score_{row['steered']}"]) for row in columns]
