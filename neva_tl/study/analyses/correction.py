"""Leakage of a finished run, corrected for its judge's confusions.

Item scores come from the run folder, the mixing matrix M from labelled texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.evaluation.judge_quality.corrected import CorrectedLeakage, correct
from neva_tl.evaluation.judge_quality.mixing import JudgedTexts, judged, mixing
from neva_tl.evaluation.judges.base import TextJudge, reads_texts
from neva_tl.evaluation.judges.registry import load_judge
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.study.run.comparison import stored_responses
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder

#: Files that the correction writes into a run folder.
RECORD, TABLE, MIXING, RATES = (
    "correction.json",
    "tables/leakage_corrected",
    "tables/judge_mixing",
    "tables/csr_corrected",
)


def text_judge(spec: str) -> TextJudge:
    """Load a judge of texts.

    Args:
        spec: Name of the judge.

    Raises:
        InputError: The judge is unknown or reads no texts.
    """
    if spec in ("auto", "logprob"):
        raise InputError(
            f"labelled texts correct judges that read texts, and {spec!r} asks the model itself: name one with --judge"
        )
    judge = load_judge(spec)
    if not reads_texts(judge):
        raise InputError(f"labelled texts correct judges that read texts, and {spec!r} reads none")
    return judge


def labels_of(judge: Any, labels: LabelledTexts | str | Path | None) -> LabelledTexts:
    """Return the labelled texts to use.

    Args:
        judge: The judge; a trained one names its source in `judge.labels`.
        labels: Labelled texts or their location; None takes the judge's own source.

    Raises:
        InputError: No labels are given and the judge names no source.
    """
    if isinstance(labels, LabelledTexts):
        return labels
    named = getattr(judge, "labels", None)
    spec = labels if labels is not None else named if isinstance(named, str) and named else None
    if spec is None:
        raise InputError(f"the judge {judge.name} names no labelled texts of its own: give some, as valueeval:DIR")
    return LabelledTexts.load(spec)


def judged_labels(
    judge: TextJudge, labels: LabelledTexts | str | Path | None = None, *, split: str = "test", limit: int = 0
) -> JudgedTexts:
    """Score labelled texts of a test split.

    Args:
        judge: Judge of texts.
        labels: Labelled texts or their location; None takes the judge's own source.
        split: Split to use; a trained judge never saw `test`.
        limit: Largest number of texts, chosen by hash; 0 takes all.

    Raises:
        InputError: There are no usable texts.
    """
    texts = labels_of(judge, labels).split(split)
    return judged(judge, texts.head(limit) if limit else texts, split=split)


def prepared(model: str, judge: str, labels: str | Path | None, *, seed: int = 0) -> JudgedTexts | None:
    """Prepare the labelled texts of a correction and check them before the run starts.

    Args:
        model: Model of the study, as `StudyConfig` takes it.
        judge: Judge of the study, as `StudyConfig` takes it.
        labels: Location of labelled texts; None takes the own source of a trained judge.
        seed: Seed of the check.

    Returns:
        The scored texts; None where no labels are given and the judge names no source.

    Raises:
        InputError: Labels for a judge that reads no texts, or labels that define no mixing matrix.
    """
    if labels is None and not judge.startswith("classifier:"):
        return None
    reader = text_judge(StudyConfig(model=model, judge=judge).resolved().judge)
    if labels is None and not getattr(reader, "labels", None):
        return None
    judged_texts = judged_labels(reader, labels)
    mixing(judged_texts, seed=seed, n_boot=2, n_splits=1)  # raises
    return judged_texts


def headline_target(run: str | Path, method: str) -> float | None:
    """Return the largest target gain at which a run measured a method.

    Args:
        run: Run folder.
        method: Name of the method.

    Returns:
        The gain; None for a method without a dose.

    Raises:
        InputError: The run did not measure the method.
    """
    table = RunFolder(Path(run)).read_table("tables/leakage")
    rows = table[table["method"] == method]
    if not len(rows):
        raise InputError(f"{run} did not measure {method}: it has {', '.join(dict.fromkeys(table['method']))}")
    targets = rows["target_gain"].dropna()
    return float(targets.max()) if len(targets) else None


def corrected(
    run: str | Path,
    method: str,
    judge: TextJudge | str | None = None,
    labels: LabelledTexts | JudgedTexts | str | Path | None = None,
    *,
    target: float | None = None,
) -> CorrectedLeakage:
    """Correct the leakage of one method of a finished run. Writes no file.

    Args:
        run: Run folder.
        method: Name of the method in the run.
        judge: The run's own judge; None loads it.
        labels: Held-out labelled texts, their location, or the judge's scores of them (read once for several methods); None
            takes the judge's own source.
        target: Gain at which the method was measured; None takes the largest.

    Raises:
        InputError: The run is not finished, has no text judge or another one, lacks the method, or the labels define no
            mixing matrix.
    """
    store = RunFolder(Path(run))
    if not store.has("results.json") or not store.has("manifest.json"):
        raise InputError(f"{run} holds no finished study (make one with neva-tl run or neva-tl leakage)")
    results = store.read_json("results.json")
    config = StudyConfig.from_manifest(store.read_json("manifest.json")["config"])
    if config.kind == "model":
        raise InputError(f"{run} was judged by {results['judge']}, which reads no texts: labels cannot correct it")
    if not isinstance(labels, JudgedTexts):
        reader = text_judge(config.judge) if judge is None else text_judge(judge) if isinstance(judge, str) else judge
        labels = judged_labels(reader, labels)
    target_gain = headline_target(run, method) if target is None else target
    table = store.read_table("tables/leakage")
    rows = table[(table["method"] == method) & _same(table["target_gain"], target_gain)]
    if not len(rows):
        raise InputError(f"{run} did not measure {method} at gain {target_gain}")
    steered = list(dict.fromkeys(rows["steered"]))
    responses = stored_responses(store, method, target_gain, steered, judge=results["judge"], unit=results["unit"])
    assert responses is not None  # a text judge scores every text
    return correct(responses, labels, seed=config.seed, n_boot=config.spending().n_boot)


def write(run: str | Path, results: Sequence[tuple[CorrectedLeakage, float | None]]) -> dict[str, Any]:
    """Write corrections into the run folder, and replace earlier ones.

    Writes `correction.json` and the tables `leakage_corrected`, `csr_corrected` and `judge_mixing`.

    Args:
        run: Run folder.
        results: Corrections by one judge and the same labels, each with its target gain.

    Returns:
        The content of `correction.json`: judge, labels, texts, condition, not_noticed, note, and per method the headline
        numbers as `{est, lo, hi, n}`, per steered value the share explained.
    """
    store = RunFolder(Path(run))
    first = results[0][0].mixing
    methods = [
        {"method": one.method, "target_gain": target}
        | {name: x.to_json() for name, x in one.numbers().items() if not name.startswith("condition")}
        | {"shares": {name: x.to_json() for name, x in one.shares.items()}}
        for one, target in results
    ]
    record = {
        "judge": first.judged.judge,
        "labels": first.judged.labels_name,
        "texts": len(first.judged.scores),
        "texts_left_out": first.judged.left_out,
        "clusters": len(first.judged.names),
        "condition": first.condition.to_json(),
        "condition_scaled": first.scaled.to_json(),
        "not_noticed": list(first.weak),
        "note": results[0][0].note,
        "methods": methods,
    }
    store.write_table(TABLE, pd.concat([one.table().assign(target_gain=t) for one, t in results], ignore_index=True))
    store.write_table(RATES, pd.concat([one.csr.assign(target_gain=t) for one, t in results], ignore_index=True))
    store.write_table(MIXING, first.table())
    store.write_json(RECORD, record)  # written last: its presence marks the tables as complete
    return record


def text(result: CorrectedLeakage) -> str:
    """Format a correction: both matrices with intervals, and the share of confusion.

    Args:
        result: The correction.
    """
    lines = []
    for title, est, lo, hi in (
        ("raw", result.raw.matrix, result.raw.lo, result.raw.hi),
        ("corrected", result.matrix, result.lo, result.hi),
    ):
        numbers = zip(est.to_numpy(), lo.to_numpy(), hi.to_numpy(), strict=True)
        cells = [[f"{x:.2f} [{a:.2f},{b:.2f}]" for x, a, b in zip(*row, strict=True)] for row in numbers]
        lines += [
            f"D of {result.method}, {title}",
            pd.DataFrame(cells, index=est.index, columns=est.columns).to_string(),
            "",
        ]
    raw, true, judged_texts = result.raw, result.corrected, result.mixing.judged
    lines += [
        f"judge {judged_texts.judge}, {len(judged_texts.scores)} held-out texts of {judged_texts.labels_name}",
        f"condition number of M {result.mixing.condition}, with scaled columns {result.mixing.scaled}",
        f"gain      raw {raw.gain}   corrected {true.gain} (in shares of texts)",
        f"leakage   raw {raw.leakage}   corrected {true.leakage}   by confusion alone {result.leakage_alone}",
        f"NLR       raw {raw.nlr}   corrected {true.nlr}",
        f"NGL       raw {raw.ngl}   corrected {true.ngl}",
        f"share of the measured leakage that the judge's confusion alone explains: {result.share}",
        result.note,
    ]
    return "\n".join(lines)


def _same(column: pd.Series[float], target: float | None) -> np.ndarray:
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    return np.isnan(numbers) if target is None else np.abs(numbers - target) < 1e-9
