"""The same weights in another number format: artefacts made in one dtype are accepted in another.

The weights rounded to bfloat16 are the same whether a checkpoint was loaded in float32, in bfloat16, or in float16 without
loss. `stored_fingerprint` adds the hashes of the rounded weights; a model in bfloat16 has them as its own hashes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from neva_tl.models.facts import MEMO, EditableModel, fingerprint, rounded_key
from neva_tl.models.hf_model import PlainModel
from neva_tl.models.identity import other_weights
from neva_tl.models.types import Model
from neva_tl.models.weight_hash import hash_weights

#: Artefacts that were noted in this process.
_NOTED: set[tuple[str, str]] = set()


def stored_fingerprint(model: EditableModel) -> dict[str, Any]:
    """Return a model's fingerprint for an artefact that models of the same weights in another dtype shall accept.

    Args:
        model: A TransformerLens model.

    Returns:
        `fingerprint(model)`; for dtypes other than bfloat16 also `rounded`: the hashes of the weights rounded to bfloat16
        (`weights_hash`, `other_weights`). They take half the time of the fingerprint, once per model.

    Example:
        >>> sorted(set(nv.models.stored_fingerprint(model)) - set(nv.fingerprint(model)))
        ['rounded']
    """
    record = fingerprint(model)
    if record["dtype"] == "bfloat16" or isinstance(model, PlainModel):
        return record
    return {**record, "rounded": dict(_rounded_weights(model))}


def fingerprint_for(stored: Mapping[str, Any], model: EditableModel, what: str) -> dict[str, Any]:
    """Return a model's fingerprint for the comparison with an artefact's.

    Where the artefact was made with the same weights in another dtype, the fingerprint is given in that dtype, and a
    warning says so, once per artefact: activations in the two dtypes differ by rounding. A transformers model brings no
    tokenizer, so the comparison leaves it out.

    Args:
        stored: Fingerprint of the artefact.
        model: The model.
        what: The artefact, for the warning.

    Example:
        >>> stored = nv.models.stored_fingerprint(model)
        >>> nv.models.fingerprint_for(stored, model, "the neurons") == nv.fingerprint(model)
        True
    """
    current = fingerprint(model)
    if isinstance(model, PlainModel):
        del current["tokenizer_hash"]
    if stored.get("weights_hash") == current["weights_hash"]:
        return _with_matmul(current, stored)
    dtype = stored.get("dtype", current["dtype"])
    if dtype == current["dtype"] or not stored.get("weights_hash") or not _same_rounded(stored, current, model):
        return current
    if (what, current["dtype"]) not in _NOTED:
        _NOTED.add((what, current["dtype"]))
        warnings.warn(
            f"{what} was made in {dtype}, and this model is in {current['dtype']}: the weights are the same, activations "
            "differ by rounding",
            UserWarning,
            stacklevel=3,
        )
    function = {**current["function"], "other_weights": _function(stored).get("other_weights", "")}
    same = {**current, "dtype": dtype, "weights_hash": stored["weights_hash"], "function": function}
    return _with_matmul(same, stored)


def _with_matmul(current: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint with the other's precision of matrix products, which changes activations by rounding."""
    matmul = {"matmul": stored["matmul"]} if "matmul" in stored else {}
    return {**{name: fact for name, fact in current.items() if name != "matmul"}, **matmul}


def _rounded_weights(model: Model) -> dict[str, str]:
    half = torch.bfloat16
    return MEMO.get(
        model,
        rounded_key(model),
        lambda: {"weights_hash": hash_weights(model, half), "other_weights": other_weights(model, half)},
    )


def _same_rounded(stored: Mapping[str, Any], current: Mapping[str, Any], model: EditableModel) -> bool:
    """Whether the weights behind two fingerprints of different dtypes are the same when rounded to bfloat16."""
    before, now = _rounded(stored), _rounded(current)
    if before is None:  # made by an earlier version, in another dtype than bfloat16
        return False
    if now is None and not isinstance(model, PlainModel):
        now = _rounded_weights(model)
    if now is None or before["weights_hash"] != now["weights_hash"]:
        return False
    further = [str(side.get("other_weights", "")) for side in (before, now)]
    # the two layouts name further weights differently, and cannot be compared
    return further[0] == further[1] or len({text[:3] for text in further if text}) == 2


def _rounded(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Hashes of the rounded weights, where the fingerprint has them."""
    if record.get("dtype") == "bfloat16":
        return {"weights_hash": record["weights_hash"], "other_weights": _function(record).get("other_weights", "")}
    rounded = record.get("rounded")
    return rounded if isinstance(rounded, Mapping) and "weights_hash" in rounded else None


def _function(record: Mapping[str, Any]) -> Mapping[str, Any]:
    function = record.get("function")
    return function if isinstance(function, Mapping) else {}
