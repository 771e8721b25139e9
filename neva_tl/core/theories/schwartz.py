"""Schwartz's ten basic human values: circle, groups, definitions, opposites.

The order and the four higher-order groups follow Schwartz (1992, 2012). Placing the ten values at equal steps of 36 degrees
is the usual approximation of the circle; definitions are in our own words. Conformity and tradition share one wedge in the
theory (tradition outside): `distance_matrix(wedge=True)` gives distances under that reading, with nine positions at equal
steps of 40 degrees.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from neva_tl.core.theories.theory import Value, ValueTheory

__all__ = [
    "GROUPS",
    "N_VALUES",
    "SCHWARTZ",
    "STEP",
    "VALUES",
    "Value",
    "circular_distance",
    "distance_matrix",
    "in_circle_order",
    "same_group",
    "value",
]

#: Name -> (groups, colour, definition). Colours follow the hue circle, so that neighbours look similar.
_ROWS: dict[str, tuple[tuple[str, ...], str, str]] = {
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

#: The ten values in circle order.
VALUES: tuple[str, ...] = tuple(_ROWS)
N_VALUES = len(VALUES)
#: Degrees between neighbours.
STEP = 360.0 / N_VALUES
#: Degrees between neighbours where tradition shares the position of conformity.
_WEDGE_STEP = 360.0 / (N_VALUES - 1)


def _wedge_position(index: int) -> int:
    return index - 1 if index >= VALUES.index("tradition") else index


#: The theory; every other name of this module reads it.
SCHWARTZ = ValueTheory(
    "schwartz",
    tuple(
        Value(
            name=name,
            definition=definition,
            angle=index * STEP,
            wedge_angle=_wedge_position(index) * _WEDGE_STEP,
            groups=groups,
            opposites=(VALUES[(index + N_VALUES // 2) % N_VALUES],),
            colour=colour,
        )
        for index, (name, (groups, colour, definition)) in enumerate(_ROWS.items())
    ),
    "Schwartz's ten basic human values (1992, 2012).",
)
#: The four higher-order groups; hedonism belongs to both its neighbours.
GROUPS: dict[str, tuple[str, ...]] = {
    group: SCHWARTZ.groups[group] for group in ("openness", "self-enhancement", "conservation", "self-transcendence")
}


def value(name: str) -> Value:
    """Look up one of the ten values.

    Args:
        name: Name of the value.

    Raises:
        InputError: The name is not one of the ten; the message lists them.

    Example:
        >>> nv.values.value("power").angle
        144.0
    """
    return SCHWARTZ.value(name)


def circular_distance(a: str, b: str) -> float:
    """Compute the smaller arc between two of the ten values, in degrees: 0 to 180.

    Args:
        a: Name of a value.
        b: Name of another.

    Example:
        >>> nv.values.circular_distance("power", "universalism")
        180.0
    """
    return SCHWARTZ.distance(a, b)


def distance_matrix(wedge: bool = False) -> Float[np.ndarray, "v v"]:
    """Compute all pairwise arcs in degrees, in circle order.

    Args:
        wedge: Put conformity and tradition at one shared angle (their wedge in the theory) and the other values at equal
            steps of 40 degrees on nine positions.

    Example:
        >>> nv.values.distance_matrix().shape, float(nv.values.distance_matrix().max())
        ((10, 10), 180.0)
    """
    return SCHWARTZ.distances(wedge)


def same_group(a: str, b: str) -> bool:
    """Test whether two of the ten values share a higher-order group (hedonism belongs to two).

    Args:
        a: Name of a value.
        b: Name of another.

    Example:
        >>> nv.values.same_group("power", "achievement"), nv.values.same_group("power", "benevolence")
        (True, False)
    """
    return SCHWARTZ.same_group(a, b)


def in_circle_order(names: Iterable[object]) -> tuple[str, ...]:
    """Sort distinct names of the ten values along the circle.

    Args:
        names: Names of values; repeated ones count once.

    Raises:
        InputError: A name is not one of the ten values.

    Example:
        >>> nv.values.in_circle_order(["power", "hedonism"])
        ('hedonism', 'power')
    """
    return SCHWARTZ.in_order(names)
