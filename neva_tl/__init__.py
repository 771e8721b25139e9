"""Find, edit and measure neurons that carry human values in language models.

The library builds on TransformerLens:

    import neva_tl as nv

    model = nv.load("demo")
    pairs = nv.prompts.load("demo")
    stats = nv.collect(model, pairs, samples=True)
    neurons = nv.select(stats, "benevolence", method="neva", model=model)
    with nv.edit(model, nv.Amplify(neurons, dose=2.0)):
        print(model.generate("mara says that", max_new_tokens=20))

Names are imported on first use: torch and TransformerLens take seconds to import, and `neva-tl --help` must be instant.
"""

from __future__ import annotations

import importlib
from typing import Any

from neva_tl.core.theories import EXPORTS as THEORY_EXPORTS

__version__ = "0.1.0"

#: public name -> module that defines it
_EXPORTS = {
    **THEORY_EXPORTS,
    "NeuronSet": "neva_tl.core.neuron_set",
    "load": "neva_tl.models",
    "fingerprint": "neva_tl.models",
    "Example": "neva_tl.prompts",
    "ContrastSet": "neva_tl.prompts",
    "generate": "neva_tl.models.inference",
    "answer_logprobs": "neva_tl.models.inference",
    "ActivationStats": "neva_tl.activations",
    "collect": "neva_tl.activations",
    "select": "neva_tl.selection",
    "effect_table": "neva_tl.selection",
    "edit": "neva_tl.editing",
    "edit_hf": "neva_tl.editing",
    "Ablate": "neva_tl.editing",
    "AddVector": "neva_tl.editing",
    "Amplify": "neva_tl.editing",
    "Clamp": "neva_tl.editing",
    "ContextAware": "neva_tl.editing",
    "RolePrompt": "neva_tl.editing",
    "Scale": "neva_tl.editing",
    "Shift": "neva_tl.editing",
    "calibrate": "neva_tl.editing",
    "fit_context": "neva_tl.editing",
    "fit_relevance": "neva_tl.editing",
    "touched_tokens": "neva_tl.editing",
    "leakage": "neva_tl.evaluation",
    "capability": "neva_tl.evaluation",
    "dose_response": "neva_tl.evaluation",
    "compare": "neva_tl.study",
    "layer_ablation": "neva_tl.study",
    "Study": "neva_tl.study",
    "circuit": "neva_tl.circuits",
    "CircuitGraph": "neva_tl.circuits",
    "InputError": "neva_tl.core.errors",
    "NevaError": "neva_tl.core.errors",
    "WorkError": "neva_tl.core.errors",
}
#: public name of a module -> its import path
_MODULES = {
    "attribution": "neva_tl.attribution",
    "baselines": "neva_tl.methods",
    "circuits": "neva_tl.circuits",
    "demo": "neva_tl.demo",
    "editing": "neva_tl.editing",
    "evaluation": "neva_tl.evaluation",
    "inference": "neva_tl.models.inference",
    "methods": "neva_tl.methods",
    "models": "neva_tl.models",
    "planting": "neva_tl.selection.planted",
    "plots": "neva_tl.plots",
    "prompts": "neva_tl.prompts",
    "selection": "neva_tl.selection",
    "statistics": "neva_tl.core.statistics",
    "study": "neva_tl.study",
    "theories": "neva_tl.core.theories",
    "values": "neva_tl.core.theories.schwartz",
}

__all__ = ["__version__", *sorted(_EXPORTS), *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        export = getattr(importlib.import_module(_EXPORTS[name]), name)
        globals()[name] = export
        return export
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'neva_tl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
