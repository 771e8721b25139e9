"""Random graphs of a circuit's size."""

from __future__ import annotations

from typing import Any

import torch

from neva_tl.circuits import Nodes


def test_random_graphs_have_as_many_heads_and_neurons(model: Any) -> None:
    nodes = Nodes.of(model, heads=[(0, 1), (2, 2)], neurons=[(1, 3), (1, 4), (2, 0)])
    drawn = nodes.random_like(torch.Generator().manual_seed(1))
    assert int(drawn.heads.sum()) == 2 and int(drawn.neurons.sum()) == 3
    assert not torch.equal(drawn.flat(), nodes.flat())
