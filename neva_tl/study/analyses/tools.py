"""Short ways to single pieces of a study: one edit, one comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models, selection
from neva_tl.activations import ActivationStats
from neva_tl.core.method_records import DoseUnit
from neva_tl.core.values import VALUES
from neva_tl.editing import Edit, RelevanceGate, Scope
from neva_tl.methods import Evidence, build, dose_unit
from neva_tl.study.run.config import METHODS, StudyConfig
from neva_tl.study.run.study import Study

#: Doses to look at first, by the unit of the method's dose; an edit without a dose ignores it.
FIRST_DOSE: dict[DoseUnit, float] = {"log-odds": 8.0, "contrasts": 2.0, "gamma": 1.0, "share": 1.0, "none": 2.0}


def build_edit(
    model: Any,
    stats: ActivationStats,
    value: str,
    *,
    method: str = "neva",
    dose: float | None = None,
    scope: Scope = "all",
    gate: RelevanceGate | None = None,
    k: int | None = None,
    seed: int = 0,
) -> Edit:
    """The edit of a method towards one value, from collected statistics, with the study's defaults.

    Args:
        model, stats: The model and its statistics (with samples, where the method fits probes).
        value: Steered towards.
        method: A registry name of `neva_tl.methods`.
        dose: In the method's unit; None takes `FIRST_DOSE`.
        scope, gate, seed: Of the edit.
        k: Neurons; None takes the selector's default.
    """
    config = StudyConfig(model=str(stats.info.get("name", "")), k=k).resolved()
    neurons = selection.select(
        stats, value, method=config.selector, k=config.k, model=model, seed=seed, **config.selection
    )
    evidence = Evidence(model, stats, {value: neurons}, scope, chat=models.info(model).chat, seed=seed, gate=gate)
    return build(method, evidence, value).with_dose(FIRST_DOSE[dose_unit(method)] if dose is None else dose)


def compare(
    model: Any,
    methods: Sequence[str] = METHODS,
    values: Sequence[str] = VALUES,
    *,
    at_gain: Sequence[float] = (0.2, 0.4),
    out: str | Path | None = None,
    progress: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Methods side by side at matched gains: the `methods` table of a study of their own.

    Args:
        model: Name or loaded model.
        methods, values: What to compare, on what.
        at_gain: Target gains, in the judge's unit.
        out: Run folder to keep (and resume); None works in a temporary folder.
        options: Further fields of `StudyConfig` (prompts, judge, profile, seed, ...).
    """
    overrides = {**options.pop("overrides", {}), "targets": tuple(at_gain)}
    study = Study(model, methods=tuple(methods), values=tuple(values), overrides=overrides, **options)
    if out is not None:
        return study.run(out, progress=progress).table("methods")
    with tempfile.TemporaryDirectory() as folder:
        return study.run(folder, progress=progress).table("methods")
