"""Top contexts against raw hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import neva_tl as nv
from helpers.planted_circuits import texts
from neva_tl import models
from neva_tl.circuits import top_contexts
from neva_tl.core.errors import InputError
from neva_tl.models import inference


def test_top_contexts_are_the_largest_activations(model: Any) -> None:
    examples, _ = texts(4, 8)
    corpus = [example.answer for example in examples]
    contexts = top_contexts(model, [(1, 3), (2, 7)], corpus, k=3, before=2, after=1, signs=[1, -1])
    for (layer, index), sign in (((1, 3), 1), ((2, 7), -1)):
        peaks = []
        for text in corpus:
            activations: list[torch.Tensor] = []
            handle = models.add_hook(
                model,
                models.hook_name(model, layer, "post"),
                lambda x, hook=None, s=activations: s.append(x[0].clone()),
            )
            inference.forward_batch(model, inference.encode(model, [nv.prompts.Example("", text)]))
            handle.remove()
            peaks.append(float((sign * activations[0][:, index]).max()))
        # by height: texts may tie
        assert [sign * item.peak for item in contexts[layer, index]] == pytest.approx(sorted(peaks)[::-1][:3], abs=1e-5)
        assert len({item.text for item in contexts[layer, index]}) == 3
        for item in contexts[layer, index]:
            assert sign * item.peak == pytest.approx(peaks[item.text], abs=1e-5)
            assert len(item.tokens) <= 4 and item.activations[item.at] == item.peak
    with pytest.raises(InputError, match="does not exist"):
        top_contexts(model, [(0, 4000)], corpus)
