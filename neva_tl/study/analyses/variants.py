"""Levels of the sensitivity study, one factor at a time around a run's setting.

This module lists levels and selects their neurons; it measures nothing.
"""

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
from neva_tl.models import Model
from neva_tl.selection.base import SelectionWarning
from neva_tl.selection.registry import options_of, quick
from neva_tl.study.run.cell_runner import grid_of
from neva_tl.study.run.config import StudyConfig

#: Level of the run's own setting.
OWN = "as run"
#: Levels: sizes of neuron sets as shares of the run's largest set, pairs of each value, weights of specificity (read, write).
K_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
PAIRS = (25, 50, 100, 200)
LAM = (0.0, 0.5, 1.0, 2.0)
LAM_WRITE = (0.0, 1.0, 2.0, 4.0)
#: Weights of specificity where the run has none: the selector's own.
SPECIFIC = {"lam": 1.0, "lam_write": 2.0}
#: Options of a study's selection that `select` accepts for every selector.
_COMMON = ("alpha", "delta", "lam", "require_split_half", "require_q", "layers", "site")


@dataclass(frozen=True)
class Variant:
    """One level of one factor; all other settings are those of the run.

    Attributes:
        factor: Name of the factor.
        level: Name of the level, which describes the change.
        size: The level as a number, where it is one.
        k: Number of the run's own neurons of each value to keep.
        selection: Options of the selector that differ (`selector` names another selector, which then selects the same number
            of neurons as the run).
        pairs: Training pairs of each value (rows of each pole, where unpaired) for selection and probes.
        gated: Whether the edit has the run's relevance gate.
        dose: A fixed dose, in the method's unit, instead of the matched one.
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
        """Name of the level's folder."""
        return f"{self.factor}={self.level.replace(' ', '-').replace(',', '')}"


@dataclass(frozen=True)
class Setting:
    """Setting of the run that the levels vary.

    Attributes:
        config: The run's settings.
        neurons: The run's neurons of each studied value.
        stats: The run's statistics.
    """

    config: StudyConfig
    neurons: Mapping[str, NeuronSet]
    stats: ActivationStats

    def option(self, name: str, default: Any) -> Any:
        """Return an option of the run's selection.

        Args:
            name: Name of the option.
            default: Its default.
        """
        return self.config.selection.get(name, default)


def variants(factor: str, setting: Setting, method: str) -> list[Variant]:
    """List the levels of a factor for a method, the run's own first.

    Args:
        factor: Name in `FACTORS`.
        setting: The run's own setting.
        method: Registered name.

    Returns:
        The levels; empty where the run's selector has no such option.

    Raises:
        InputError: The factor is unknown.
    """
    if factor not in FACTORS:
        raise InputError(f"unknown factor {factor!r}: choose from {', '.join(FACTORS)}")
    levels = FACTORS[factor](setting, method)
    return [Variant(factor, OWN), *levels] if levels else []


def _k(setting: Setting, _method: str) -> list[Variant]:
    most = max(len(neuron_set) for neuron_set in setting.neurons.values())
    sizes = sorted({max(1, round(share * most)) for share in K_SHARES} - {most})
    return [Variant("k", str(k), float(k), k=k) for k in sizes]


def _dose(_setting: Setting, method: str) -> list[Variant]:
    return [Variant("dose", f"{dose:g}", dose, dose=dose) for dose in grid_of(method)]


def _lam(setting: Setting, _method: str) -> list[Variant]:
    return _weights("lam", LAM, setting.option("lam", SPECIFIC["lam"]))


def _lam_write(setting: Setting, _method: str) -> list[Variant]:
    if "lam_write" not in options_of(setting.config.selector):
        return []
    return _weights("lam_write", LAM_WRITE, setting.option("lam_write", SPECIFIC["lam_write"]))


def _weights(name: str, levels: tuple[float, ...], current: float) -> list[Variant]:
    return [Variant(name, f"{level:g}", level, selection={name: level}) for level in levels if level != current]


def _layers(setting: Setting, _method: str) -> list[Variant]:
    """List each third of the layers, and the layer with most of the run's neurons."""
    n = setting.stats.n_layers
    groups = [tuple(int(layer) for layer in third) for third in np.array_split(np.arange(n), 3) if len(third)]
    neuron_layers = np.concatenate(
        [neuron_set.df["layer"].to_numpy(dtype=int) for neuron_set in setting.neurons.values()]
    )
    fullest = (int(np.bincount(neuron_layers, minlength=n).argmax()),)
    groups += [] if fullest in groups else [fullest]
    current = setting.option("layers", None)
    return [
        Variant("layers", f"{p[0]}" if len(p) == 1 else f"{p[0]} to {p[-1]}", selection={"layers": p})
        for p in groups
        if current is None or tuple(current) != p
    ]


def _pairs(setting: Setting, _method: str) -> list[Variant]:
    available = int(setting.stats.n[:, 0].sum(axis=-1).max())
    return [Variant("pairs", str(n), float(n), pairs=n) for n in PAIRS if n < available]


def _part(setting: Setting, _method: str) -> list[Variant]:
    """Remove a component of the method, or add it where the run lacks it.

    The probe gate is not one of these, because it distinguishes two methods: `neva` has it and `neva_shift` has not.
    """
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


#: Factor -> its levels, without the run's own.
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
    model: Model,
    margins: MarginEffects | None = None,
) -> NeuronSet:
    """Return the neurons of a variant: the best of the run's own, or selected again.

    Args:
        variant: The variant.
        run_neurons: The run's neurons of the value.
        config: The run's settings.
        stats: Statistics of the variant's training pairs.
        model: The run's model.
        margins: Margin effects from the variant's training pairs; without them the selector `margin` measures them.

    Returns:
        The neurons, possibly none.
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
    # sign flips give p-values, which select no neuron
    options |= quick(selector)
    if selector == "margin":
        options["effects"] = margins
    with warnings.catch_warnings():
        # the table shows when few or no neurons pass
        warnings.simplefilter("ignore", SelectionWarning)
        return selection.select(
            stats, run_neurons.value, method=selector, k=k, model=model, seed=config.seed, **options
        )
