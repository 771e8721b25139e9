"""Origin of a saved edit: site, theory, selection, gate, prompts, seed and versions, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.files import to_json
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.versions import versions
from neva_tl.editing.base import Edit
from neva_tl.editing.edits.prompt import RolePrompt
from neva_tl.editing.edits.rewriting import RewriteAnswer

#: Facts that an edit does not hold itself, and that its writer may add.
FURTHER = ("prompt_hash", "prompts", "seed", "theory", "selection", "pooling")


def origin_of(edit: Edit, further: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Describe where an edit comes from.

    Args:
        edit: The edit.
        further: Facts that the edit does not hold (`FURTHER`): content hash and name of the contrast set, seed, name of the
            theory, selector settings, pooling.

    Returns:
        `site` (hook points), `theory`, `prompt_hash`, `seed` (None where nothing records them), `gate` (`threshold`, `unit`),
        `neurons` (of each set `value`, `selector`, `count`, and the selector's `settings` with its thresholds), the further
        facts, and `versions`.

    Raises:
        InputError: A further fact has another name.
    """
    further = dict(further or {})
    if unknown := sorted(set(further) - set(FURTHER)):
        raise InputError(f"unknown fact {unknown[0]!r} of an edit's origin: choose from {', '.join(FURTHER)}")
    neurons = list(neuron_sets(edit))
    seeds = {one.settings["seed"] for one in neurons if "seed" in one.settings}
    sets = [{"value": x.value, "selector": x.method, "count": len(x), "settings": dict(x.settings)} for x in neurons]
    return to_json(
        {
            "site": sites_of(edit),
            "theory": ", ".join(dict.fromkeys(one.theory.name for one in neurons)) or None,
            "prompt_hash": None,
            "seed": seeds.pop() if len(seeds) == 1 else None,
            "gate": None if edit.gate is None else {"threshold": edit.gate.threshold, "unit": edit.gate.unit},
            "neurons": sets,
            **further,
            "versions": versions(),
        }
    )


def sites_of(edit: Edit) -> list[str]:
    """Return the hook points at which an edit acts; `prompt` and `answer` for edits that change texts.

    Args:
        edit: The edit.
    """
    if isinstance(edit, RolePrompt):
        return ["prompt"]
    if isinstance(edit, RewriteAnswer):
        return ["answer"]
    if site := getattr(edit, "site", ""):
        return [site]
    if sets := list(neuron_sets(edit)):
        return sorted({one.site for one in sets})
    inner = getattr(edit, "edit", None)
    return sites_of(inner) if isinstance(inner, Edit) else ["resid_post"]


def neuron_sets(thing: Any) -> Iterator[NeuronSet]:
    """Yield the neuron sets that an edit holds, also inside of its parts.

    Args:
        thing: An edit, or a part of one.
    """
    if isinstance(thing, NeuronSet):
        yield thing
    elif isinstance(thing, tuple):
        for item in thing:
            yield from neuron_sets(item)
    elif is_dataclass(thing):
        for item in fields(thing):
            yield from neuron_sets(getattr(thing, item.name))
