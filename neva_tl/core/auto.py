"""Settings that `auto` stands for: decided here once, for `nv.*`, the notebook and every command.

A demo model has settings of its own, because its contrasts end where a value is about to be named and its grammar is strict.
All other models share one set. Everything here was decided on validation prompts and is plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from neva_tl.core.errors import InputError

#: Unit of a dose (see `Method.dose`).
DoseUnit = Literal["contrasts", "log-odds", "gamma", "share", "factor", "none"]

#: The word that leaves a setting to this file.
AUTO: Literal["auto"] = "auto"

#: Methods that `method="auto"` calibrates, in this order; the first that reaches the gain is taken, else the one that gains most.
AUTO_METHODS: tuple[str, ...] = ("neva", "neva_shift")

#: Coarse dose grids of a search, by the unit of the dose (`Method.dose`, `Edit.unit`). Log-odds of 2.2 are p0 = .9 and of 11.5
#: p0 = .99999; NPTI's gammas are those of its paper and larger ones; a share ends at the level itself. Factors: AUSteer's best
#: settings are published with 5 to 100.
GRIDS: dict[DoseUnit, tuple[float, ...]] = {
    "log-odds": (2.0, 4.0, 8.0, 16.0, 32.0),
    "contrasts": (1.0, 2.0, 4.0, 8.0, 16.0),
    "gamma": (0.25, 0.5, 1.0, 2.0, 4.0),
    "share": (0.125, 0.25, 0.5, 0.75, 1.0),
    "factor": (1.0, 3.0, 10.0, 30.0, 100.0),
}

#: Doses of single edits that are not calibrated, by the unit of the dose; an edit without a dose ignores them.
FIRST_DOSE: dict[DoseUnit, float] = {
    "log-odds": 8.0,
    "contrasts": 2.0,
    "gamma": 1.0,
    "share": 1.0,
    "factor": 5.0,
    "none": 2.0,
}


@dataclass(frozen=True)
class SelectorSettings:
    """Settings of one selector that differ from the selector's own defaults.

    Attributes:
        options: Arguments of `select`.
        k: Largest number of neurons; None is the selector's own rule.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    k: int | None = None


@dataclass(frozen=True)
class Auto:
    """Decisions for one kind of model.

    Attributes:
        prompts: Built-in set of prompts.
        judge: Judge of the values of Schwartz's theory.
        selector: Selector of the neuron-level methods.
        selectors: Selector -> its settings, where they differ from the selector's own.
        scope: Token scope of every edit.
        gate: `relevance` puts one relevance gate on every method, `none` leaves the methods as they are.
        pooling: Pooling of activations over the answer tokens of a text.
    """

    prompts: str
    judge: str
    selector: str
    selectors: Mapping[str, SelectorSettings]
    scope: Literal["last", "generated"]
    gate: Literal["relevance", "none"]
    pooling: Literal["last", "mean"]

    def settings(self, selector: str) -> SelectorSettings:
        """Return the settings of a selector.

        Args:
            selector: Its registered name.
        """
        return self.selectors.get(selector, SelectorSettings())


#: Demo models. `neva` keeps all neurons that pass the screen (at most `k`), ranked by effect and write without the penalties for
#: other values, because those leave too few neurons to move anything. An edit of a token that names no value breaks the strict
#: grammar, therefore the gate; the contrasts end where a value is about to be named, therefore the last token.
ON_DEMO = Auto(
    prompts="demo",
    judge="exact",
    selector="neva",
    selectors={"neva": SelectorSettings({"lam": 0.0, "lam_write": 0.0}, k=400)},
    scope="last",
    gate="relevance",
    pooling="last",
)

#: All other models. On SmolLM2 the neurons of `margin` reach the same gain at a third of the divergence and with less leakage
#: than those that `neva` ranks (tested on power and tradition only). They are not screened by the false discovery rate (q stays a
#: column), because the effect depends on the sum of the neurons' writes: at equal gain the unscreened sets cost less.
ELSEWHERE = Auto(
    prompts="schwartz",
    judge="logprob",
    selector="margin",
    selectors={
        "margin": SelectorSettings({"lam": 0.0, "require_q": False}),
        "neva": SelectorSettings({"lam": 0.0, "lam_write": 0.0, "require_q": False}),
    },
    scope="generated",
    gate="none",
    pooling="mean",
)


def auto_of(demo: bool) -> Auto:
    """Return the decisions for a model.

    Args:
        demo: Whether it is a demo model (`ModelInfo.demo`, `ActivationStats.demo`).
    """
    return ON_DEMO if demo else ELSEWHERE


def grid_of_unit(unit: DoseUnit) -> tuple[float, ...]:
    """Return the coarse dose grid of a unit.

    Args:
        unit: Unit of the dose.

    Raises:
        InputError: The unit has no grid.
    """
    if unit not in GRIDS:
        raise InputError("this edit has no dose grid of its own: pass grid=..., in the unit of its dose")
    return GRIDS[unit]
