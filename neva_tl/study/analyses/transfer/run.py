"""The transfer study: select on each source, and on all but one, and score on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models, prompts
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar, say
from neva_tl.models.sources import is_demo
from neva_tl.study.analyses.transfer.config import TransferConfig
from neva_tl.study.analyses.transfer.coverage import covered, limited
from neva_tl.study.analyses.transfer.leave_out import leave_out, pooled_methods
from neva_tl.study.analyses.transfer.phrasings import check_phrasings
from neva_tl.study.analyses.transfer.result import TransferResult
from neva_tl.study.analyses.transfer.selected import Source
from neva_tl.study.analyses.transfer.tables import rows_of, shared_neurons


def transfer(
    model: Any,
    sources: Mapping[str, str],
    out: str | Path,
    config: TransferConfig | None = None,
    *,
    progress: bool = False,
) -> TransferResult:
    """Select on each source, and on all but one at once, and score on all of them.

    Cells are stored in the folder, and a killed run resumes.

    Args:
        model: A name for `neva_tl.load`, or a loaded model.
        sources: Name -> argument of `prompts.load`; two or more. They may cover different values, with and without pairs.
        out: Folder, with a subfolder for each source and one for each selection on several.
        config: Values, methods and budget.
        progress: Show bars on stderr.

    Raises:
        InputError: There are fewer than two sources, a value is covered by fewer than two of them, one of them is a demo model
            (its language has one source only), the model takes no other phrasing, or a folder belongs to another study.
        WorkError: No neuron was selected for any value.
    """
    settings = config or TransferConfig()
    loaded = model if models.is_model(model) else None
    name = models.info(loaded).name if loaded is not None else str(model)
    if len(sources) < 2:
        raise InputError("a transfer needs two sources or more: one to select on, another to score on")
    if is_demo(name):
        raise InputError("a demo model knows one source of prompts, its own: name a model of natural language")
    sets = {source: prompts.load(spec, theory=settings.theory) for source, spec in sources.items()}
    steered, measured = covered(sets, settings)
    if loaded is None:
        loaded = models.load(name, dtype=settings.dtype)
    check_phrasings(loaded, settings.phrasings)
    root = Path(out)
    opened = []
    for source, spec in sources.items():
        say(f"selecting on {source}", progress)
        of_source = [value for value in measured if value in sets[source].values]
        pairs = limited(sets[source].for_value(*of_source), settings)
        study = settings.study(name, spec, [value for value in steered if value in of_source])
        opened.append(Source.open(source, study, root / source, loaded, pairs, settings.phrasings, progress))
    # a value counts where every source that covers it found neurons, so that rows of one column have the same values
    usable = [
        value for value in steered if all(len(s.selected.neurons[value]) for s in opened if value in s.measured)
    ]  # fmt: skip
    if not usable:
        raise InputError(f"no value of {', '.join(steered)} has neurons on every source: more rows may show some")
    for one in opened:
        one.selected.set_doses([value for value in usable if value in one.measured], settings)
    jobs = [(a.selected, b, method) for a in opened for s in opened for b in s.scored for method in settings.methods]
    methods = pooled_methods(settings)
    if settings.leave_out and methods:
        for scored_source, selected in leave_out(opened, usable, root, settings, progress):
            jobs += [(selected, b, method) for b in scored_source.scored for method in methods]
    rows = []
    for a, b, method in progress_bar(jobs, desc="transfer", unit="cell", progress=progress):
        rows += rows_of(a, b, method, settings)
    about = opened[0].scored[0].scorer.about()
    total = models.info(loaded).n_layers * models.info(loaded).d_mlp
    shared = shared_neurons([one.selected for one in opened], usable, total)
    return TransferResult(pd.DataFrame(rows), shared, about["judge"], about["unit"])
