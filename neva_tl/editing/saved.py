"""save_edit(), load_edit(): edits as folders of JSON and safetensors, without pickle.

A folder holds `edit.json` (class, dose, scope, neurons' names, the model's fingerprint, the edit's origin), `edit.safetensors`
(all arrays) and `README.md` (the card). `edit.json` is written last and contains the hash of the arrays and of itself, so that
a killed write leaves no folder that loads, and a changed file is noticed.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save as tensor_bytes

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.files import DAMAGED, atomic_write, first_line, read_json, read_tensors, to_json, writing_into
from neva_tl.editing.base import Edit
from neva_tl.editing.encoded import Encoder, restore
from neva_tl.editing.origin import origin_of
from neva_tl.editing.readme import write_readme
from neva_tl.editing.rebinding import accepted_on
from neva_tl.models.sources import is_demo, local_folder

#: Version of the format. Schema 1 (before 0.2) has neither `origin` nor `sha256`, and is read.
SCHEMA = 2
SCHEMAS = (1, SCHEMA)
FILE, ARRAYS = "edit.json", "edit.safetensors"
_KIND = "an edit saved by neva_tl"


@dataclass(frozen=True, eq=False)
class SavedEdit:
    """An edit with the facts that its folder records.

    Attributes:
        edit: The edit at its saved dose.
        model: Facts of its model: `name` (as passed to `neva_tl.load`), `folder` (its absolute path, for local models) and
            the fields of `models.fingerprint`.
        about: Further facts of the writer (value, method, results); plain data.
        origin: Site, theory, prompt hash, seed, gate, neuron sets with their selector's settings, versions; empty in folders of
            schema 1.

    Example:
        >>> saved = nv.load_edit(nv.save_edit(edit, "kindness", model=model))
        >>> saved.origin["site"], saved.origin["neurons"][0]["selector"]
        (['post'], 'neva')
    """

    edit: Edit
    model: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def difference(self, model: models.EditableModel, what: str = "the edit") -> str:
        """Describe how a model differs from the edit's own; empty for the same weights, also in another dtype.

        Args:
            model: The model.
            what: The edit, for the note about another dtype.
        """
        current = models.fingerprint_for(self.model, model, what)
        return models.fingerprint_difference(self.model, current)

    def check_model(self, model: models.EditableModel, folder: str | Path) -> None:
        """Refuse another model than the edit's own.

        Args:
            model: The model.
            folder: Folder of the edit, for the message.

        Raises:
            InputError: The fingerprints differ, or the edit records none.
        """
        if difference := self.difference(model, f"the edit in {folder}"):
            raise InputError(
                f"the edit in {folder} was made for {self.model.get('name', 'another model')} ({difference}): load that "
                "model, or steer this one"
            )

    def for_model(
        self, model: models.EditableModel, folder: str | Path = "this object", *, allow_mismatch: bool = False
    ) -> SavedEdit:
        """Return the edit for a model.

        Args:
            model: The model.
            folder: Folder of the edit, for messages.
            allow_mismatch: Accept a model that is not the edit's own, with a warning that names the difference. Neurons of
                another model mean something else there: what was measured of the edit does not hold.

        Raises:
            InputError: The model is another one and `allow_mismatch` is false, or its sizes do not fit.

        Warns:
            UserWarning: The model is another one, and `allow_mismatch` is true.
        """
        if not self.model:
            return self
        if not allow_mismatch:
            self.check_model(model, folder)
            return self
        difference = self.difference(model, f"the edit in {folder}")
        if not difference:
            return self
        try:
            edit = accepted_on(self.edit, model)
        except InputError as error:
            raise InputError(f"the edit in {folder} does not fit this model, whatever is allowed: {error}") from error
        warnings.warn(
            f"the edit in {folder} was made for {self.model.get('name', 'another model')} ({difference}); allow_mismatch "
            "takes it all the same, and nothing that was measured of it holds here",
            UserWarning,
            stacklevel=3,
        )
        return replace(self, edit=edit)

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Write the edit and its facts to a folder, as transformers' models do.

        Args:
            save_directory: The folder; created when missing.

        Returns:
            The folder.

        Example:
            >>> saved = nv.load_edit(nv.save_edit(edit, "kindness", model=model))
            >>> nv.load_edit(saved.save_pretrained("copy")).model["name"]
            'demo'
        """
        return _write(self, save_directory)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        model: models.EditableModel | None = None,
        allow_mismatch: bool = False,
    ) -> SavedEdit:
        """Read an edit from a folder, as transformers' models are read; see `load_edit`.

        Args:
            pretrained_model_name_or_path: The folder; nothing is fetched from a hub.
            model: See `load_edit`.
            allow_mismatch: See `load_edit`.
        """
        return load_edit(pretrained_model_name_or_path, model=model, allow_mismatch=allow_mismatch)


