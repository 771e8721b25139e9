"""Models whose MLP is not what neuron edits need."""

from __future__ import annotations

from pathlib import Path

import pytest

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import facts

pytestmark = pytest.mark.core


def test_a_wrong_width_at_hook_post_is_refused(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap of architectures whose `hook_post` is the block's output: the widths disagree."""
    model = models.load(folders["llama"])
    monkeypatch.setattr(facts, "_n_neurons", lambda model: 999)
    facts.MEMO._facts.pop(model)
    with pytest.raises(InputError, match="expected once with d_mlp = 999"):
        models.check_mlp(model)
