"""export_edit(): an edit as files of another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Edit, as_edits
from neva_tl.editing.export.target import ExportTarget
from neva_tl.editing.hf import refuse_prompt_edit

Format = Literal["torch", "gguf"]
FORMATS: tuple[str, ...] = get_args(Format)


@check_arguments
def export_edit(edit: Edit | Sequence[Edit], path: str | Path, *, model: Any, format: Format = "torch") -> Path:
    """Write an edit for use without neva_tl, at its present dose.

    - `torch`: a folder with `steer.py` and `steer.safetensors`, for any edit of activations, with scope, gate and pace:
      `from steer import attach; handle = attach(hf_model)` needs torch, safetensors and transformers alone.
    - `gguf`: a control vector `NAME.gguf` for llama.cpp, for edits that are constant (Shift, compose, AddVector), of scope
      `all` and without gate. It is added to the residual stream after each block, from layer 1 on.

    Args:
        edit: The edit, or several, which act one after the other.
        path: The folder (`torch`) or the file (`gguf`); missing folders are created, existing files replaced.
        model: The edit's model: of `neva_tl.load`, or the transformers model.
        format: `torch` or `gguf`.

    Returns:
        The path.

    Raises:
        InputError: The format cannot hold the edit, the edit does not fit the model, or the files cannot be written.

    Example:
        >>> folder = nv.export_edit(edit, "exported", model=model)
        >>> sorted(file.name for file in folder.iterdir())
        ['steer.py', 'steer.safetensors']
        >>> nv.export_edit(edit.with_scope("all"), "kindness.gguf", model=model, format="gguf").name
        'kindness.gguf'
    """
    edits = as_edits(edit)
    if not edits:
        raise InputError("nothing to export: name at least one edit")
    for item in edits:
        refuse_prompt_edit(item)
    target = ExportTarget.of(model)
    if format == "gguf":
        from neva_tl.editing.export.control_vector import write_control_vector

        return write_control_vector(edits, Path(path), target)
    from neva_tl.editing.export.torch_files import write_torch

    return write_torch(edits, Path(path), target)
