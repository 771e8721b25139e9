"""The training recipe of the demo model: plain next-word loss, nothing that shapes neurons.

The texts are the train split of the process's world; in the first part of training some are drills (see
`neutral.make_drill`). A model can also go on from another's weights: a world that shares more or fewer words is learned in
minutes, since all but the words is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Sizes and optimisation of the demo model. Lengths in tokens, `warmup` in steps.

    `drills`: (until this share of the steps, share of texts that are drills); none after the last. Without them a model of
    this size does not learn to look facts up within the time: the world's stories give too few words to learn it from.
    """

    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    d_mlp: int = 384
    n_ctx: int = 128
    steps: int = 4000
    batch: int = 16
    lr: float = 2e-3
    lr_last: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.05
    beta2: float = 0.98
    clip: float = 1.0
    init: float = 0.06
    drills: tuple[tuple[float, float], ...] = ((0.35, 0.5), (0.7, 0.25))
    threads: int = 2


RECIPE = Recipe()

#: From trained weights: a lower peak, so that what is known is not lost, and no drills, since looking up is known too.
CONTINUED = replace(RECIPE, lr=5e-4, drills=())
