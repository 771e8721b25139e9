"""What a thing is, by content: a stable hash of plain data, arrays, tables and dataclasses, for cache keys."""

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


def identity(thing: Any) -> str:
    """sha256 of what a thing holds: equal content, equal identity, in any process.

    Numbers of equal value are equal whatever their Python type (`2` and `2.0`); arrays and tensors differ by dtype, shape
    and bytes; mappings and sets know no order; a dataclass is its class's name and all its fields. Code is not looked at: a
    class whose methods change keeps its identity.

    Raises:
        InputError: something inside cannot be told by its content (a function, an open file, a model).
    """
    digest = hashlib.sha256()
    _feed(digest, thing, type(thing).__name__)
    return digest.hexdigest()


def _feed(digest: Any, thing: Any, where: str) -> None:
    """Hash one thing, each kind behind a tag and with its length, so that no two contents read alike."""
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
    _feed_parts(digest, thing, where)


def _feed_parts(digest: Any, thing: Any, where: str) -> None:
    """Hash what is made of parts."""
    if isinstance(thing, pd.DataFrame):
        parts = [thing.index, *((str(name), thing[name]) for name in thing.columns)]
        return _feed_all(digest, "table", parts, where)
    if isinstance(thing, pd.Series | pd.Index):
        data = thing.to_numpy()
        return _feed_all(digest, "column", [str(thing.dtype), data], where)
    if isinstance(thing, np.ndarray | list | tuple):
        return _feed_all(digest, "list", list(thing), where)
    if isinstance(thing, Set):
        return _feed_all(digest, "set", sorted(identity(x) for x in thing), where)
    if isinstance(thing, Mapping):
        pairs = sorted((identity(key), key) for key in thing)
        return _feed_all(digest, "mapping", [x for name, key in pairs for x in (name, thing[key])], where)
    if is_dataclass(thing) and not isinstance(thing, type):
        _put(digest, "object", class_name(type(thing)).encode())
        for part in fields(thing):
            _put(digest, "field", part.name.encode())
            _feed(digest, getattr(thing, part.name), f"{where}.{part.name}")
        return None
    raise InputError(
        f"{where} holds a {type(thing).__name__}, which cannot be told by its content: nothing with it in can be cached"
    )


def _feed_all(digest: Any, kind: str, parts: list[Any], where: str) -> None:
    _put(digest, kind, str(len(parts)).encode())
    for number, part in enumerate(parts):
        _feed(digest, part, f"{where}[{number}]")


def _put(digest: Any, kind: str, data: bytes) -> None:
    digest.update(f"{kind}:{len(data)}:".encode())
    digest.update(data)


def class_name(kind: type) -> str:
    """Name under which a class is hashed: independent of the module that defines it in neva_tl, so that moves keep caches."""
    if kind.__module__.partition(".")[0] != "neva_tl":
        return f"{kind.__module__}.{kind.__qualname__}"
    return NAMES_OF_0_1.get(kind.__qualname__, f"neva_tl.{kind.__qualname__}")
