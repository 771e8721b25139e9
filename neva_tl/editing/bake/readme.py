"""The README.md of a baked checkpoint: what was baked, how it was checked, how it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neva_tl import __version__
from neva_tl.editing.bake.check import Check
from neva_tl.editing.base import Edit


def readme(
    name: str, edits: Sequence[Edit], requested: Sequence[Edit], check: Check, note: str, dtype: str, kl: float | None
) -> str:
    """The text of the file.

    Args:
        name: The model.
        edits: The baked edits.
        requested: The edits that the caller named, which differ where the nearest ones were baked.
        check: The comparison with the model with hooks.
        note: How the format differs from the model's own.
        dtype: Number format of the weights.
        kl: Mean KL between the requested and the baked edits, in nats per token; None where they are the same.
    """
    lines = [
        f"# {_plain(name)}, edited",
        "",
        "A plain Hugging Face checkpoint: the edit is in the weights, and loading it needs no code of neva_tl.",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")  # this folder',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
        f"- model: {_plain(name)}",
        *[f"- edit: `{_plain(repr(item))}`; {_plain(item.what())}" for item in edits],
        f"- weights: {dtype}{f'; {note}' if note else ''}",
        f"- check: loaded again by transformers, its logits on {check.tokens} tokens differ from those of the model with hooks "
        f"by at most {check.difference:.2g} ({check.relative:.2g} of the largest logit; limit {check.limit:.2g}), mean KL "
        f"{check.kl:.2g} nats per token",
    ]
    if dtype not in ("float32", "float64"):
        lines.append(f"- rounding: the edited weights were rounded to {dtype}; the check's figures are what that costs")
    if kl is not None:
        originals = "; ".join(f"`{_plain(repr(item))}`" for item in requested)
        lines.append(
            f"- nearest edit: requested was {originals}, which weights cannot hold; mean KL {kl:.3g} nats per token between "
            "the two"
        )
    lines += [
        f"- written by neva_tl {__version__} (`nv.bake`)",
        "",
        "The licence is that of the model. Editing the baked model again counts from these weights: neurons and vectors of the "
        "unedited model do not fit it.",
        "",
    ]
    return "\n".join(lines)


def _plain(text: Any) -> str:
    """A text in one line, without marks that end a code span."""
    return " ".join(str(text).replace("`", "'").split())
