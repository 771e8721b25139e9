"""The training recipe of the demo model: plain next-word loss, nothing that shapes neurons.

The texts are the train split of the process's world; in the first part of training some are drills (see
`neutral.make_drill`). Training can also start from another model's weights: a world with another border rate then takes
minutes, because only the words are new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Sizes and optimisation of the demo model.

    Without drills a model of this size does not learn to look up facts within the training time: the world's stories provide
    too few words for it.

    Attributes:
        d_model: Width of the residual stream.
        n_layers: Number of blocks.
        n_heads: Attention heads per block.
        d_mlp: Neurons per block.
        n_ctx: Context length, in tokens.
        steps: Optimisation steps.
        batch: Contexts per step.
        lr: Peak learning rate.
        lr_last: Learning rate of the last step.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of matrices.
        beta2: Second beta of AdamW.
        clip: Largest gradient norm.
        init: Standard deviation of initial weights.
        drills: (end as a share of the steps, share of drills among the texts), in order; no drills after the last end.
        threads: Processor threads.
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

#: Recipe for training from trained weights: a lower peak, which preserves their knowledge, and no drills, because the model
#: can already look up facts.
CONTINUED = replace(RECIPE, lr=5e-4, drills=())
