"""From the annotation of a parameter to the kind of arguments that it takes."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
import pandas as pd

from neva_tl.core.kinds import FLAG, NUMBER, PATH, TEXT, WHOLE, Kind, Unfit
from neva_tl.core.names import article, describe, did_you_mean, spelling

#: Class -> how a user makes an instance of it, for messages.
EXAMPLES = {
    "ActivationStats": "ActivationStats, as nv.collect(model, pairs) gives",
    "ContrastSet": "a ContrastSet, as nv.prompts.load('demo') gives",
    "NeuronSet": "a NeuronSet, as nv.select(stats, 'power') gives",
    "Edit": "an edit, such as nv.Amplify(neurons, dose=2.0)",
    "Shift": "a Shift, such as nv.Amplify(neurons, dose=2.0)",
    "RelevanceGate": "a RelevanceGate, as nv.fit_relevance(model, relevant, neutral) gives",
    "Decoding": "nv.evaluation.Decoding(max_new_tokens=24)",
    "Observed": "Observed, as nv.evaluation.observe(...) gives",
    "Responses": "Responses (result.responses of nv.leakage(...))",
    "Reference": "a Reference, as nv.evaluation.reference(model, texts) gives",
    "LeakageResult": "a LeakageResult, as nv.leakage(...) gives",
    "Example": "an Example, such as nv.Example('mara says', 'hello')",
    "Evidence": "nv.methods.Evidence(model, stats, {'power': neurons})",
    "ValueTask": "a ValueTask, as nv.circuits.value_task(model, pairs, 'power') gives",
    "Nodes": "Nodes, as nv.circuits.find_circuit(model, task).nodes gives",
    "Means": "Means, as nv.circuits.mean_activations(model, task) gives",
    "CircuitGraph": "a CircuitGraph, as nv.circuit(model, neurons) gives",
    "ItemScores": "ItemScores, as a judge's measure(model) gives",
    "ValueProfile": "a ValueProfile, as nv.evaluation.value_profile(model, judge) gives",
    "LabelledTexts": "LabelledTexts (see nv.evaluation.LabelledTexts)",
    "JudgedTexts": "JudgedTexts, as nv.evaluation.judged(judge, labelled) gives",
    "LayerCache": "nv.models.LayerCache(model)",
    "Prefill": "nv.inference.Prefill()",
    "PrefixCache": "nv.inference.PrefixCache(model, examples)",
    "JsonCache": "a JsonCache, or None",
    "TextJudge": "a judge, such as nv.evaluation.ExactJudge(), or its name",
    "ModelJudge": "a judge, such as nv.evaluation.ExactJudge(), or its name",
    "Generator": "a numpy generator, such as np.random.default_rng(0)",
    "DataFrame": "a pandas DataFrame",
}


@functools.lru_cache(maxsize=4096)
def _cached_kind(annotation: Any) -> Kind | None:
    return _kind_of(annotation)


def kind_of(annotation: Any) -> Kind | None:
    """Return what an annotation accepts, or None where it accepts everything.

    Args:
        annotation: A type, as evaluated from an annotation.
    """
    try:
        return _cached_kind(annotation)
    except TypeError:  # not hashable
        return _kind_of(annotation)


_SIMPLE = {int: WHOLE, float: NUMBER, bool: FLAG, str: TEXT, Path: PATH}


def _kind_of(annotation: Any) -> Kind | None:
    if annotation is None or annotation is type(None):
        return Kind("None", _take_none)
    if annotation in (Any, object, inspect.Parameter.empty) or isinstance(annotation, TypeVar | str):
        return None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        given = next((item for item in arguments[1:] if isinstance(item, Kind)), None)
        return given or kind_of(arguments[0])
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is Literal:
        return _literal(arguments)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if hasattr(annotation, "array_type") and hasattr(annotation, "dim_str"):
        return _array(annotation)
    if annotation is np.ndarray:
        return Kind("an array", _take_rows)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return _fixed(arguments)
    if origin in (collections.abc.Sequence, collections.abc.Iterable, list, tuple):
        return _sequence(origin, arguments[0])
    if origin in (collections.abc.Mapping, dict):
        return _mapping(*arguments)
    if origin is collections.abc.Callable:
        return Kind("a function", _take_callable)
    if isinstance(origin, type):
        return _instance(origin)
    return _instance(annotation) if isinstance(annotation, type) else None


def _take_none(thing: Any) -> None:
    if thing is not None:
        raise Unfit


def _take_callable(thing: Any) -> Any:
    if not callable(thing):
        raise Unfit
    return thing


def _instance(cls: type) -> Kind | None:
    if getattr(cls, "_is_protocol", False) and not getattr(cls, "_is_runtime_protocol", False):
        return None
    if cls in (type, collections.abc.Mapping, dict):
        return Kind("a mapping", _mapping_alone) if cls is not type else None

    def take(thing: Any) -> Any:
        if isinstance(thing, cls) and not (isinstance(thing, type) and cls is not type):
            return thing
        raise Unfit(_instance_hint(thing, cls))

    return Kind(EXAMPLES.get(cls.__name__, article(cls.__name__)), take, specific=True)


def _mapping_alone(thing: Any) -> Any:
    if not isinstance(thing, Mapping):
        raise Unfit
    return thing


def _instance_hint(thing: Any, cls: type) -> str:
    if isinstance(thing, type):
        return f"make an instance: {thing.__name__}(...)" if _derived(thing, cls) else ""
    name = cls.__name__
    if name == "Edit" and type(thing).__name__ == "NeuronSet":
        return "wrap the neurons in an edit: nv.Amplify(neurons, dose=2.0)"
    if name == "NeuronSet":
        if isinstance(thing, pd.DataFrame):
            return "nv.NeuronSet(value, method, df, n_layers, d_mlp) makes one of a table"
        if hasattr(thing, "neurons"):
            return "the edit's own are edit.neurons"
        if isinstance(thing, str | os.PathLike):
            return "nv.NeuronSet.load(PATH) reads a saved one"
    if name in ("ActivationStats", "RelevanceGate", "CircuitGraph") and isinstance(thing, str | os.PathLike):
        return f"{name}.load(PATH) reads a saved one"
    return ""


def _derived(thing: type, cls: type) -> bool:
    try:
        return issubclass(thing, cls)
    except TypeError:  # a protocol with properties
        return all(hasattr(thing, name) for name in vars(cls) if not name.startswith("_"))


def _union(arguments: tuple[Any, ...]) -> Kind | None:
    if str in arguments and Path in arguments:  # a text that is a path
        arguments = tuple(item for item in arguments if item is not str)
    kinds = [kind_of(item) for item in arguments]
    if None in kinds:
        return None
    members = [kind for kind in kinds if kind is not None]

    def take(thing: Any) -> Any:
        hints, fits = [], []
        for kind in members:
            try:
                fit = kind.take(thing)
            except Unfit as error:
                hints.append(str(error))
                continue
            if fit is thing:
                return fit
            fits.append(fit)
        if fits:
            return fits[0]
        raise Unfit(next(filter(None, hints), ""))

    shown = [kind.expected for kind in members if kind.expected != "None"]
    if len(shown) < len(members):
        shown.append("None")
    return Kind(_listed(shown), take, any(kind.specific for kind in members))


def _listed(items: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(items))
    return ", or ".join(filter(None, (", ".join(distinct[:-1]), distinct[-1])))


def _literal(names: tuple[Any, ...]) -> Kind:
    texts = [name for name in names if isinstance(name, str)]

    def take(thing: Any) -> Any:
        if any(thing is name for name in names):
            return thing
        match = spelling(thing, texts)
        if match is None:
            raise Unfit(did_you_mean(thing, texts).strip())
        return match

    return Kind(_listed([repr(name) for name in names]), take)


def _items(thing: Any, item: Kind | None) -> Sequence[Any]:
    """Return the items of a sequence, an array, a set or a generator; one item alone is a sequence of one."""
    if isinstance(thing, str | bytes | Mapping | pd.DataFrame | type) or thing is None:
        return _alone(thing, item)
    if isinstance(thing, Sequence):
        return thing
    if isinstance(thing, set | frozenset):
        return sorted(thing, key=repr)
    if isinstance(thing, pd.Series | pd.Index):
        return list(thing.tolist())
    if hasattr(thing, "shape") and hasattr(thing, "tolist"):
        return list(thing.tolist()) if len(thing.shape) else _alone(thing, item)
    if isinstance(thing, Iterable):
        return list(thing)
    return _alone(thing, item)


def _alone(thing: Any, item: Kind | None) -> list[Any]:
    if item is None or thing is None:
        raise Unfit
    return [item.take(thing)]


def _sequence(origin: Any, of: Any) -> Kind:
    item = kind_of(of)

    def take(thing: Any) -> Any:
        items = _items(thing, item)
        if item is not None:
            converted = [_taken(item, number, x) for number, x in enumerate(items)]
            if any(a is not b for a, b in zip(converted, items, strict=True)):
                items = converted
        exact = origin if origin in (list, tuple) else None
        return items if exact is None or isinstance(items, exact) else exact(items)

    return Kind("a list" if item is None else f"a list, each item {item.expected}", take)


def _taken(item: Kind, number: int, thing: Any) -> Any:
    try:
        return item.take(thing)
    except Unfit as error:
        raise Unfit(f"item {number} is {describe(thing)}{f': {error}' if str(error) else ''}") from None


def _fixed(arguments: tuple[Any, ...]) -> Kind:
    kinds = [kind_of(item) for item in arguments]

    def take(thing: Any) -> Any:
        items = _items(thing, None)
        if len(items) != len(kinds):
            raise Unfit
        converted = [x if kind is None else kind.take(x) for kind, x in zip(kinds, items, strict=True)]
        same = isinstance(items, tuple) and all(a is b for a, b in zip(converted, items, strict=True))
        return items if same else tuple(converted)

    return Kind(f"a tuple of {len(kinds)}", take)


def _mapping(key: Any, content: Any) -> Kind:
    key_kind, content_kind = kind_of(key), kind_of(content)
    expected = "a mapping (dict)"
    if content_kind is not None:
        expected += f", each entry {content_kind.expected}"

    def take(thing: Any) -> Any:
        if not isinstance(thing, Mapping):
            raise Unfit
        out, changed = {}, False
        for name, entry in thing.items():
            try:
                new_name = name if key_kind is None else key_kind.take(name)
            except Unfit:
                raise Unfit(f"its key {describe(name)} is not {key_kind.expected if key_kind else ''}") from None
            try:
                new_entry = entry if content_kind is None else content_kind.take(entry)
            except Unfit as error:
                hint = f": {error}" if str(error) else ""
                raise Unfit(f"entry {describe(name)} is {describe(entry)}{hint}") from None
            changed = changed or new_name is not name or new_entry is not entry
            out[new_name] = new_entry
        return out if changed else thing

    return Kind(expected, take)


def _take_ndarray(thing: Any) -> np.ndarray:
    if isinstance(thing, np.ndarray):
        return thing
    if thing is None or isinstance(thing, str | bytes | Mapping | type | pd.DataFrame):
        raise Unfit
    if hasattr(thing, "detach"):
        return np.asarray(thing.detach().cpu())
    if isinstance(thing, pd.Series | pd.Index):
        return thing.to_numpy()
    if isinstance(thing, int | float | np.generic):
        return np.asarray(thing)
    try:
        array = np.asarray(_items(thing, None))
    except (TypeError, ValueError):
        raise Unfit from None
    return array


def _take_rows(thing: Any) -> np.ndarray:
    array = _take_ndarray(thing)
    if not array.ndim:
        raise Unfit
    return array


def _array(annotation: Any) -> Kind:
    is_numpy = annotation.array_type is np.ndarray
    kinds = "numbers"
    if all(str(name).startswith("bool") for name in annotation.dtypes):
        kinds = "True and False"
    elif all(str(name).startswith(("int", "uint")) for name in annotation.dtypes):
        kinds = "whole numbers"
    dims = str(annotation.dim_str).strip()
    expected = f"an array [{dims}] of {kinds}" if is_numpy else f"a tensor [{dims}]"

    def take(thing: Any) -> Any:
        if isinstance(thing, annotation) or not is_numpy:
            if not isinstance(thing, annotation):
                raise Unfit
            return thing
        array = _take_ndarray(thing)
        if kinds == "numbers" and array.dtype.kind in "iu" and not isinstance(array, annotation):
            array = array.astype(np.float64)
        if kinds == "whole numbers" and array.dtype.kind == "f" and array.size and np.all(array == np.floor(array)):
            array = array.astype(np.int64)
        if not isinstance(array, annotation):
            raise Unfit
        return array

    return Kind(expected, take)
