"""Schwartz's ten basic human values: circle, groups, definitions, neighbours, opposites.

The order and the four higher-order groups follow Schwartz (1992, 2012). Placing the ten values at equal steps of 36 degrees
is the usual approximation of the circle; definitions are in our own words. Conformity and tradition share one wedge in the
theory (tradition outside): `distance_matrix(wedge=True)` gives distances under that reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Kind, Unfit
from neva_tl.core.names import describe, did_you_mean, spelling

#: value -> (groups, colour, definition). Colours follow the hue circle, so that neighbours look similar.
_THEORY: dict[str, tuple[tuple[str, ...], str, str]] = {
    "self-direction": (
        ("openness",),
        "#7b4fc9",
        "Thinking and acting for oneself: choosing, creating, exploring freely.",
    ),
    "stimulation": (("openness",), "#b146b8", "Excitement, novelty and challenge in life."),
    "hedonism": (("openness", "self-enhancement"), "#d8428c", "Pleasure and enjoyment for oneself."),
    "achievement": (("self-enhancement",), "#e2504a", "Personal success shown by competence that others recognise."),
    "power": (("self-enhancement",), "#e07b26", "Status and prestige, control over people and resources."),
    "security": (("conservation",), "#b99a10", "Safety, stability and order of society, of relations and of oneself."),
    "conformity": (("conservation",), "#7da21c", "Restraint of acts that would upset others or break norms."),
    "tradition": (("conservation",), "#2f9e57", "Respect for and commitment to inherited customs and faith."),
    "benevolence": (("self-transcendence",), "#17929b", "Care for the welfare of the people one is close to."),
    "universalism": (
        ("self-transcendence",),
        "#3472c9",
        "Understanding, tolerance and protection of all people and of nature.",
    ),
}

#: The ten values in circle order; every matrix in neva_tl has its rows and columns in this order.
VALUES: tuple[str, ...] = tuple(_THEORY)
N_VALUES = len(VALUES)
#: Degrees between neighbours.
STEP = 360.0 / N_VALUES
#: The four higher-order groups; hedonism belongs to both its neighbours.
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name, (groups, _, _) in _THEORY.items() if group in groups)
    for group in ("openness", "self-enhancement", "conservation", "self-transcendence")
}


@dataclass(frozen=True)
class Value:
    """One basic value of Schwartz's theory.

    Attributes:
        name: Lower-case name, as in `VALUES`.
        index: Index in circle order, 0 to 9.
        angle: Position on the circle, in degrees.
        groups: Higher-order groups, one or two.
        definition: Meaning of the value, in one sentence.
        neighbours: Names of the two adjacent values.
        opposites: Names of the values on the opposite side of the circle.
        colour: Colour of figures, as `#rrggbb`.
    """

    name: str
    index: int
    angle: float
    groups: tuple[str, ...]
    definition: str
    neighbours: tuple[str, str]
    opposites: tuple[str, ...]
    colour: str


def value(name: str) -> Value:
    """Look up a value.

    Args:
        name: One of `VALUES`, in any spelling (`Self-Direction`, `self_direction`).

    Raises:
        InputError: The name is not one of the ten; the message lists them.
    """
    match = spelling(name, VALUES)
    if match is None:
        hint = did_you_mean(name, VALUES)
        raise InputError(f"unknown value {describe(name)}: {hint}Schwartz's ten values are {', '.join(VALUES)}")
    name = match
    index = VALUES.index(name)
    groups, colour, definition = _THEORY[name]
    return Value(
        name=name,
        index=index,
        angle=index * STEP,
        groups=groups,
        definition=definition,
        neighbours=(VALUES[index - 1], VALUES[(index + 1) % N_VALUES]),
        opposites=(VALUES[(index + N_VALUES // 2) % N_VALUES],),
        colour=colour,
    )


def _spelled(name: object) -> str:
    if not isinstance(name, str):
        raise Unfit
    return spelling(name, VALUES) or name


#: The name of a value in the signature of a public function, which takes any spelling of it (`check_arguments`).
ValueName = Annotated[str, Kind("the name of a value, such as 'power'", _spelled)]


def circular_distance(a: str, b: str) -> float:
    """Compute the smaller arc between two values, in degrees: 0 to 180.

    Args:
        a: Name of a value.
        b: Name of another.
    """
    steps = abs(value(a).index - value(b).index)
    return STEP * min(steps, N_VALUES - steps)


def distance_matrix(wedge: bool = False) -> Float[np.ndarray, "10 10"]:
    """Compute all pairwise arcs in degrees, in circle order.

    Args:
        wedge: Put conformity and tradition at one shared angle (their wedge in the theory) and the other values at equal
            steps of 40 degrees on nine positions.
    """
    positions = np.arange(N_VALUES, dtype=float)
    count = N_VALUES
    if wedge:
        positions[VALUES.index("tradition") :] -= 1
        count = N_VALUES - 1
    steps = np.abs(positions[:, None] - positions[None, :])
    return np.minimum(steps, count - steps) * (360.0 / count)


def same_group(a: str, b: str) -> bool:
    """Test whether two values share a higher-order group (hedonism belongs to two).

    Args:
        a: Name of a value.
        b: Name of another.
    """
    return bool(set(value(a).groups) & set(value(b).groups))


def in_circle_order(names: Iterable[object]) -> tuple[str, ...]:
    """Sort distinct names along the circle.

    Args:
        names: Names of values; repeated ones count once.

    Raises:
        InputError: A name is not one of the ten values.
    """
    distinct = {value(name).name for name in sorted(map(str, names))}
    return tuple(name for name in VALUES if name in distinct)
