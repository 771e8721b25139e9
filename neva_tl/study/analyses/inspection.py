"""What a file or folder of neva_tl is: kind, model, version, content hash, and whether it is intact."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva_tl.core.content_hash import content_hash
from neva_tl.core.errors import InputError
from neva_tl.core.files import PAIR, file_pair, read_json
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing.saved import ARRAYS, FILE, load_edit, read_edit_json
from neva_tl.models.sources import label
from neva_tl.prompts import load
from neva_tl.study.run.changed_files import verify
from neva_tl.study.run.preflight import MANIFEST, read_manifest

#: Endings of tables of prompts.
TABLES = (".csv", ".jsonl", ".parquet")
#: Longest fact on a line.
LONGEST = 200


@dataclass(frozen=True)
class Inspection:
    """What a file or folder is.

    Attributes:
        facts: Name -> fact, in order; the first is `what`.
        damage: Reason why it cannot be used; empty where it is intact.
        checked: Whether a hash shows changes; a table of prompts and a run of version 0.1 have none.
    """

    facts: Mapping[str, str]
    damage: str = ""
    checked: bool = True

    def __str__(self) -> str:
        good = "yes" if self.checked else "readable; it has no hash of its own to compare with"
        lines = {**self.facts, "intact": f"no: {self.damage}" if self.damage else good}
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {_line(text)}" for name, text in lines.items())


def inspect_artefact(path: str | Path) -> Inspection:
    """Say what a file or folder of neva_tl is. No model is loaded.

    Args:
        path: The folder of an edit, either file of a neuron set, a table of prompts, or a run folder.

    Raises:
        InputError: The path does not exist, or is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.name in (FILE, ARRAYS) and (path.parent / FILE).is_file():
        path = path.parent
    if path.is_dir():
        if (path / FILE).is_file():
            return _edit(path)
        if (path / MANIFEST).is_file():
            return _run(path)
        raise InputError(f"{path} is neither the folder of an edit ({FILE}) nor a run folder ({MANIFEST})")
    if path.suffix in PAIR:
        return _pair(path)
    if path.suffix in TABLES:
        return _prompts(path)
    raise InputError(
        f"{path} is not a file of neva_tl: name an edit's folder, a neuron set, prompts ({', '.join(TABLES)}) or a run"
    )


def _edit(folder: Path) -> Inspection:
    try:
        data = read_edit_json(folder)
    except InputError as error:
        return Inspection({"what": "an edit"}, str(error))
    facts = {"what": f"an edit (schema {data['schema']})"}
    model, about, origin = (
        x if isinstance(x := data.get(name), Mapping) else {} for name in ("model", "about", "origin")
    )
    facts |= _named(about, {"value": "value", "method": "method"}) | _model(model)
    versions = origin.get("versions")
    facts |= _named(origin, {"theory": "theory", "prompt_hash": "prompts hash", "seed": "seed"})
    facts |= {"made by": f"neva_tl {versions.get('neva_tl')}"} if isinstance(versions, Mapping) else {}
    try:
        saved = load_edit(folder)
    except InputError as error:
        return Inspection(facts, str(error))
    facts |= {"edit": repr(saved.edit), "content hash": content_hash(saved.edit)}
    return Inspection(facts)


def _pair(path: Path) -> Inspection:
    json_file, tensor_file = file_pair(path)
    if not json_file.is_file():
        raise InputError(f"{path}: {json_file.name} does not exist, which says what it is")
    meta = read_json(json_file, "a file of neva_tl")
    kinds: dict[Any, tuple[str, Callable[[Path], dict[str, str]]]] = {
        "neuron_set": ("a neuron set", _neurons),
        "activation_stats": ("statistics of activations", _stats),
    }
    if meta.get("kind") not in kinds:
        raise InputError(f"{json_file} is not a neuron set or statistics of neva_tl")
    what, read = kinds[meta["kind"]]
    facts = {"what": f"{what} (schema {meta.get('schema')})"}
    facts |= _named(meta, {"value": "value", "method": "selector", "site": "site", "prompt_hash": "prompts hash"})
    fingerprint = meta.get("fingerprint")
    facts |= _model(fingerprint if isinstance(fingerprint, Mapping) else {})
    try:
        facts |= read(json_file)
    except InputError as error:
        return Inspection(facts, str(error))
    return Inspection(facts | {"files": f"{json_file.name}, {tensor_file.name}"})


def _neurons(file: Path) -> dict[str, str]:
    neurons = NeuronSet.load(file)
    return {"content hash": content_hash(neurons), "neurons": str(len(neurons))}


def _stats(file: Path) -> dict[str, str]:
    from neva_tl.activations import ActivationStats

    ActivationStats.load(file)  # raises where it is damaged
    return {"content hash": hashlib.sha256(file_pair(file)[1].read_bytes()).hexdigest()}


def _prompts(path: Path) -> Inspection:
    try:
        pairs = load(path)
    except InputError as error:
        return Inspection({"what": "a table, which should be a contrast set"}, str(error))
    splits = pairs.df["split"].value_counts()
    facts = {
        "what": "a contrast set",
        "values": ", ".join(pairs.values),
        "theory": pairs.theory.name,
        "texts": f"{len(pairs)} ({', '.join(f'{name} {n}' for name, n in splits.items())})",
        "content hash": pairs.hash,
    }
    written = {"written by": str(pairs.provenance.get("model"))} if pairs.provenance else {}
    return Inspection(facts | written, checked=bool(written))


def _run(root: Path) -> Inspection:
    try:
        manifest = read_manifest(root, measured=True)
    except InputError as error:
        return Inspection({"what": "a run folder"}, str(error))
    config, versions = manifest["config"], manifest.get("versions")
    facts = {"what": f"a run folder ({'finished' if manifest.get('finished') else 'not finished'})"}
    facts |= _model(manifest["model"])
    facts |= {"prompts": label(str(config.get("prompts"))), "prompts hash": str(manifest["prompt_hash"])}
    facts |= {"values": ", ".join(map(str, manifest.get("values") or ())), "seed": str(manifest.get("seed"))}
    facts |= {"methods": ", ".join(map(str, config.get("methods") or ()))}
    facts |= {"made by": f"neva_tl {versions.get('neva_tl')}"} if isinstance(versions, Mapping) else {}
    facts |= {"content hash": str(manifest["study"])}
    table = verify(root)
    bad = table[table["state"].isin(["changed", "missing"])]
    counts = ", ".join(f"{n} {state}" for state, n in table["state"].value_counts().items())
    facts |= {"files": counts}
    damage = f"{bad['file'].iloc[0]} is {bad['state'].iloc[0]} (neva-tl verify lists all)" if len(bad) else ""
    return Inspection(facts, damage, checked=bool((table["state"] != "unknown").any()))


def _model(model: Mapping[str, Any]) -> dict[str, str]:
    if not model:
        return {"model": "not recorded"}
    name = [label(str(model["name"]))] if model.get("name") else []
    sizes = [
        f"{model[key]} {unit}" for key, unit in (("n_layers", "layers"), ("d_mlp", "neurons each")) if key in model
    ]
    weights = [f"weights {str(model['weights_hash'])[:16]}"] if model.get("weights_hash") else []
    return {"model": ", ".join([*name, *sizes, *([str(model["dtype"])] if "dtype" in model else []), *weights])}


def _named(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    return {shown: str(record[name]) for name, shown in names.items() if record.get(name) not in (None, "")}


def _line(text: str) -> str:
    """Return a fact of a file of another hand on one line of printable characters."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}..."
