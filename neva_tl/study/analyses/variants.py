"""Variants: levels of the sensitivity study, one factor at a time around a run's own setting. Runs nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neva_tl import selection
from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import SelectionWarning
from neva_tl.selection.registry import options_of, quick
from neva_tl.study.run.cell_runner import grid_of
from neva_tl.study.run.config import StudyConfig

#: Level of the run's own setting.
OWN = "as run"
#: Neuron sets of these shares of the run's own largest one; pairs of each value; weights of specificity (read, written).
K_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
PAIRS = (25, 50, 100, 200)
LAM = (0.0, 0.5, 1.0, 2.0)
LAM_WRITE = (0.0, 1.0, 2.0, 4.0)
#: The selector's own weights, where the run left specificity out.
SPECIFIC = {"lam": 1.0, "lam_write": 2.0}
#: Options of a study's selection that `select` accepts for every selector.
_COMMON = ("alpha", "delta", "lam", "require_split_half", "require_q", "layers", "site")


@dataclass(frozen=True)
class Variant:
    """One level of one factor; everything that is not named is as the run has it.

    Attributes:
        factor, level: Names; the level describes the change.
        size: The level as a number, where it is one.
        k: Number of the run's own neurons of each value to keep.
        selection: Options of the selector that differ (`selector` names another one, which then keeps as many neurons as
            the run's own set has).
        pairs: Training pairs of each value (rows of each pole, where unpaired) for selection and probes.
        gated: Whether the run's relevance gate stays on.
        dose: A fixed dose, in the method's unit, in place of the matched one.
    """

    factor: str
    level: str
    size: float | None = None
    k: int | None = None
    selection: Mapping[str, Any] = field(default_factory=dict)
    pairs: int | None = None
    gated: bool = True
    dose: float | None = None

    @property
    def own(self) -> bool:
        """Whether it is the run's own setting."""
        return self.level == OWN

    @property
    def name(self) -> str:
        """For folders."""
        return f"{self.factor}={self.level.replace(' ', '-').replace(',', '')}"


@dataclass(frozen=True)
class Setting:
    """Setting of the run that the levels vary.

    Attributes:
        config: The run's.
        neurons: The run's own sets, of the values looked at.
        stats: The run's own statistics.
    """

    config: StudyConfig
    neurons: Mapping[str, NeuronSet]
    stats: ActivationStats

    def option(self, name: str, default: Any) -> Any:
        """Value of an option in the run's selection."""
        return self.config.selection.get(name, default)


def variants(factor: str, setting: Setting, method: str) -> list[Variant]:
    """The levels of a factor for a method, the run's own first; empty where the run's selector has no such option.

    Raises:
        InputError: An unknown factor.
    """
    if factor not in FACTORS:
        raise InputError(f"unknown factor {factor!r}: choose from {', '.join(FACTORS)}")
    levels = FACTORS[factor](setting, method)
    return [Variant(factor, OWN), *levels] if levels else []


def _k(setting: Setting, method: str) -> list[Variant]:
    most = max(len(neuron_set) for neuron_set in setting.neurons.values())
    sizes = sorted({max(1, round(share * most)) for share in K_SHARES} - {most})
    return [Variant("k", str(k), float(k), k=k) for k in sizes]


def _dose(setting: Setting, method: str) -> list[Variant]:
    return [Variant("dose", f"{dose:g}", dose, dose=dose) for dose in grid_of(method)]


def _lam(setting: Setting, method: str) -> list[Variant]:
    return _weights("lam", LAM, setting.option("lam", SPECIFIC["lam"]))


def _lam_write(setting: Setting, method: str) -> list[Variant]:
    if "lam_write" not in options_of(setting.config.selector):
        return []
    return _weights("lam_write", LAM_WRITE, setting.option("lam_write", SPECIFIC["lam_write"]))


def _weights(name: str, levels: tuple[float, ...], current: float) -> list[Variant]:
    return [Variant(name, f"{level:g}", level, selection={name: level}) for level in levels if level != current]


def _layers(setting: Setting, method: str) -> list[Variant]:
    """Each third of the layers, and the layer that holds most of the run's neurons."""
    n = setting.stats.n_layers
    parts = [tuple(int(layer) for layer in third) for third in np.array_split(np.arange(n), 3) if len(third)]
    neuron_layers = np.concatenate(
        [neuron_set.df["layer"].to_numpy(dtype=int) for neuron_set in setting.neurons.values()]
    )
    fullest = (int(np.bincount(neuron_layers, minlength=n).argmax()),)
    parts += [] if fullest in parts else [fullest]
    current = setting.option("layers", None)
    return [
        Variant("layers", f"{p[0]}" if len(p) == 1 else f"{p[0]} to {p[-1]}", selection={"layers": p})
        for p in parts
        if current is None or tuple(current) != p
    ]


def _pairs(setting: Setting, method: str) -> list[Variant]:
    have = int(setting.stats.n[:, 0].sum(axis=-1).max())
    return [Variant("pairs", str(n), float(n), pairs=n) for n in PAIRS if n < have]


def _part(setting: Setting, method: str) -> list[Variant]:
    """Remove a part of the method (or add it, where the run left it out). The probe gate is the method's own: neva against
    neva_shift."""
    options = options_of(setting.config.selector)
    levels = []
    weights = {name: weight for name, weight in SPECIFIC.items() if name == "lam" or name in options}
    if all(setting.option(name, weight) == 0 for name, weight in weights.items()):
        levels.append(Variant("part", "with specificity", selection=weights))
    else:
        levels.append(Variant("part", "no specificity", selection=dict.fromkeys(weights, 0.0)))
    if "project" in options:
        projected = setting.option("project", True)
        levels.append(
            Variant("part", "no projection" if projected else "with projection", selection={"project": not projected})
        )
    screened = setting.option("require_q", True)
    levels.append(Variant("part", "no FDR" if screened else "with FDR", selection={"require_q": not screened}))
    if setting.config.selector == "margin":
        levels.append(Variant("part", "ranked along a direction", selection={"selector": "neva"}))
    if setting.config.selector != "effect_size":
        levels.append(Variant("part", "correlational only", selection={"selector": "effect_size"}))
    if setting.config.gate == "relevance":
        levels.append(Variant("part", "no relevance gate", gated=False))
    return levels


#: Factor -> its levels but the run's own.
FACTORS: dict[str, Callable[[Setting, str], list[Variant]]] = {
    "k": _k,
    "dose": _dose,
    "lam": _lam,
    "lam_write": _lam_write,
    "layers": _layers,
    "pairs": _pairs,
    "part": _part,
}


def neurons_of(
    variant: Variant,
    run_neurons: NeuronSet,
    config: StudyConfig,
    stats: ActivationStats,
    model: Any,
    margins: MarginEffects | None = None,
) -> NeuronSet:
    """The neurons of a variant: the head of the run's own, or selected again; possibly none.

    Args:
        variant: Which one.
        own: The run's set of the value.
        config: The run's.
        stats: Of the variant's training pairs.
        model: The run's.
        margins: Margin effects from the variant's training pairs; selector `margin` measures its own without them.
    """
    if not variant.selection and variant.pairs is None:
        return run_neurons if variant.k is None else run_neurons.head(variant.k)
    options = {**config.selection, **variant.selection}
    selector, k = options.pop("selector", config.selector), config.k
    if selector != config.selector:
        option_names = (*_COMMON, *options_of(selector))
        options, k = {name: x for name, x in options.items() if name in option_names}, len(run_neurons)
    layers = options.get("layers")
    if k is not None and layers is not None:
        k = min(k, len(set(layers)) * stats.d_mlp)
    # sign flips give the p-value of a neuron, and select none
    options |= quick(selector)
    if selector == "margin":
        options["effects"] = margins
    with warnings.catch_warnings():
        # the table shows that few or none pass
        warnings.simplefilter("ignore", SelectionWarning)
        return selection.select(
            stats, run_neurons.value, method=selector, k=k, model=model, seed=config.seed, **options
        )
