"""The model of a saved edit, found again by the name or the folder that the edit recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing.saved import SavedEdit


def model_of_edit(
    folder: str | Path,
    saved: SavedEdit,
    name: str | None = None,
    dtype: str | None = None,
    matmul: str = "float32",
    *,
    allow_mismatch: bool = False,
) -> Any:
    """Load the model of a saved edit and check that it is the same one, where the edit recorded it.

    Args:
        folder: Folder of the edit, for messages.
        saved: The edit.
        name: Name or folder of the model; None takes the recorded one.
        dtype: Number format; None takes the recorded one, else float32.
        matmul: `bf16` for matrix products in bfloat16; without a dtype `float32` takes the recorded precision.
        allow_mismatch: Return another model too; the caller takes the edit with `SavedEdit.for_model`.

    Raises:
        InputError: The edit records no model, the model cannot be found, or it is another one.
    """
    recorded = saved.model.get("folder") or saved.model.get("name")
    if name is None and not recorded:
        raise InputError(f"{folder} does not say which model it edits: name it with --model")
    if name is None and "folder" in saved.model and not Path(str(recorded)).exists():
        raise InputError(f"the model of {folder} is no longer at {recorded}: name it with --model")
    if dtype is None:
        dtype, matmul = str(saved.model.get("dtype", "float32")), str(saved.model.get("matmul", matmul))
    model = models.load(name or str(recorded), dtype=dtype, matmul=matmul)  # type: ignore[arg-type]
    # an edit saved without its model records nothing to compare: a model named by the user is taken
    if saved.model and not allow_mismatch:
        saved.check_model(model, folder)
    return model