def save_edit(
    edit: Edit,
    folder: str | Path,
    *,
    model: models.EditableModel | None = None,
    name: str = "",
    about: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Write an edit to a folder, with its card.

    Args:
        edit: The edit.
        folder: The folder; created when missing. An edit in it is replaced; a `README.md` of another hand stays.
        model: The edit's model; its fingerprint is stored and checked by `load_edit`.
        name: Name of the model as `neva_tl.load` takes it; empty takes the model's own.
        about: Further facts to store; plain data. The card shows `value`, `method` and `measures` (see `editing.readme`).
        origin: Facts that the edit does not hold itself: `prompt_hash`, `prompts`, `seed`, `theory`, `selection`, `pooling`.

    Returns:
        The folder.

    Raises:
        InputError: The edit's class is not one of neva_tl's, an array is not finite, or the folder cannot be written.

    Example:
        >>> folder = nv.save_edit(edit, "kindness", model=model, about={"value": "benevolence"})
        >>> nv.load_edit(folder).about["value"]
        'benevolence'
    """
    facts = {} if model is None else _model_facts(model, name)
    return _write(SavedEdit(edit, facts, dict(about or {}), origin_of(edit, origin)), folder)


def load_edit(
    folder: str | Path, *, model: models.EditableModel | None = None, allow_mismatch: bool = False
) -> SavedEdit:
    """Read an edit that `save_edit` wrote.

    Args:
        folder: The folder.
        model: The model that it will edit; None checks nothing (neuron edits check it again when they are put on a model).
        allow_mismatch: Accept another model than the edit's own; see `SavedEdit.for_model`. It needs the model.

    Raises:
        InputError: The folder does not hold an edit, a file is damaged or was changed, or the edit belongs to another model.

    Warns:
        UserWarning: The model is another one, and `allow_mismatch` is true; or it has the same weights in another dtype.

    Example:
        >>> saved = nv.load_edit(nv.save_edit(edit, "kindness", model=model), model=model)
        >>> saved.edit.dose, saved.model["name"]
        (2.0, 'demo')
    """
    if allow_mismatch and model is None:
        raise InputError("allow_mismatch compares the edit with a model: pass model=... too")
    folder = Path(folder)
    data = read_edit_json(folder)
    try:
        content = (folder / ARRAYS).read_bytes() if (folder / ARRAYS).is_file() else None
    except OSError as error:
        raise InputError(f"{folder / ARRAYS} cannot be read ({error.strerror}): save the edit again") from error
    if content is None:
        raise InputError(f"{folder / ARRAYS} does not exist: save the edit again")
    if hashlib.sha256(content).hexdigest() != data.get("arrays"):
        raise InputError(f"{folder / ARRAYS} does not belong to {folder / FILE}: save the edit again")
    arrays = read_tensors(content, folder / ARRAYS, _KIND)
    facts, about, origin = (
        dict(x) if isinstance(x := data.get(name), Mapping) else {} for name in ("model", "about", "origin")
    )
    _check_names(facts, folder)
    try:
        edit = restore(data["edit"], arrays)
    except InputError as error:
        raise InputError(f"{folder / FILE}: {error}") from error
    except DAMAGED as error:
        raise InputError(f"{folder / FILE} is not {_KIND} ({first_line(error)})") from error
    if not isinstance(edit, Edit):
        raise InputError(f"{folder / FILE} holds a {type(edit).__name__}, not an edit")
    saved = SavedEdit(edit, facts, about, origin)
    return saved if model is None else saved.for_model(model, folder, allow_mismatch=allow_mismatch)


def read_edit_json(folder: Path) -> dict[str, Any]:
    """Read and check `edit.json` of a folder, without its arrays.

    Args:
        folder: The folder.

    Raises:
        InputError: The folder does not hold an edit, or the file is damaged, was changed, or is of a newer version.
    """
    if not (folder / FILE).is_file():
        raise InputError(f"{folder} does not hold an edit: it lacks {FILE} (nv.steer(...).save(folder) writes it)")
    data = read_json(folder / FILE, _KIND)
    if data.get("kind") != "edit" or data.get("schema") not in SCHEMAS:
        raise InputError(f"{folder / FILE} is not {_KIND}, or is of a newer version")
    if data["schema"] > 1 and data.get("sha256") != _digest(data):
        raise InputError(f"{folder / FILE} was changed after it was saved: save the edit again (nv.save_edit)")
    return data


def _write(saved: SavedEdit, folder: str | Path) -> Path:
    folder = Path(folder)
    encoder = Encoder()
    described = encoder.describe(saved.edit, type(saved.edit).__name__)
    content = tensor_bytes(encoder.arrays)
    data = {
        "schema": SCHEMA,
        "kind": "edit",
        "edit": described,
        "arrays": hashlib.sha256(content).hexdigest(),
        "model": dict(saved.model),
        "origin": to_json(dict(saved.origin)),
        "about": to_json(dict(saved.about)),
    }
    data["sha256"] = _digest(data)
    text = json.dumps(data, indent=1, allow_nan=False)
    with writing_into(folder, "the edit"):
        write_readme(folder, saved.edit, saved.model, saved.about, saved.origin)
        with atomic_write(folder / ARRAYS) as file:
            file.write_bytes(content)
        with atomic_write(folder / FILE) as file:
            file.write_text(text, encoding="utf-8")
    return folder


def _digest(data: Mapping[str, Any]) -> str:
    """Hash the content of `edit.json` without its own hash, independent of its layout."""
    content = {name: part for name, part in data.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _model_facts(model: models.EditableModel, name: str) -> dict[str, Any]:
    name = name or models.info(model).name
    folder = "" if is_demo(name) else local_folder(name)
    return {"name": name, **({"folder": folder} if folder else {}), **to_json(dict(models.stored_fingerprint(model)))}


def _check_names(facts: Mapping[str, Any], folder: Path) -> None:
    """Refuse names of a model that could not have been written here: they are opened as paths."""
    for key in ("name", "folder"):
        name = facts.get(key, "")
        local = key == "folder" and key in facts
        if (
            not isinstance(name, str)
            or not name.isprintable()
            or (".." in Path(name).parts and (local or "folder" not in facts))
            or (local and not Path(name).is_absolute())
        ):
            raise InputError(f"{folder / FILE} names its model by {str(name)[:60]!a}, which neva_tl does not write")
