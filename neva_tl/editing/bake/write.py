"""bake(): write a plain Hugging Face checkpoint that computes what a model computes under an edit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.content_hash import content_hash
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, check_output_folder, read_json, to_json
from neva_tl.editing.bake.check import N_FIXED, Check, check_folder, token_rows
from neva_tl.editing.bake.fold import Folded, fold, obstacle
from neva_tl.editing.bake.nearest import difference_of, nearest_edits, refusal
from neva_tl.editing.bake.places import Target, find_target, output_projections
from neva_tl.editing.bake.readme import readme
from neva_tl.editing.bake.source import Checkpoint, read_checkpoint
from neva_tl.editing.bake.weights import baked_model
from neva_tl.editing.base import Edit, as_edits
from neva_tl.models.quiet import quiet
from neva_tl.models.weight_hash import hash_tokenizer
from neva_tl.prompts import neutral_texts

#: File of a baked checkpoint that says what it is; other programs ignore it.
FACTS = "neva_tl_bake.json"
#: Number of neutral texts on which differences are measured.
N_TEXTS = 8


@check_arguments
def bake(
    model: Any,
    edit: Edit | Sequence[Edit] | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    nearest: bool = False,
    extra_layers: bool = False,
    dtype: str = "auto",
    tokenizer: Any = None,
    texts: Sequence[str] | None = None,
) -> Path:
    """Write the edited model as a plain Hugging Face checkpoint that needs no code of neva_tl.

    Steps (`Shift`, `Amplify`, composed shifts, vectors) become biases of the MLP's output projection, `W_out @ step`; factors
    (`Scale`, `Rescale`, `Ablate`) go into its columns. Several edits fold in their order. The written folder is loaded again by
    transformers, and its logits must equal those of the model with hooks; else nothing is left behind.

    Args:
        model: A name or folder as `nv.load` takes it, a transformers model, or a model of `nv.load` (TransformerLens 4).
        edit: The edit, several in their order, or the folder of a saved edit.
        folder: The new folder. One that exists must be empty, or hold the same baked edit, which is then replaced.
        nearest: Bake the nearest edit that weights can hold, where they cannot hold this one (a scope, a gate, a bound); the
            README records the measured difference.
        extra_layers: Where the architecture has no place for a bias (Qwen 3, Gemma), add one layer after each edited one that
            holds the step. Time and cache grow in proportion.
        dtype: Number format of the weights; `auto` keeps that of the checkpoint, or of the transformers model.
        tokenizer: Tokenizer to write; None takes the model's, where it is known.
        texts: Texts for the measured differences; None takes neutral texts of neva_tl.

    Returns:
        The folder: weights (safetensors), config, generation config, tokenizer, and a README.md with the check's figures.

    Raises:
        InputError: The edit or the architecture does not allow it (the message says what does), or the folder is in use.
        WorkError: The written checkpoint differs from the model with hooks.

    Example:
        >>> folder = nv.bake(model, nv.Shift(neurons, dose=2.0), "kind-model")
        >>> from transformers import AutoModelForCausalLM
        >>> type(AutoModelForCausalLM.from_pretrained(folder)).__name__
        'LlamaForCausalLM'
    """
    folder = Path(folder)
    check_output_folder(folder)
    _refuse_other(folder, None)
    edits, recorded = _edits_of(edit)
    source = read_checkpoint(model, edits, str(recorded.get("dtype", "")))
    tokenizer = source.tokenizer if tokenizer is None else tokenizer
    hf = source.hf
    plain = models.plain(hf)
    _check_recorded(recorded, plain, tokenizer)
    weights = _dtype(dtype, source)
    rows = token_rows(hf, tokenizer, neutral_texts("validation")[:N_TEXTS] if texts is None else texts)
    neutral = rows[N_FIXED:] or rows
    was_training = hf.training
    hf.eval()
    try:
        baked, kl = edits, None
        if any(map(obstacle, edits)):
            if not nearest:
                raise InputError(refusal(hf, edits, neutral))
            baked = nearest_edits(hf, edits, neutral)
            kl = difference_of(hf, edits, baked, neutral)
        projections = output_projections(plain)
        folded = fold(baked, plain)
        target = _target(hf, projections, folded, extra_layers)
        request = _request(plain, baked, weights, target)
        _refuse_other(folder, request)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder, recorded=False) as new:
            with quiet():
                baked_model(hf, folded, target, projections, weights).save_pretrained(new)
                if tokenizer is not None:
                    tokenizer.save_pretrained(new)
            check = check_folder(new, hf, baked, rows, weights)
            text = readme(source.name, baked, edits, check, target.note, _name(weights), kl)
            (new / "README.md").write_text(text, encoding="utf-8")
            (new / FACTS).write_text(json.dumps(_facts(request, source, baked, check, kl), indent=1), encoding="utf-8")
            _make_way(folder)
    finally:
        hf.train(was_training)
    return folder


def _edits_of(edit: Any) -> tuple[tuple[Edit, ...], Mapping[str, Any]]:
    """The edits, and the model that a saved one recorded."""
    recorded: Mapping[str, Any] = {}
    if isinstance(edit, str | os.PathLike):
        from neva_tl.editing.saved import load_edit

        saved = load_edit(Path(edit))
        edit, recorded = saved.edit, saved.model
    edits = as_edits(edit)
    if not edits:
        raise InputError("nothing to bake: name at least one edit")
    return edits, recorded


def _check_recorded(recorded: Mapping[str, Any], plain: models.PlainModel, tokenizer: Any) -> None:
    """Refuse a saved edit of another model."""
    if not recorded:
        return
    current = models.fingerprint_for(recorded, plain, "the saved edit")
    if tokenizer is not None:
        current |= {"tokenizer_hash": hash_tokenizer(tokenizer)}
    if difference := models.fingerprint_difference(recorded, current):
        raise InputError(
            f"the saved edit was made for {recorded.get('name', 'another model')} ({difference}): name that model, or "
            "steer this one"
        )


def _dtype(dtype: str, source: Checkpoint) -> torch.dtype:
    if dtype == "auto":
        return source.dtype
    kind = getattr(torch, dtype, None)
    if kind not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise InputError(f"unknown dtype {dtype!r}: choose auto, float32, bfloat16, float16 or float64")
    return kind


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _target(hf: Any, projections: Sequence[str], folded: Folded, extra_layers: bool) -> Target:
    return find_target(hf, projections, folded.shifted, folded.pushed, extra_layers=extra_layers)


def _request(plain: models.PlainModel, edits: Sequence[Edit], dtype: torch.dtype, target: Target) -> dict[str, Any]:
    """What makes two baked checkpoints the same."""
    return {
        "edit": content_hash(list(edits)),
        "weights_hash": plain.facts.fingerprint["weights_hash"],
        "dtype": _name(dtype),
        "extra_layers": list(target.inserted),
    }


def _facts(
    request: Mapping[str, Any], source: Checkpoint, edits: Sequence[Edit], check: Check, kl: float | None
) -> dict[str, Any]:
    facts = {"kind": "baked checkpoint", "schema": 1, "request": request, "model": source.name}
    return to_json({**facts, "edits": [repr(item) for item in edits], "check": vars(check), "nearest_kl": kl})


def _refuse_other(folder: Path, request: Mapping[str, Any] | None) -> None:
    """Refuse a folder with content, unless it is the same baked edit of the same model.

    Args:
        folder: The folder.
        request: The edit and the model; None accepts any baked checkpoint, before they are known.

    Raises:
        InputError: The folder holds something else.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if (folder / FACTS).is_file():
        present = read_json(folder / FACTS, "a baked checkpoint").get("request")
        if request is None or present == request:
            return
    raise InputError(f"{folder} is not empty and does not hold this baked edit: name a new folder, or remove it first")


def _make_way(folder: Path) -> None:
    """Remove the folder that is replaced; the new one is complete and takes its place at once."""
    if folder.exists():
        shutil.rmtree(folder)
