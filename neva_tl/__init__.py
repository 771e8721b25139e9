"""Find, edit and measure neurons that carry human values in language models.

The library builds on TransformerLens:

    import neva_tl as nv

    model = nv.load("demo")
    pairs = nv.prompts.load("demo")
    stats = nv.collect(model, pairs)
    neurons = nv.select(stats, "benevolence")
    with nv.edit(model, nv.Amplify(neurons, dose=2.0)):
        print(model.generate("mara says that", max_new_tokens=20))

Names are imported on first use: torch and TransformerLens take seconds to import, and `neva-tl --help` must be instant.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import lazy_loader

__version__ = "0.1.0"

#: Names of modules that differ from their import path.
_ALIASES = {
    "baselines": "neva_tl.methods",
    "inference": "neva_tl.models.inference",
    "planting": "neva_tl.selection.planted",
    "statistics": "neva_tl.core.statistics",
    "theories": "neva_tl.core.theories",
    "values": "neva_tl.core.theories.schwartz",
}

# the stub `__init__.pyi` is the only list of names: editors and type checkers read it too
_attribute, _, _names = lazy_loader.attach_stub(__name__, __file__)

#: A submodule that the stub names by its alias only.
_WITHOUT_ALIAS = {"planted"}

__all__ = ["__version__", *sorted({*_names, *_ALIASES} - _WITHOUT_ALIAS)]


def __getattr__(name: str) -> Any:
    if name in _ALIASES:
        return importlib.import_module(_ALIASES[name])
    if name not in __all__:
        near = difflib.get_close_matches(name, __all__, 1)
        raise AttributeError(
            f"module 'neva_tl' has no attribute {name!r}" + (f": did you mean {near[0]!r}?" if near else "")
        )
    return _attribute(name)


def __dir__() -> list[str]:
    return __all__
