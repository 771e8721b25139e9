"""Dose-response curves: gain, leakage, invalid rate and capability of one edit over a range of doses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from neva_tl.core.arguments import check_arguments
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import ValueName
from neva_tl.editing import DosePoint, Edit
from neva_tl.evaluation.conditions.capability import Reference, capability
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.fluency import admissible
from neva_tl.evaluation.conditions.leakage import assemble, steered_value
from neva_tl.evaluation.conditions.observe import Observed, observe
from neva_tl.evaluation.judges.base import Judge, judge_theory
from neva_tl.evaluation.judges.registry import as_judge
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.models import Model
from neva_tl.plots.showable import showable

#: Default doses, in units of the edit's own dose.
DOSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def _observe_dose(
    model: Model,
    edit: Edit,
    name: str,
    prompts: Any,
    judge: Judge,
    base: Observed,
    decoding: Decoding | None,
    n_boot: int,
    seed: int,
) -> tuple[Observed, LeakageResult]:
    observed = observe(model, edit, prompts, judge, decoding=decoding)
    responses = assemble("dose", base.items, {name: observed.items}, judge=judge.name, unit=judge.unit)
    return observed, measure(responses, n_boot=n_boot, n_permutations=1, seed=seed)


@check_arguments
def dose_metric(
    model: Model,
    prompts: pd.DataFrame | Sequence[str] | None,
    judge: Judge | str,
    *,
    value: ValueName,
    base: Observed | None = None,
    decoding: Decoding | None = None,
) -> Callable[[Edit], DosePoint]:
    """Return a metric for `editing.calibrate`: gain and invalid rate of an edit on validation prompts.

    Args:
        model: A TransformerLens model.
        prompts: Open prompts (None for a ModelJudge).
        judge: A TextJudge or a ModelJudge, or its name (`load_judge`).
        value: Steered value.
        base: The unedited condition, if observed before (same prompts, judge and decoding).
        decoding: Settings of text generation.

    Returns:
        Edit -> `DosePoint`.
    """
    judge = as_judge(judge)
    unedited = base or observe(model, None, prompts, judge, decoding=decoding)

    def metric(edit: Edit) -> DosePoint:
        observed, result = _observe_dose(model, edit, value, prompts, judge, unedited, decoding, n_boot=2, seed=0)
        leak = result.leakage.est
        extra = {} if leak is None else {"leakage": leak}
        gain = result.gains[value].est
        return DosePoint(float("nan") if gain is None else gain, observed.invalid, extra)

    return metric


@check_arguments
def dose_response(
    model: Model,
    edit: Edit,
    prompts: pd.DataFrame | Sequence[str] | None,
    judge: Judge | str,
    *,
    value: ValueName | None = None,
    doses: Sequence[float] | None = None,
    texts: Sequence[str] | Reference | None = None,
    base: Observed | None = None,
    decoding: Decoding | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure gain, leakage, invalid rate and capability of an edit over a range of doses.

    Args:
        model: A TransformerLens model.
        edit: The edit; only its dose is changed.
        prompts: Open prompts (None for a ModelJudge).
        judge: A TextJudge or a ModelJudge, or its name (`load_judge`).
        value: Steered value; default: that of the edit's neurons.
        doses: Doses; default: 0.25 to 8, each twice the previous one.
        texts: Neutral texts (or their `reference`) for perplexity and KL; None omits them.
        base: The unedited condition, if observed before (same prompts, judge and decoding).
        decoding: Settings of text generation.
        n_boot: Bootstrap draws.
        seed: Seed of the bootstrap.
        progress: Show a bar on stderr.

    Returns:
        One row per dose: `value, dose, gain, gain_lo, gain_hi, leakage` (cross-fitted), `invalid, admissible`, and with texts
        `ppl, kl`.
    """
    judge = as_judge(judge)
    name = judge_theory(judge).value(value or steered_value(edit)).name
    unedited = base or observe(model, None, prompts, judge, decoding=decoding)
    rows = []
    for dose in progress_bar(doses or DOSES, desc=f"doses: {name}", progress=progress):
        dosed = edit.with_dose(float(dose))
        observed, result = _observe_dose(model, dosed, name, prompts, judge, unedited, decoding, n_boot, seed)
        gain = result.gains[name]
        row = {"value": name, "dose": float(dose), "gain": gain.est, "gain_lo": gain.lo, "gain_hi": gain.hi}
        row |= {"leakage": result.leakage.est, "invalid": observed.invalid}
        row["admissible"] = admissible(observed.invalid, unedited.invalid)
        if texts is not None:
            cost = capability(model, dosed, texts)
            row |= {"ppl": cost["perplexity"], "kl": cost["kl"]}
        rows.append(row)
    about = {"method": type(edit).__name__, "steered": name, "crossfitted": True}
    return showable(pd.DataFrame(rows), "dose_response", **about)
