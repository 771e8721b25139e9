"""Edits as plain data and numbered arrays, and back: only classes of neva_tl, without pickle.

Reading trusts nothing: a class that is not listed, a field of another class, an array with NaN and a probe whose arrays do not
agree end in one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
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

#: The only classes that a file may name.
CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Ablate, AddVector, Clamp, Composed, ContextAware, GateShift, LayerProbe, NeuronSet, Paced, ProbedVector, PromptShift,
        RelevanceGate, Rescale, RewriteAnswer, RolePrompt, Scale, Shift,
    )
}  # fmt: skip
#: Shares of training tokens of a gate, which may be undefined (NaN); all other arrays of an edit are finite.
_MAY_BE_NAN = ("caught", "passed")


class Encoder:
    """Describes objects as plain data; arrays go to a table by number.

    Attributes:
        arrays: Number of the array, as a name -> the array.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def describe(self, thing: Any, where: str) -> Any:
        """Return the plain data of an object.

        Args:
            thing: The object.
            where: Its position, for messages.

        Raises:
            InputError: A class that is not one of neva_tl's, or an array with NaN or infinities.
        """
        if thing is None or isinstance(thing, bool | str):
            return thing
        if isinstance(thing, int | np.integer):
            return int(thing)
        if isinstance(thing, float | np.floating):
            return float(thing) if math.isfinite(thing) else {"float": str(float(thing))}
        if isinstance(thing, np.ndarray | torch.Tensor):
            name = self._stored(thing)
            if not _is_finite(self.arrays[name]) and not where.endswith(_MAY_BE_NAN):
                raise InputError(f"{where} holds NaN or infinities: an edit with them cannot be saved")
            return {"array": name}
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


def restore(data: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the object that `Encoder.describe` described.

    Args:
        data: The plain data.
        arrays: The arrays.

    Raises:
        InputError: The data names a class that is not one of neva_tl's, or does not describe an object of its class.
    """
    if data is None or isinstance(data, bool | str | int | float):
        return data
    if "float" in data:
        return float(data["float"])
    if "array" in data:
        return arrays[data["array"]]
    if "table" in data:
        return pd.DataFrame({name: restore(column, arrays) for name, column in data["table"]})
    if "list" in data:
        return [restore(x, arrays) for x in data["list"]]
    if "map" in data:
        return {restore(k, arrays): restore(v, arrays) for k, v in data["map"]}
    kind = CLASSES.get(data["class"])
    if kind is None:
        raise InputError(f"{data['class']!r} is not a class of edits that neva_tl knows")
    return _object(kind, data["fields"], arrays)


def _object(kind: type, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    known_fields = {item.name: item for item in fields(kind)}
    if unknown := sorted(set(state) - set(known_fields)):
        raise InputError(f"{kind.__name__} has no field {unknown[0]!r} in this version of neva_tl: update it")
    values = {}
    for name, item in known_fields.items():
        if name in state:
            values[name] = _field(item, restore(state[name], arrays))
        elif item.default is MISSING and item.default_factory is MISSING:
            raise InputError(f"{kind.__name__} lacks the field {name!r}")
    if kind is LayerProbe:
        _check_probe(**values)
    return kind(**values)


def _field(item: Field[Any], value: Any) -> Any:
    """Return the value of a field: JSON has one kind of list, and a file may hold anything.

    Raises:
        InputError: The field holds another class than its own, or an array with NaN.
    """
    declared = str(item.type)
    entries = value if isinstance(value, list) else [value]
    for name in CLASSES:
        if re.search(rf"\b{name}\b", declared) and not all(
            type(x).__name__ == name or (x is None and "None" in declared) for x in entries
        ):
            raise InputError(f"{item.name} does not hold a {name}")
    nested = value.values() if isinstance(value, dict) else entries
    if item.name not in _MAY_BE_NAN and not all(_is_finite(x) for x in nested if isinstance(x, np.ndarray)):
        raise InputError(f"{item.name} holds NaN or infinities")
    return tuple(value) if isinstance(value, list) and "tuple" in declared else value


def _check_probe(**values: Any) -> None:
    """Check the arrays of a probe against each other."""
    arrays = [np.asarray(values.get(name)) for name in ("index", "weight", "unit")]
    index = arrays[0]
    numbers = [isinstance(values.get(name), int | float) for name in ("layer", "bias")]
    if not all(numbers) or not all(x.ndim == 1 for x in arrays):
        raise InputError("a LayerProbe needs a layer, a bias and three vectors")
    if len({len(x) for x in arrays}) != 1 or index.dtype.kind not in "iu" or (index < 0).any():
        raise InputError("the vectors of a LayerProbe do not agree in length, or its index does not hold neurons")


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
