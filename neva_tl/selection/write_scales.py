"""Scales of the norms after a model's MLPs, which give the writes of neurons of different layers one unit."""

from __future__ import annotations

import numpy as np

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.attribution.outputs import normalises_outputs, output_scales
from neva_tl.core.errors import InputError
from neva_tl.prompts.contrast import examples_of

#: Number of texts on which the scales are measured.
TEXTS = 64


def write_scales(stats: ActivationStats, model: models.Model) -> tuple[float, ...]:
    """Divisor of the norm after each layer's MLP on texts of the statistics; 1 where a model has no such norms.

    Args:
        stats: Activation statistics, with the samples of a contrast set where the model has such norms (Gemma 2, OLMo 2).
        model: The model.

    Raises:
        InputError: The model has such norms, and the statistics hold no texts to measure them on.
    """
    if not normalises_outputs(model):
        return (1.0,) * len(model.blocks)
    if stats.samples is None or "text" not in stats.samples.table:
        raise InputError(
            f"{models.info(model).name} normalises what its MLPs write, and the norms' scales are measured on the training "
            "texts: collect with samples=True (or a path)"
        )
    table = stats.samples.table
    rows = np.random.default_rng(0).permutation(len(table))[:TEXTS]
    return output_scales(model, examples_of(table.iloc[np.sort(rows)]))
