"""Single steps of a study as functions: one edit, one comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models, selection
from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.auto import FIRST_DOSE
from neva_tl.core.theories import ValueName
from neva_tl.editing import AutoScope, Edit, RelevanceGate
from neva_tl.methods import Evidence, build, dose_unit
from neva_tl.study.run.config import METHODS
from neva_tl.study.run.study import Study


@check_arguments
def build_edit(
    model: models.Model,
    stats: ActivationStats,
    value: ValueName,
    *,
    method: str = "neva",
    dose: float | None = None,
    scope: AutoScope = "auto",
    gate: RelevanceGate | None = None,
    k: int | None = None,
    seed: int = 0,
    sae: str | None = None,
) -> Edit:
    """Build a method's edit towards one value, with the study's selector and scope.

    Args:
        model: The loaded model.
        stats: Its statistics (with samples, where the method fits probes).
        value: Value to steer towards.
        method: A registered name of `neva_tl.methods`.
        dose: Dose in the method's unit; None takes `FIRST_DOSE`.
        scope: Tokens to edit; `auto` is the study's scope.
        gate: Relevance gate of the edit; `nv.auto_gate(model, pairs)` is the study's.
        k: Number of neurons; None takes the selector's default.
        seed: Seed of placebos and probes.
        sae: Sparse autoencoders of the method `sae` (`Evidence.sae`).

    Example:
        >>> steer = nv.study.build_edit(model, stats, "power", method="neva_shift", dose=8.0, scope="last")
        >>> type(steer).__name__, steer.dose
        ('Shift', 8.0)
    """
    neurons = selection.select(stats, value, k=k, model=model, seed=seed)
    chat = models.info(model).chat
    evidence = Evidence(model, stats, {value: neurons}, scope, chat=chat, seed=seed, gate=gate, sae=sae)
    return build(method, evidence, value).with_dose(FIRST_DOSE[dose_unit(method)] if dose is None else dose)


@check_arguments
def compare(
    model: models.Model | str | Path,
    methods: Sequence[str] = METHODS,
    values: Sequence[ValueName] = (),
    *,
    at_gain: Sequence[float] = (0.2, 0.4),
    out: str | Path | None = None,
    progress: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Compare methods at matched gains: run a study and return its `methods` table.

    Args:
        model: Name or loaded model.
        methods: Methods to compare.
        values: Values to steer towards; empty for all of the prompts.
        at_gain: Target gains, in the judge's unit.
        out: Run folder, which a later call resumes; None uses a temporary folder.
        progress: Show bars on stderr.
        options: Further fields of `StudyConfig` (prompts, judge, profile, seed, ...).

    Example:
        >>> table = nv.compare("demo", methods=("neva", "caa"), values=("power",), at_gain=(0.4,))  # doctest: +SKIP
    """
    overrides = {**options.pop("overrides", {}), "targets": tuple(at_gain)}
    study = Study(model, methods=tuple(methods), values=tuple(values), overrides=overrides, **options)
    if out is not None:
        return study.run(out, progress=progress).table("methods")
    with tempfile.TemporaryDirectory() as folder:
        return study.run(folder, progress=progress).table("methods")
