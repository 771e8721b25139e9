"""save_edit(), load_edit(): edits as folders of JSON and safetensors, without pickle.

A folder holds `edit.json` (class, dose, scope, neurons' names, the model's fingerprint) and `edit.safetensors` (all arrays).
The JSON is written last and contains the hash of the arrays, so that a killed write leaves no folder that loads.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save as tensor_bytes

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, first_line, read_json, read_tensors, to_json
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.base import Edit
from neva_tl.editing.edits.ablate import Ablate
from neva_tl.editing.edits.clamp import Clamp
from neva_tl.editing.edits.compose import Composed
from neva_tl.editing.edits.context import ContextAware
from neva_tl.editing.edits.gate_shift import GateShift
from neva_tl.editing.edits.paced import Paced
from neva_tl.editing.edits.probe import LayerProbe
from neva_tl.editing.edits.prompt import RolePrompt
from neva_tl.editing.edits.prompt_shift import PromptShift
from neva_tl.editing.edits.rescale import Rescale
from neva_tl.editing.edits.rewriting import RewriteAnswer
from neva_tl.editing.edits.scale import Scale
from neva_tl.editing.edits.shift import Shift
from neva_tl.editing.edits.vector import AddVector, ProbedVector
from neva_tl.editing.gate import RelevanceGate
from neva_tl.models.sources import is_demo, local_folder

SCHEMA = 1
FILE, ARRAYS = "edit.json", "edit.safetensors"
_KIND = "an edit saved by neva_tl"

#: The only classes that a file may name.
CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Ablate, AddVector, Clamp, Composed, ContextAware, GateShift, LayerProbe, NeuronSet, Paced, ProbedVector, PromptShift,
        RelevanceGate, Rescale, RewriteAnswer, RolePrompt, Scale, Shift,
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class SavedEdit:
    """An edit with the facts that its folder records.

    Attributes:
        edit: The edit at its saved dose.
        model: Facts of its model: `name` (as passed to `neva_tl.load`), `folder` (its absolute path, for local models) and
            the fields of `models.fingerprint`.
        about: Further facts of the writer (value, method, results); plain data.
    """

    edit: Edit
    model: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def check_model(self, model: models.Model, folder: str | Path) -> None:
        """Refuse another model than the edit's own.

        Args:
            model: The model.
            folder: Folder of the edit, for the message.

        Raises:
            InputError: The fingerprints differ, or the edit records none.
        """
        current = models.fingerprint_for(self.model, model, f"the edit in {folder}")
        if difference := models.fingerprint_difference(self.model, current):
            raise InputError(
                f"the edit in {folder} was made for {self.model.get('name', 'another model')} ({difference}): load that "
                "model, or steer this one"
            )


def save_edit(
    edit: Edit,
    folder: str | Path,
    *,
    model: models.Model | None = None,
    name: str = "",
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write an edit to a folder.

    Args:
        edit: The edit.
        folder: The folder; created when missing. An edit in it is replaced.
        model: The edit's model; its fingerprint is stored and checked by `load_edit`.
        name: Name of the model as `neva_tl.load` takes it; empty takes the model's own.
        about: Further facts to store; plain data.

    Returns:
        The folder.

    Raises:
        InputError: The edit's class is not one of neva_tl's, or the folder cannot be written.

    Example:
        >>> folder = nv.save_edit(edit, "kindness", model=model, about={"value": "benevolence"})
        >>> nv.load_edit(folder).about["value"]
        'benevolence'
    """
    folder = Path(folder)
    writer = _Writer()
    described = writer.describe(edit, type(edit).__name__)
    content = tensor_bytes(writer.arrays)
    data = {
        "schema": SCHEMA,
        "kind": "edit",
        "edit": described,
        "arrays": hashlib.sha256(content).hexdigest(),
        "model": {} if model is None else _model_facts(model, name),
        "about": to_json(dict(about or {})),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / ARRAYS) as file:
            file.write_bytes(content)
        with atomic_write(folder / FILE) as file:
            file.write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the edit to {folder} ({error.strerror}): choose another folder") from error
    return folder


