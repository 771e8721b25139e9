"""Selection: from activation statistics to the neurons that carry a value.

One file per selector.

`select(stats, value, method=...)` looks the selector up in `SELECTORS`; a new one is a new file and one line in
`selectors.py`.
"""

from neva_tl.selection.base import Request, SelectionWarning, default_k
from neva_tl.selection.effect_size import effect_table
from neva_tl.selection.nested import NestedEffect, nested_bootstrap
from neva_tl.selection.neva import write_table
from neva_tl.selection.random_neurons import random_like
from neva_tl.selection.registry import SELECTORS, Selector, register
from neva_tl.selection.selectors import select
from neva_tl.selection.shuffled import label_shuffled
from neva_tl.selection.stability import Stability, stability

__all__ = [
    "SELECTORS",
    "NestedEffect",
    "Request",
    "SelectionWarning",
    "Selector",
    "Stability",
    "default_k",
    "effect_table",
    "label_shuffled",
    "nested_bootstrap",
    "random_like",
    "register",
    "select",
    "stability",
    "write_table",
]
