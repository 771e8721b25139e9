"""CSR (control success rate) and leakage of a set of edits, from a judge's scores of each condition.

`CSR_j(c)` is the mean score of value j in condition c over a fixed set of prompts that name no value; D[i, j] is its
change under the edit towards i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.arguments import check_arguments
from neva_tl.core.cache import JsonCache
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import ValueName, in_order
from neva_tl.editing import Edit, as_edits
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.observe import Observed, observe
from neva_tl.evaluation.judges.base import ItemScores, Judge, judge_theory
from neva_tl.evaluation.judges.registry import as_judge
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights
from neva_tl.evaluation.measures.estimate import Estimate, interval
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, measure
from neva_tl.models import Model


@check_arguments
def assemble(
    method: str,
    base: ItemScores,
    edited: Mapping[str, ItemScores],
    *,
    judge: str = "",
    unit: str = "",
    question: str = "",
) -> Responses:
    """Combine the item scores of the unedited and the edited conditions into `Responses`.

    Args:
        method: Name of the method.
        base: Item scores of the unedited model.
        edited: Item scores for each steered value.
        judge: Name of the judge.
        unit: Unit of its scores.
        question: Exact wording of its question, if it asks one.

    Raises:
        InputError: The conditions have different items.
    """
    for name, scores in edited.items():
        if scores.values != base.values or any(
            len(a) != len(b) or (np.asarray(a, str) != np.asarray(b, str)).any()
            for a, b in zip(scores.clusters, base.clusters, strict=False)
        ):
            raise InputError(f"{method}: the edit towards {name!r} was scored on other items than the unedited model")
    return Responses(
        method=method,
        steered=tuple(edited),
        base=base.scores,
        edited=tuple(np.stack([scores.scores[j] for scores in edited.values()]) for j in range(len(base.values))),
        clusters=base.clusters,
        values=base.values,
        shared=base.shared,
        bounds=base.bounds,
        theory=base.theory,
        judge=judge,
        unit=unit,
        question=question,
    )


@check_arguments
def leakage(
    model: Model,
    edits: Mapping[ValueName, Edit | Sequence[Edit]] | Edit | Sequence[Edit],
    prompts: pd.DataFrame | Sequence[str] | None,
    judge: Judge | str,
    *,
    method: str = "edit",
    base: Observed | None = None,
    decoding: Decoding | None = None,
    cache: JsonCache | None = None,
    seed: int = 0,
    n_boot: int = 2000,
    level: float = 0.95,
    n_permutations: int = 9999,
    progress: bool = True,
) -> LeakageResult:
    """Steer towards each value in turn and measure the change of every value.

    Args:
        model: A TransformerLens model.
        edits: Steered value -> the edit (or edits) towards it; also one edit, or several, of neurons that name their value.
        prompts: Open prompts that name no value (`prompts.open_prompts(...)`); None for a ModelJudge.
        judge: A TextJudge or a ModelJudge, or its name (`load_judge`).
        method: Name of the method in tables.
        base: The unedited condition, if observed before (same prompts, judge and decoding).
        decoding: Settings of text generation.
        cache: Cache of generated texts (see `write_texts`).
        seed: Seed of the bootstrap and of the Mantel test.
        n_boot: Bootstrap draws.
        level: Coverage of the intervals.
        n_permutations: Relabellings in the Mantel test.
        progress: Show a bar on stderr.

    Raises:
        InputError: No edits, an unknown value, or a text judge without prompts.
    """
    judge = as_judge(judge)
    if not isinstance(edits, Mapping):
        edits = _by_value(as_edits(edits))
    if not edits:
        raise InputError("leakage needs at least one edit: a mapping from the steered value to its edit")
    names = in_order(edits, judge_theory(judge))
    base = base or observe(model, None, prompts, judge, decoding=decoding, cache=cache)
    observed: dict[str, Observed] = {}
    for name in progress_bar(names, desc=f"leakage: {method}", progress=progress):
        observed[name] = observe(model, edits[name], prompts, judge, decoding=decoding, cache=cache)
    facts = {"judge": judge.name, "question": str(getattr(judge, "question", ""))}
    responses = assemble(method, base.items, {n: o.items for n, o in observed.items()}, unit=judge.unit, **facts)
    net = affirmation = None
    if base.net is not None:
        nets = {name: o.net for name, o in observed.items() if o.net is not None}
        net = assemble(method, base.net, nets, unit=f"{judge.unit} - P(opposes)", **facts)
    if "affirmation" in base.items.extra:
        affirmation = _extra(responses, base.items, [o.items for o in observed.values()], "affirmation")
    return measure(
        responses,
        net=net,
        affirmation=affirmation,
        generations=_all_texts(method, base, observed),
        seed=seed,
        n_boot=n_boot,
        level=level,
        n_permutations=n_permutations,
    )


def _by_value(edits: Sequence[Edit]) -> dict[str, Edit]:
    """Return edits by the value that their neurons carry."""
    out: dict[str, Edit] = {}
    for item in edits:
        name = steered_value(item, "write {'VALUE': edit}")
        if name in out:
            raise InputError(f"two edits steer towards {name}: write {{{name!r}: [first, second]}} for both at once")
        out[name] = item
    return out


def steered_value(edit: Edit, hint: str = "pass value=...") -> str:
    """Return the steered value of an edit, as recorded in its neuron set.

    Args:
        edit: The edit.
        hint: Advice in the message of the error.

    Raises:
        InputError: The edit has no neuron set.
    """
    name = getattr(getattr(edit, "neurons", None), "value", None)
    if name is None:
        raise InputError(f"{type(edit).__name__} does not name the value it steers towards: {hint}")
    return str(name)


def _extra(responses: Responses, base: ItemScores, edited: Sequence[ItemScores], name: str) -> Responses:
    scores, clusters = base.extra[name]
    stacked = np.stack([items.extra[name][0] for items in edited])
    return replace(responses, base=(scores,), edited=(stacked,), clusters=(clusters,), values=(name,), excluded=None)


def _all_texts(method: str, base: Observed, observed: Mapping[str, Observed]) -> pd.DataFrame | None:
    if base.generations is None:
        return None
    frames = [base.generations.assign(method="unedited", steered=None)]
    frames += [o.generations.assign(method=method, steered=n) for n, o in observed.items() if o.generations is not None]
    table = pd.concat(frames, ignore_index=True)
    return table[["method", "steered", *(c for c in table.columns if c not in ("method", "steered"))]]


@check_arguments
def csr(
    scores: Float[np.ndarray, " n"],
    clusters: Sequence[str] | np.ndarray | None = None,
    *,
    seed: int = 0,
    n_boot: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Return the control success rate: the mean score of a value, with a bootstrap interval by topic.

    Args:
        scores: Scores of the items; NaN scores are omitted.
        clusters: Topic of each item; default: every item is its own topic.
        seed: Seed of the bootstrap.
        n_boot: Bootstrap draws.
        level: Coverage of the interval.
    """
    names = np.arange(len(scores)).astype(str) if clusters is None else np.asarray(clusters, dtype=str)
    if not len(scores) or names.shape != scores.shape:
        raise InputError(f"csr needs scores, and one cluster per score: got {len(scores)} and {names.size}")
    distinct, member = np.unique(names, return_inverse=True)
    usable = ~np.isnan(scores)
    total = np.bincount(member, np.where(usable, scores, 0.0), minlength=len(distinct))
    count = np.bincount(member, usable.astype(float), minlength=len(distinct))
    (drawn,) = bootstrap_weights((tuple(str(f) for f in distinct),), ("",), n_boot=n_boot, seed=seed, shared=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (drawn @ total) / (drawn @ count)
        return interval(float(total.sum() / count.sum()), draws, int(usable.sum()), level)
