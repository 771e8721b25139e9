"""Colours of values that colour-blind readers can tell apart.

The theories keep the colours of their first version, because records of runs and cache keys contain them; figures replace those.
All pairs of a set are at least 12 apart in CIELAB, as seen with normal vision, without red and without green cones (the sets
come from a search that starts at the theory's own colours and keeps close to them).
"""

from __future__ import annotations

from neva_tl.core.theories import THEORIES, ValueTheory
from neva_tl.core.theories.palette import PALETTE

#: For theories without colours of their own, in the order of `PALETTE`.
BY_POSITION = (
    "#3c7cd4", "#d97d43", "#1a9f65", "#de4593", "#5c44c0", "#b59205",
    "#1f97a4", "#ea5b5e", "#547d05", "#a737a9", "#835435", "#5f6876",
)  # fmt: skip
#: Theory -> colours in its order.
BY_THEORY: dict[str, tuple[str, ...]] = {
    "schwartz": (
        "#704cc9", "#aa39a9", "#d8418b", "#d64a4f", "#d77b44",
        "#b29205", "#577a05", "#2ea76f", "#19929b", "#5c80d2",
    ),
    "schwartz20": (
        "#5c29a5", "#a879f4", "#93299c", "#d03a8b", "#b02338", "#c1533c", "#f47e47", "#a7810b", "#896905", "#b0a505",
        "#72b24d", "#54b36d", "#299255", "#2ea179", "#1e959f", "#258bb1", "#2a89c9", "#126ab9", "#1264cf", "#2450d5",
    ),
}  # fmt: skip


def figure_colour(theory: ValueTheory, name: str) -> str:
    """Return the colour of a value in figures: the theory's, replaced where it is one of the package's own.

    Args:
        theory: Theory that has the value.
        name: Name of the value.
    """
    colour = theory.value(name).colour
    built_in = THEORIES.get(theory.name)
    if theory.name in BY_THEORY and built_in is not None and name in built_in and built_in.value(name).colour == colour:
        return BY_THEORY[theory.name][built_in.index(name)]
    return BY_POSITION[PALETTE.index(colour)] if colour in PALETTE else colour
