"""save_pretrained(), from_pretrained() of edits, as users of transformers expect them; thin over save_edit and load_edit."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from neva_tl.core.errors import InputError

T = TypeVar("T", bound="Pretrained")


def _saved() -> Any:
    # `saved` knows every class of edits, and so lies above their base
    return importlib.import_module("neva_tl.editing.saved")


class Pretrained:
    """The two calls of an edit."""

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        model: Any = None,
        name: str = "",
        about: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the edit to a folder, with its card; see `nv.save_edit`.

        Args:
            save_directory: The folder; created when missing.
            model: The edit's model, whose fingerprint is stored.
            name: See `nv.save_edit`.
            about: See `nv.save_edit`.
            origin: See `nv.save_edit`.

        Returns:
            The folder.

        Raises:
            InputError: See `nv.save_edit`.

        Example:
            >>> folder = edit.save_pretrained("kindness", model=model)
            >>> sorted(file.name for file in folder.iterdir())
            ['README.md', 'edit.json', 'edit.safetensors']
        """
        folder: Path = _saved().save_edit(self, save_directory, model=model, name=name, about=about, origin=origin)
        return folder

    @classmethod
    def from_pretrained(
        cls: type[T],
        pretrained_model_name_or_path: str | Path,
        *,
        model: Any = None,
        allow_mismatch: bool = False,
    ) -> T:
        """Read an edit from a folder; nothing is fetched from a hub. See `nv.load_edit`.

        Args:
            pretrained_model_name_or_path: The folder.
            model: The model that it will edit.
            allow_mismatch: Accept another model than the edit's own, with a warning.

        Returns:
            The edit.

        Raises:
            InputError: See `nv.load_edit`; or the folder holds an edit of another class than this one.

        Example:
            >>> folder = edit.save_pretrained("kindness", model=model)
            >>> type(nv.editing.Edit.from_pretrained(folder, model=model)).__name__
            'Shift'
        """
        saved = _saved().load_edit(pretrained_model_name_or_path, model=model, allow_mismatch=allow_mismatch)
        if not isinstance(saved.edit, cls):
            kind = type(saved.edit).__name__
            raise InputError(
                f"{pretrained_model_name_or_path} holds an edit of class {kind}, not {cls.__name__}: use "
                f"{kind}.from_pretrained, or nv.load_edit"
            )
        return saved.edit
