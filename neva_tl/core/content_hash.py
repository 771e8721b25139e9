"""Content hashes of plain data, arrays, tables and dataclasses, for cache keys."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError

#: Hashed names of classes that version 0.1.0 hashed by their module: caches written then stay valid. Closed: classes made since
#: are hashed as `neva_tl.QUALNAME`.
NAMES_OF_0_1 = {
    "Ablate": "neva_tl.editing.ablate.Ablate",
    "AddVector": "neva_tl.editing.vector.AddVector",
    "Amplify": "neva_tl.editing.shift.Amplify",
    "ChatJudge": "neva_tl.evaluation.judges.chat.ChatJudge",
    "Clamp": "neva_tl.editing.clamp.Clamp",
    "Classifier": "neva_tl.evaluation.judges.classifier.Classifier",
    "Composed": "neva_tl.editing.compose.Composed",
    "ContextAware": "neva_tl.editing.context.ContextAware",
    "ExactJudge": "neva_tl.evaluation.judges.exact.ExactJudge",
    "GateShift": "neva_tl.editing.gate_shift.GateShift",
    "HuggingFaceJudge": "neva_tl.evaluation.judges.huggingface.HuggingFaceJudge",
    "LayerProbe": "neva_tl.editing.probe.LayerProbe",
    "NeuronSet": "neva_tl.neurons.NeuronSet",
    "ProbedVector": "neva_tl.editing.vector.ProbedVector",
    "PromptShift": "neva_tl.editing.prompt_shift.PromptShift",
    "RelevanceGate": "neva_tl.editing.gate.RelevanceGate",
    "RolePrompt": "neva_tl.editing.prompt.RolePrompt",
    "Scale": "neva_tl.editing.scale.Scale",
    "Shift": "neva_tl.editing.shift.Shift",
    "WordListJudge": "neva_tl.evaluation.judges.wordlist.WordListJudge",
}


def content_hash(thing: Any) -> str:
    """Compute the sha256 of an object's content: equal content gives an equal hash in any process.

    Numbers of equal value are equal whatever their Python type (`2` and `2.0`); arrays and tensors differ by dtype, shape
    and bytes; mappings and sets have no order; a dataclass counts by its class name and all its fields. Code does not count:
    a class whose methods change keeps its hash. A field with `metadata={"content": function}` counts as `function(content)`.

    Args:
        thing: Plain data, paths, arrays, tensors, tables, enums, dataclasses, or containers of these.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: The object contains something without hashable content (a function, an open file, a model).

    Example:
        >>> from neva_tl.editing import content_hash
        >>> content_hash(edit) == content_hash(nv.Shift(neurons, dose=2.0, scope="last"))
        True
        >>> content_hash(edit) == content_hash(edit.with_dose(4.0))
        False
    """
    digest = hashlib.sha256()
    _feed(digest, thing, type(thing).__name__)
    return digest.hexdigest()


def _feed(digest: Any, thing: Any, path: str) -> None:
    """Hash one object with a tag of its kind and its length, so that different contents give different bytes."""
    if thing is None or isinstance(thing, bool | np.bool_):
        return _put(digest, "fact", str(thing).encode())
    if isinstance(thing, Enum):
        return _put(digest, "enum", f"{class_name(type(thing))}.{thing.name}".encode())
    if isinstance(thing, int | np.integer) or (isinstance(thing, float | np.floating) and float(thing).is_integer()):
        return _put(digest, "number", str(int(thing)).encode())
    if isinstance(thing, float | np.floating):
        return _put(digest, "real", struct.pack(">d", float(thing)))
    if isinstance(thing, str | PurePath):
        return _put(digest, "text", str(thing).encode("utf-8", "surrogatepass"))
    if isinstance(thing, bytes):
        return _put(digest, "bytes", thing)
    if isinstance(thing, np.ndarray) and thing.dtype.kind != "O":
        _put(digest, "array", f"{thing.dtype.str}{thing.shape}".encode())
        return _put(digest, "data", np.ascontiguousarray(thing).tobytes())
    if type(thing).__module__.startswith("torch") and hasattr(thing, "detach"):
        import torch

        flat = thing.detach().cpu().contiguous()
        _put(digest, "tensor", f"{flat.dtype}{tuple(flat.shape)}".encode())
        return _put(digest, "data", flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return _feed_container(digest, thing, path)


def _feed_container(digest: Any, thing: Any, path: str) -> None:
    """Hash a table, a container or a dataclass."""
    if isinstance(thing, pd.DataFrame):
        columns = [thing.index, *((str(name), thing[name]) for name in thing.columns)]
        return _feed_all(digest, "table", columns, path)
    if isinstance(thing, pd.Series | pd.Index):
        data = thing.to_numpy()
        return _feed_all(digest, "column", [str(thing.dtype), data], path)
    if isinstance(thing, np.ndarray | list | tuple):
        return _feed_all(digest, "list", list(thing), path)
    if isinstance(thing, Set):
        return _feed_all(digest, "set", sorted(content_hash(x) for x in thing), path)
    if isinstance(thing, Mapping):
        pairs = sorted((content_hash(key), key) for key in thing)
        return _feed_all(digest, "mapping", [x for name, key in pairs for x in (name, thing[key])], path)
    if is_dataclass(thing) and not isinstance(thing, type):
        _put(digest, "object", class_name(type(thing)).encode())
        for field in fields(thing):
            _put(digest, "field", field.name.encode())
            content = field.metadata.get("content", lambda x: x)(getattr(thing, field.name))
            _feed(digest, content, f"{path}.{field.name}")
        return None
    raise InputError(
        f"{path} holds a {type(thing).__name__}, which has no hashable content: results that depend on it cannot be cached"
    )


def _feed_all(digest: Any, kind: str, items: list[Any], path: str) -> None:
    _put(digest, kind, str(len(items)).encode())
    for index, item in enumerate(items):
        _feed(digest, item, f"{path}[{index}]")


def _put(digest: Any, kind: str, data: bytes) -> None:
    digest.update(f"{kind}:{len(data)}:".encode())
    digest.update(data)


def class_name(kind: type) -> str:
    """Return the name under which a class is hashed.

    For neva_tl's classes it does not depend on the module, so that caches stay valid when a class moves.

    Args:
        kind: Any class.
    """
    if kind.__module__.partition(".")[0] != "neva_tl":
        return f"{kind.__module__}.{kind.__qualname__}"
    return NAMES_OF_0_1.get(kind.__qualname__, f"neva_tl.{kind.__qualname__}")
