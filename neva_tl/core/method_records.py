"""The table of steering methods: one record per method.

Records are plain data and import no model code, so that figures can read labels and colours without torch;
`neva_tl.methods.build` imports a builder on first use. A new method is one file in `neva_tl/methods/` and one line here; a
notebook calls `register`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from neva_tl.core.arguments import CheckedArguments, check_arguments
from neva_tl.core.auto import DoseUnit
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.names import as_name

Family = Literal["neurons", "vectors", "prompt", "placebo"]
MethodGate = Literal["none", "probe", "prompt_probe"]
Relevance = Literal["token", "query", "no"]


@dataclass(frozen=True)
class Method(metaclass=CheckedArguments):
    """Everything that the package knows about a method.

    Attributes:
        build: Function `(evidence, value) -> Edit`, or its import path `module:function`.
        family: Target of the edit: `neurons`, `vectors` (the residual stream) or the `prompt`; a `placebo` edits neurons or
            directions that no selection supports.
        gate: The gate that is part of the method: `probe` decides per token how much it needs, `prompt_probe` once per text
            at the prompt's last token, `none` acts on every token.
        dose: Unit of the dose: `contrasts` (multiples of the poles' difference), `log-odds` that tokens are raised to, NPTI's
            `gamma`, `share` of the way to a level, `factor` (multiples of a neuron's own activation); `none` for a method
            without a dose, which is shown at its own gain.
        dose_of: Method whose calibrated dose this one takes: some placebos are matched in size, not in gain. None searches
            for a dose of its own.
        relevance: How often the relevance gate decides: once per `token`, once per `query` (as in ConVA's paper), or not at all
            (`no`: the method edits no activation).
        needs_gate_stats: Whether the method reads the MLP gate's activations, which are collected on request only.
        optional: Whether a study leaves the method out, with the reason, where its edit cannot be built; other methods stop it.
        label: Name in figures and reports; empty writes the registered name without underscores.
        colour: Colour in figures; empty takes a spare one.

    Example:
        >>> record = nv.baselines.METHODS["caa"]
        >>> record.family, record.dose, record.label
        ('vectors', 'contrasts', 'CAA')
    """

    build: str | Callable[[Any, str], Any]
    family: Family
    gate: MethodGate = "none"
    dose: DoseUnit = "contrasts"
    dose_of: str | None = None
    relevance: Relevance = "token"
    needs_gate_stats: bool = False
    optional: bool = False
    label: str = ""
    colour: str = ""

    __repr__ = brief

    def __post_init__(self) -> None:
        choices = {"family": Family, "gate": MethodGate, "dose": DoseUnit, "relevance": Relevance}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise InputError(
                    f"unknown {name} {getattr(self, name)!r} of a method: choose from {', '.join(get_args(allowed))}"
                )

    @property
    def searched(self) -> bool:
        """Whether a dose of its own is searched for the method."""
        return self.dose != "none" and self.dose_of is None

    def builder(self) -> Callable[[Any, str], Any]:
        """The function that builds the edit; imported on first use."""
        if not isinstance(self.build, str):
            return self.build
        module, _, function = self.build.partition(":")
        builder: Callable[[Any, str], Any] = getattr(importlib.import_module(module), function)
        return builder


def _shipped(path: str, family: Family, label: str, colour: str, **facts: Any) -> Method:
    return Method(f"neva_tl.methods.{path}", family, label=label, colour=colour, **facts)


#: name -> record, in the order of figures.
METHODS: dict[str, Method] = {
    "neva": _shipped("neva:neva", "neurons", "NeVA", "#0f6398", gate="probe", dose="log-odds"),
    "neva_shift": _shipped("neva:neva_shift", "neurons", "NeVA shift", "#5daad6"),
    "caa": _shipped("caa:caa", "vectors", "CAA", "#b02c35"),
    "caa_projected": _shipped("caa:caa_projected", "vectors", "CAA projected", "#f0a672"),
    "caa_layers": _shipped("caa_layers:caa_layers", "vectors", "CAA layers", "#86250c"),
    "caa_layers_projected": _shipped("caa_layers:caa_layers_projected", "vectors", "CAA layers projected", "#b27c5d"),
    "caa_probe": _shipped("caa_probe:caa_probe", "vectors", "CAA probe", "#c75d7c", gate="probe", dose="log-odds"),
    "caa_projected_probe": _shipped(
        "caa_probe:caa_projected_probe", "vectors", "CAA projected probe", "#96316a", gate="probe", dose="log-odds"
    ),
    "conva": _shipped(
        "conva:conva", "vectors", "ConVA", "#9d54c3", gate="prompt_probe", dose="log-odds", relevance="query"
    ),
    "persona_vector": _shipped("persona_vector:persona_vector", "vectors", "persona vector", "#ca1459"),
    "sae": _shipped("sae:sae", "vectors", "SAE features", "#369aa9", optional=True),
    "dpn_le": _shipped("dpn_le:dpn_le", "neurons", "DPN-LE", "#af8e4c"),
    "npti": _shipped("npti:npti", "neurons", "NPTI", "#179384", dose="gamma", needs_gate_stats=True),
    "lape": _shipped("lape:lape", "neurons", "LAPE", "#8e8d1f", dose="share"),
    "austeer": _shipped("austeer:austeer", "neurons", "AUSteer", "#54bec6", dose="factor"),
    "cna": _shipped("cna:cna", "neurons", "CNA", "#347156", dose="factor"),
    "role": _shipped("role:role_prompt", "prompt", "role prompt", "#597605", dose="none", relevance="no"),
    "role_few_shot": _shipped(
        "role_few_shot:role_few_shot", "prompt", "few-shot role prompt", "#b7b52d", dose="none", relevance="no"
    ),
    "visa": _shipped("visa:visa", "prompt", "VISA-like", "#36612f", dose="none", relevance="no", optional=True),
    "random": _shipped("placebos:random_neurons", "placebo", "random neurons", "#5e6987", dose_of="neva_shift"),
    "rotated": _shipped("rotated:rotated", "placebo", "rotated basis", "#af9e84"),
    "label_shuffled": _shipped(
        "placebos:label_shuffled", "placebo", "shuffled labels", "#adb0a9", dose_of="neva_shift"
    ),
}


@check_arguments
def register(name: str, method: Method) -> None:
    """Add or replace a method; it then works in every study, table and figure.

    Args:
        name: As in `neva-tl run --method NAME` and in tables.
        method: Its record.

    Raises:
        InputError: The record takes the dose of a method that does not exist or that searches for none.

    Example:
        >>> from neva_tl.methods import METHODS, Method, register
        >>> def soften(evidence, value):
        ...     return nv.Shift(evidence.of(value), dose=0.5, scope=evidence.scope)
        >>> register("soften", Method(soften, "neurons", label="softened"))
        >>> evidence = nv.baselines.Evidence(model, stats, {"benevolence": neurons})
        >>> nv.baselines.build("soften", evidence, "benevolence").dose
        0.5
        >>> record = METHODS.pop("soften")  # taken out again
    """
    if method.dose_of is not None and not find_method(method.dose_of).searched:
        raise InputError(f"{name} cannot take the dose of {method.dose_of}: no dose is searched for that method")
    METHODS[name] = method


def find_method(name: str) -> Method:
    """The record of a method.

    Args:
        name: A registered name.

    Raises:
        InputError: The name is not registered.
    """
    return METHODS[as_name("method", name, METHODS)]
