"""Planted truth: models with hand-written value neurons.

They measure selectors against a known answer.

`plant` writes neurons into any loaded model. `make_world` makes random models whose planted neurons have known population
effects, among neurons that are null by construction.
"""

from neva_tl.selection.planted.measure import measure_selectors, summary
from neva_tl.selection.planted.null import NullResult, null_table
from neva_tl.selection.planted.weights import Plant, embedding_direction, plant, token_direction
from neva_tl.selection.planted.world import World, make_world

__all__ = [
    "NullResult",
    "Plant",
    "World",
    "embedding_direction",
    "make_world",
    "measure_selectors",
    "null_table",
    "plant",
    "summary",
    "token_direction",
]
