"""check_folder(): a written checkpoint, loaded again by transformers, against the model with hooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Edit
from neva_tl.editing.hf import edit_hf
from neva_tl.editing.session import EditSession
from neva_tl.models.checkpoint import refuse_incomplete, trial_tokens
from neva_tl.models.hf_config import text_config
from neva_tl.models.quiet import quiet

#: Largest difference of logits, relative to the largest logit where that exceeds 1, by the number format of weights.
LIMITS = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 0.02, torch.bfloat16: 0.1}
#: Layers up to which the limit of full precision holds; rounding errors of deeper models add up in proportion.
SHALLOW = 8
#: Rows of fixed token ids, which need no tokenizer.
N_FIXED = 2
#: Tokens of each text.
LENGTH = 64


@dataclass(frozen=True)
class Check:
    """Difference between the checkpoint and the model with hooks.

    Attributes:
        difference: Largest difference of logits.
        relative: The same, relative to the largest logit where that exceeds 1.
        kl: Mean KL(hooks || checkpoint) in nats per token.
        tokens: Number of tokens.
        limit: Largest `relative` that passes.
    """

    difference: float
    relative: float
    kl: float
    tokens: int
    limit: float


def token_rows(hf: Any, tokenizer: Any, texts: Sequence[str]) -> list[Int[Tensor, "1 _"]]:
    """Token ids of the texts, at most `LENGTH` each, after two short rows of fixed ids.

    Args:
        hf: The model.
        tokenizer: Its tokenizer; None leaves the texts out.
        texts: The texts.
    """
    device = hf.get_input_embeddings().weight.device
    rows = [row[None] for row in trial_tokens(int(hf.get_input_embeddings().weight.shape[0]), device)]
    for text in texts if tokenizer is not None else ():
        ids = tokenizer(text)["input_ids"][:LENGTH]
        if len(ids) > 1:
            rows.append(torch.tensor([ids], device=device))
    return rows


def logits_of(hf: Any, rows: Sequence[Int[Tensor, "1 _"]], edits: Sequence[Edit] = ()) -> list[Float[Tensor, "_ d"]]:
    """Logits of each row in float32, with some edits in force.

    The second half of each row counts as generated.

    Args:
        hf: The model.
        rows: Token ids.
        edits: The edits.
    """
    with torch.no_grad():
        if not edits:
            return [hf(input_ids=row, use_cache=False).logits[0].float() for row in rows]
        out = []
        with edit_hf(hf, *edits) as session:
            for row in rows:
                mark_second_half(session, row)
                out.append(hf(input_ids=row, use_cache=False).logits[0].float())
        return out


def mark_second_half(session: EditSession, row: Int[Tensor, "1 _"]) -> None:
    """Let the second half of a row count as generated.

    Args:
        session: The session of the edits in force.
        row: Token ids.
    """
    position = torch.arange(row.shape[1], device=row.device)[None]
    session.mark(position >= row.shape[1] // 2, torch.ones_like(row, dtype=torch.bool))


def mean_kl(reference: Sequence[Float[Tensor, "_ d"]], other: Sequence[Float[Tensor, "_ d"]]) -> float:
    """Mean KL(reference || other) in nats per token.

    Args:
        reference: Logits of each row.
        other: The same of the other model.
    """
    total, n = 0.0, 0
    for x, y in zip(reference, other, strict=True):
        p, q = torch.log_softmax(x.double(), dim=-1), torch.log_softmax(y.double(), dim=-1)
        total += float((p.exp() * (p - q)).sum())
        n += len(x)
    return max(total / n, 0.0)


def check_folder(
    folder: Path, hf: Any, edits: Sequence[Edit], rows: Sequence[Int[Tensor, "1 _"]], dtype: torch.dtype
) -> Check:
    """Load a written checkpoint and compare its logits with those of the model with hooks.

    Args:
        folder: The checkpoint.
        hf: The model.
        edits: The edits.
        rows: Token ids, see `token_rows`.
        dtype: Number format of the written weights; they are run in the model's.

    Raises:
        WorkError: The checkpoint does not load completely, or the logits differ by more than the limit.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": hf.dtype, "trust_remote_code": False, "output_loading_info": True}
    if attention := getattr(hf.config, "_attn_implementation", None):
        options["attn_implementation"] = attention
    with quiet():
        model, report = AutoModelForCausalLM.from_pretrained(folder, **options)
    try:
        refuse_incomplete("the baked checkpoint", report, model.config)
    except InputError as error:
        raise WorkError(f"baking failed and left nothing behind: {error}") from error
    if getattr(hf, "hf_device_map", None) is None:
        model = model.to(hf.device)
    reference, baked = logits_of(hf, rows, edits), logits_of(model.eval(), rows)
    # NaN and infinities must not pass the comparison below
    if not all(bool(torch.isfinite(x).all()) for x in (*reference, *baked)):
        raise WorkError(
            "baking failed and left nothing behind: the edited model's logits are not finite; lower the dose"
        )
    difference = max(float((x - y).abs().max()) for x, y in zip(reference, baked, strict=True))
    relative = difference / max(1.0, *(float(x.abs().max()) for x in reference))
    full = dtype in (torch.float32, torch.float64) and hf.dtype in (torch.float32, torch.float64)
    depth = max(1.0, text_config(hf.config).num_hidden_layers / SHALLOW) if full else 1.0
    limit = max(LIMITS.get(x, 0.1) for x in (dtype, hf.dtype)) * depth
    if relative > limit:
        raise WorkError(
            f"baking failed and left nothing behind: logits of the checkpoint differ from those of the model with hooks by "
            f"{relative:.2g} of the largest (at most {limit:.2g}): use nv.attach(model, edit), and report the architecture "
            f"({type(hf).__name__})"
        )
    return Check(difference, relative, mean_kl(reference, baked), sum(len(x) for x in reference), limit)
