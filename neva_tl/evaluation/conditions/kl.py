"""Metric for `calibrate` that matches edits by their KL from the unedited model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neva_tl.core.arguments import check_arguments
from neva_tl.editing import DosePoint, Edit
from neva_tl.evaluation.conditions.capability import Reference, neutral_table, reference
from neva_tl.models import Model


@check_arguments
def kl_metric(model: Model, texts: Sequence[str] | Reference) -> Callable[[Edit], DosePoint]:
    """Return a metric for `calibrate`: mean next-token KL(unedited || edited) on validation texts.

    All tokens of the texts count as generated for token scopes. The metric generates no text, so every dose is admissible.

    Args:
        model: A TransformerLens model.
        texts: Validation prompts or neutral texts, or their `reference`; the unedited model runs on them once.

    Returns:
        Edit -> `DosePoint`; its gain is the KL (nats per token), its `extra["loss"]` the mean loss (nats per token).

    Raises:
        InputError: No texts, or a text with fewer than two tokens.

    Example:
        >>> metric = nv.evaluation.kl_metric(model, nv.demo.neutral_texts("validation", 4))
        >>> metric(edit).gain > 0
        True
    """
    base = texts if isinstance(texts, Reference) else reference(model, texts)

    def metric(edit: Edit) -> DosePoint:
        table = neutral_table(model, edit, base)
        tokens = float(table["tokens"].sum())
        return DosePoint(float(table["kl"].sum()) / tokens, extra={"loss": float(table["loss"].sum()) / tokens})

    return metric
