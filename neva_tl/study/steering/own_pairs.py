"""Pairs of a steering without a file of pairs: in the model's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.formatting import plain_interval
from neva_tl.core.messages import say
from neva_tl.core.theories import THEORIES
from neva_tl.prompts import ContrastSet, from_model
from neva_tl.study.own_words.judging import Scorer


def check_concept(pairs: object, value: str | None, concept: str | None, theory: object) -> None:
    """Check that a steering names pairs or a concept, and not both.

    Args:
        pairs: The pairs, or None.
        value: The value of the pairs, or None.
        concept: The concept, or None.
        theory: Theory of the pairs, or None.

    Raises:
        InputError: Both or neither are named, the concept is a whole theory, or an option of pairs is given without pairs.
    """
    if concept is None:
        raise InputError(
            "name pairs, or a concept for an instruct model to write them: concept='thrift', definition='...'"
        )
    if pairs is not None:
        raise InputError("pairs and a concept were given: leave out concept, or the pairs")
    if value is not None or theory is not None:
        raise InputError("value and theory belong to pairs: with a concept, give its definition instead")
    if concept.lower() in THEORIES:
        raise InputError(
            f"{concept!r} is a theory, and one concept is steered towards at a time: name one of its values"
        )


def own_pairs(
    model: models.Model, concept: str, definition: str, opposite: str, judge: Scorer, *, seed: int, progress: bool
) -> ContrastSet:
    """Let the model write pairs, and say how well the judge tells its answers apart.

    Args:
        model: The loaded model.
        concept: Name of the concept.
        definition: Its meaning; "" without one.
        opposite: What opposes it; "" without one.
        judge: Judge of the answers.
        seed: Seed of sampling.
        progress: Show a bar and the figures on stderr.

    Raises:
        InputError: See `neva_tl.prompts.from_model`.
        WorkError: See `neva_tl.prompts.from_model`.
    """
    options: dict[str, Any] = {"definition": definition, "opposite": opposite, "judge": judge}
    pairs = from_model(model, concept, **options, seed=seed, progress=progress)
    say(" ".join(filter(None, (f"pairs: {pairs_fact(pairs.provenance, pairs.values[0])}.", pairs.note))), progress)
    return pairs


def pairs_fact(provenance: Mapping[str, Any], value: str) -> str:
    """Describe the pairs of a value in the model's own words in one line.

    Args:
        provenance: Provenance of the pairs.
        value: The value.
    """
    facts = provenance["values"][value]
    line = f"{facts['pairs']} in the model's own words; judge {provenance['judge']} tells the roles apart with AUROC "
    return (
        line
        + plain_interval(facts["auroc"], facts["lo"], facts["hi"])
        + ("" if facts["separated"] else " (it does not)")
    )