def load_edit(folder: str | Path, *, model: models.Model | None = None) -> SavedEdit:
    """Read an edit that `save_edit` wrote.

    Args:
        folder: The folder.
        model: The model that it will edit; None checks nothing (neuron edits check it again when they are put on a model).

    Raises:
        InputError: The folder does not hold an edit, a file is damaged, or the edit belongs to another model.

    Example:
        >>> saved = nv.load_edit(nv.save_edit(edit, "kindness", model=model), model=model)
        >>> saved.edit.dose, saved.model["name"]
        (2.0, 'demo')
    """
    folder = Path(folder)
    if not (folder / FILE).is_file():
        raise InputError(f"{folder} does not hold an edit: it lacks {FILE} (nv.steer(...).save(folder) writes it)")
    data = read_json(folder / FILE, _KIND)
    if data.get("kind") != "edit" or data.get("schema") != SCHEMA:
        raise InputError(f"{folder / FILE} is not {_KIND}, or is of a newer version")
    try:
        content = (folder / ARRAYS).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / ARRAYS} cannot be read ({error.strerror}): save the edit again") from error
    if hashlib.sha256(content).hexdigest() != data.get("arrays"):
        raise InputError(f"{folder / ARRAYS} does not belong to {folder / FILE}: save the edit again")
    facts, about = (dict(x) if isinstance(x := data.get(name), Mapping) else {} for name in ("model", "about"))
    arrays = read_tensors(content, folder / ARRAYS, _KIND)
    try:
        edit = _restore(data["edit"], arrays)
    except InputError as error:
        raise InputError(f"{folder / FILE}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / FILE} is not {_KIND} ({first_line(error)})") from error
    if not isinstance(edit, Edit):
        raise InputError(f"{folder / FILE} holds a {type(edit).__name__}, not an edit")
    saved = SavedEdit(edit, facts, about)
    if model is not None and facts:
        saved.check_model(model, folder)
    return saved


def _model_facts(model: models.Model, name: str) -> dict[str, Any]:
    name = name or models.info(model).name
    folder = "" if is_demo(name) else local_folder(name)
    return {"name": name, **({"folder": folder} if folder else {}), **to_json(dict(models.stored_fingerprint(model)))}


class _Writer:
    """Describes objects as plain data; arrays go to a table by number."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def describe(self, thing: Any, where: str) -> Any:
        """Plain data of an object."""
        if thing is None or isinstance(thing, bool | str):
            return thing
        if isinstance(thing, int | np.integer):
            return int(thing)
        if isinstance(thing, float | np.floating):
            return float(thing) if math.isfinite(thing) else {"float": str(float(thing))}
        if isinstance(thing, np.ndarray | torch.Tensor):
            return {"array": self._stored(thing)}
        if isinstance(thing, pd.DataFrame):
            return {"table": [[str(name), self._column(column)] for name, column in thing.items()]}
        if isinstance(thing, list | tuple):
            return {"list": [self.describe(x, f"{where}[{i}]") for i, x in enumerate(thing)]}
        if isinstance(thing, Mapping):
            return {"map": [[self.describe(k, where), self.describe(v, f"{where}[{k!r}]")] for k, v in thing.items()]}
        name = type(thing).__name__
        if is_dataclass(thing) and CLASSES.get(name) is type(thing):
            state = {
                item.name: self.describe(getattr(thing, item.name), f"{where}.{item.name}") for item in fields(thing)
            }
            return {"class": name, "fields": state}
        raise InputError(f"{where} is a {name}: only edits of neva_tl can be saved ({', '.join(CLASSES)})")

    def _stored(self, array: np.ndarray | torch.Tensor) -> str:
        key = f"a{len(self.arrays)}"
        on_cpu = array.detach().cpu().float().numpy() if isinstance(array, torch.Tensor) else array
        self.arrays[key] = np.ascontiguousarray(on_cpu)
        return key

    def _column(self, column: pd.Series) -> Any:
        if column.dtype.kind in "iufb":
            return {"array": self._stored(column.to_numpy())}
        return {"list": [None if pd.isna(x) else self.describe(x, str(column.name)) for x in column]}


def _restore(data: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The object that `_Writer.describe` described."""
    if data is None or isinstance(data, bool | str | int | float):
        return data
    if "float" in data:
        return float(data["float"])
    if "array" in data:
        return arrays[data["array"]]
    if "table" in data:
        return pd.DataFrame({name: _restore(column, arrays) for name, column in data["table"]})
    if "list" in data:
        return [_restore(x, arrays) for x in data["list"]]
    if "map" in data:
        return {_restore(k, arrays): _restore(v, arrays) for k, v in data["map"]}
    kind = CLASSES.get(data["class"])
    if kind is None:
        raise InputError(f"{data['class']!r} is not a class of edits that neva_tl knows")
    return kind(**{item.name: _field(item, _restore(data["fields"][item.name], arrays)) for item in fields(kind)})


def _field(item: Field[Any], value: Any) -> Any:
    """The value of a field: JSON has one kind of list, and a file may hold anything.

    Raises:
        InputError: The field holds another class than its own.
    """
    declared = str(item.type)
    entries = value if isinstance(value, list) else [value]
    for name in CLASSES:
        if re.search(rf"\b{name}\b", declared) and not all(
            type(x).__name__ == name or (x is None and "None" in declared) for x in entries
        ):
            raise InputError(f"{item.name} does not hold a {name}")
    return tuple(value) if isinstance(value, list) and "tuple" in declared else value
