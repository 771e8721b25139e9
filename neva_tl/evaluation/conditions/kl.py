"""kl_metric(): what `calibrate` needs to match edits by how far they move the model, whatever they move it to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neva_tl.editing import DosePoint, Edit
from neva_tl.evaluation.conditions.capability import Reference, neutral_table, reference
from neva_tl.models import Model


def kl_metric(model: Model, texts: Sequence[str] | Reference) -> Callable[[Edit], DosePoint]:
    """A metric for `calibrate`: mean KL(unedited || edited) of the next token, in nats per token, on validation texts.

    All tokens of the texts count as generated for token scopes. No text is written, so no dose is inadmissible by it.

    Args:
        model: a TransformerLens model.
        texts: validation prompts or neutral texts, or their `reference`; the unedited model is run on them once.

    Returns:
        Edit -> `DosePoint` whose gain is the KL; `extra` has `loss`, the mean loss of the texts (nats per token).

    Raises:
        InputError: no texts, or one with fewer than two tokens.
    """
    base = texts if isinstance(texts, Reference) else reference(model, texts)

    def metric(edit: Edit) -> DosePoint:
        table = neutral_table(model, edit, base)
        tokens = float(table["tokens"].sum())
        return DosePoint(float(table["kl"].sum()) / tokens, extra={"loss": float(table["loss"].sum()) / tokens})

    return metric
