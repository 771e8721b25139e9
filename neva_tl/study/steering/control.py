"""Positive control of a steering: the role prompt's gain on the same test items."""

from __future__ import annotations

from neva_tl.evaluation.conditions.leakage import assemble
from neva_tl.evaluation.conditions.observe import observe
from neva_tl.evaluation.judges.logprob import LogProbJudge
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.methods import Evidence, build
from neva_tl.study.report.control import CONTROL, needs_control
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.control import control_gains
from neva_tl.study.run.scorers import from_frame, to_frame


def steering_control(cells: CellRunner, evidence: Evidence, value: str) -> Estimate | None:
    """Measure the effect of the role prompt on the score of a concept, without its cost and its texts.

    Args:
        cells: The measurements of the steering; the unedited model's must be stored.
        evidence: Evidence from which methods build edits.
        value: The concept.

    Returns:
        The gain; None for a judge that needs no control.
    """
    if not needs_control(cells.config.judge):
        return None
    store, name = cells.store, f"cells/control/{value}"
    if not store.has(f"{name}.parquet"):
        judge, scorer = cells.scorer.judge_of("test"), cells.scorer
        if isinstance(judge, LogProbJudge):  # the same items, without other concepts and affirmation pairs
            judge = judge.only(split="test", values=(value,), per_value=cells.profile.test, affirmation=False)
        edit = build(CONTROL, evidence, value)
        observed = observe(cells.model, edit, scorer.prompts["test"], judge, decoding=scorer.decoding)
        store.write_table(name, to_frame(observed), csv=False)
    frames = [store.read_table("cells/base.items"), store.read_table(name)]
    base, edited = (from_frame(frame[frame["measured"] == value], "score", shared=False) for frame in frames)
    if base is None or edited is None:
        return None
    responses = assemble(CONTROL, base, {value: edited})
    return control_gains(responses, seed=cells.config.seed, n_boot=cells.profile.n_boot)[value]
