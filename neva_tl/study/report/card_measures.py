"""Measures of a card (see `neva_tl.editing.readme`) from the records of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Name of a measure on a card, by kind and name.
NAMES = {
    ("capability", "perplexity"): "perplexity of neutral text",
    ("capability", "accuracy"): "accuracy on the demo's questions",
    ("capability", "kl"): "KL(unedited, edited) on neutral text, nats per token",
    ("capability", "loss"): "rise of the loss on neutral text, nats per token",
    ("fluency", "perplexity"): "perplexity of generated texts, under the unedited model",
    ("fluency", "repetition"): "repetition in generated texts",
    ("fluency", "words"): "words per generated text",
    ("fluency", "meaning"): "meaning kept by a rewritten answer",
}
#: Measures of a difference, which the unedited model lacks.
DIFFERENCES = ("kl", "loss")
INVALID = "degenerate generated texts"


def cost_rows(
    base: Mapping[str, Any], edited: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return capability and fluency before and after an edit.

    Args:
        base: Record of the unedited model: `capability`, `fluency`, `invalid`.
        edited: Record of the edit, of the same kind.
        further: Estimates of differences (`DIFFERENCES`), which replace numbers without an interval.

    Returns:
        Rows `name, unedited, edited, share`; `share` tells that the number is one.
    """
    differences = dict(further or {})
    rows = []
    for kind in ("capability", "fluency"):
        before, after = (record.get(kind) or {} for record in (base, edited))
        for name in sorted(set(after) - set(differences) - {"invalid"}):
            unedited = None if name in DIFFERENCES else before.get(name)
            rows.append(_row(kind, name, unedited, after[name]))
    rows += [_row("capability", name, None, estimate) for name, estimate in differences.items()]
    rows.append({"name": INVALID, "unedited": base.get("invalid"), "edited": edited.get("invalid"), "share": True})
    return rows


def _row(kind: str, name: str, unedited: Any, edited: Any) -> dict[str, Any]:
    return {"name": NAMES.get((kind, name), name), "unedited": unedited, "edited": edited, "share": name == "accuracy"}
