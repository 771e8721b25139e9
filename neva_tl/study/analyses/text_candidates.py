"""Candidates of a search for edits that show in the text: selections, layers, sizes, and ways to apply the step.

This module lists and builds candidates; it measures nothing. A further selection or way is one line here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neva_tl import selection
from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.errors import InputError
from neva_tl.core.names import as_name
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Amplify, Edit, paced
from neva_tl.methods import Evidence, build
from neva_tl.models import Model
from neva_tl.selection.base import SelectionWarning
from neva_tl.selection.write import layers_between

#: Name of a selection -> its selector and the options that differ from the selector's own.
SELECTIONS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "write": ("write", {}),
    "write_projected": ("write", {"project": True}),
    "write_specific": ("write", {"lam_write": 1.0}),
    "write_screened": ("write", {"screened": True}),
    "effect_size": ("effect_size", {"lam": 0.0, "require_q": False, "require_split_half": False, "flips": 0}),
    "neva": ("neva", {"lam": 0.0, "lam_write": 0.0, "require_q": False, "flips": 0}),
    "margin": ("margin", {"lam": 0.0, "require_q": False, "flips": 0}),
    "regression": ("regression", {}),
    "regression_signed": ("regression", {"agree": False}),
    "random": ("random", {"base": "write"}),
}

#: Generated tokens over which a fading step halves, and length of the n-grams at whose repetition a step is left out.
HALF_LIFE, N_GRAM = 20.0, 3


def _shift(evidence: Evidence, value: str) -> Edit:
    return build("neva_shift", evidence, value)


#: Name of a way to apply the step -> function (evidence, value) -> edit.
WAYS: dict[str, Callable[[Evidence, str], Edit]] = {
    # on generated tokens, as every study does
    "shift": _shift,
    # from the prompt's last token on, which predicts the first token of the answer
    "first": lambda evidence, value: _shift(evidence, value).with_scope("last"),
    "all": lambda evidence, value: _shift(evidence, value).with_scope("all"),
    "fade": lambda evidence, value: paced(_shift(evidence, value), half_life=HALF_LIFE),
    "no_repeat": lambda evidence, value: paced(_shift(evidence, value), no_repeat=N_GRAM),
    "fade_no_repeat": lambda evidence, value: paced(_shift(evidence, value), half_life=HALF_LIFE, no_repeat=N_GRAM),
    # each neuron the way that raises the judge's score
    "signed": lambda evidence, value: Amplify(
        evidence.of(value), scope=evidence.token_scope, weights="sign", gate=evidence.gate
    ),
    "context": lambda evidence, value: build("neva", evidence, value),
}


@dataclass(frozen=True)
class Candidate:
    """An edit without its dose.

    Attributes:
        selection: Name in `SELECTIONS`, or a registered method that selects no neurons of its own here (a vector, a prompt).
        k: Largest number of neurons; None for such a method.
        depth: First and last layer as shares of the model's layers; None for such a method.
        way: Name in `WAYS`; "" for such a method.
    """

    selection: str
    k: int | None = None
    depth: tuple[float, float] | None = None
    way: str = ""

    @property
    def method(self) -> bool:
        """Whether it is a registered method, which serves as a reference."""
        return not self.way

    @property
    def placebo(self) -> bool:
        """Whether its neurons carry nothing by construction."""
        return not self.method and selection.SELECTORS[SELECTIONS[self.selection][0]].placebo

    @property
    def layers(self) -> str:
        """Its layers in words, as shares of the depth."""
        return "" if self.depth is None else f"{self.depth[0]:g} to {self.depth[1]:g}"

    @property
    def name(self) -> str:
        """Name of its cells."""
        return self.selection if self.method else f"{self.set_name}-{self.way}"

    @property
    def set_name(self) -> str:
        """Name of its neurons, which candidates that differ in the way share."""
        first, last = self.depth or (0.0, 1.0)
        # the ending of a file's name begins at its last point
        return f"{self.selection}-{self.k}-{first:g}-{last:g}".replace(".", "_")


def candidates(
    selections: Sequence[str], ks: Sequence[int], depths: Sequence[tuple[float, float]], ways: Sequence[str]
) -> list[Candidate]:
    """List all combinations, the first level of each factor first.

    `signed` is combined with selections that have a sign per neuron alone.

    Args:
        selections: Names in `SELECTIONS`.
        ks: Numbers of neurons.
        depths: Ranges of layers as shares of the depth.
        ways: Names in `WAYS`.

    Raises:
        InputError: A name is unknown, k is below 1, or no combination is possible.
    """
    named = [as_name("selection", name, SELECTIONS) for name in selections]
    applied = [as_name("way to apply a step", name, WAYS) for name in ways]
    for k in ks:
        if k < 1:
            raise InputError(f"k = {k} is not a number of neurons: at least 1")
    out = [
        Candidate(name, k, (float(depth[0]), float(depth[1])), way)
        for name in dict.fromkeys(named)
        for k in dict.fromkeys(ks)
        for depth in dict.fromkeys(depths)
        for way in dict.fromkeys(applied)
        if way != "signed" or SELECTIONS[name][0] == "regression"
    ]
    if not out:
        raise InputError("nothing to search: name a selection, k, layers and a way that fit together")
    return out


def neurons_of(
    candidate: Candidate,
    value: str,
    stats: ActivationStats,
    model: Model,
    *,
    seed: int = 0,
    margins: MarginEffects | None = None,
) -> NeuronSet:
    """Select the neurons of a candidate, possibly none.

    Args:
        candidate: The candidate.
        value: The value.
        stats: Statistics with samples.
        model: Their model.
        seed: Seed of random draws.
        margins: Margin effects, where they are stored; without them the selector `margin` measures them.

    Raises:
        InputError: See the selector.
    """
    selector, options = SELECTIONS[candidate.selection]
    assert candidate.depth is not None and candidate.k is not None
    layers = layers_between(stats, candidate.depth)
    effects = {"effects": margins} if selector == "margin" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)  # the table has the number of neurons
        return selection.select(
            stats,
            value,
            method=selector,
            k=min(candidate.k, len(layers) * stats.d_mlp),
            model=model,
            layers=layers,
            seed=seed,
            **{**options, **effects},
        )


def edit_of(candidate: Candidate, value: str, evidence: Evidence, neurons: NeuronSet | None) -> Edit:
    """Build the edit of a candidate at dose 1.

    Args:
        candidate: The candidate.
        value: The value.
        evidence: Evidence, without neurons.
        neurons: Its neurons; None for a registered method that needs none.

    Raises:
        InputError: See `methods.build`.
    """
    if candidate.method:
        return build(candidate.selection, evidence, value)
    assert neurons is not None
    return WAYS[candidate.way](replace(evidence, neurons={value: neurons}), value)
