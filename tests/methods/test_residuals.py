"""Residuals of training texts: what is held is what raw hooks see, and no text is run twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.residuals import raw_residuals
from neva_tl import models
from neva_tl.methods import Evidence, texts
from neva_tl.methods.residuals import TextResiduals
from neva_tl.models import inference
from neva_tl.prompts import ContrastSet

pytestmark = pytest.mark.core
ROWS = np.array([5, 0, 17, 5])


@pytest.mark.parametrize("most", [1 << 30, 0])
def test_residuals_are_those_of_raw_hooks_held_or_not(
    evidence: Evidence, folder: Path, pairs: ContrastSet, most: int
) -> None:
    table = evidence.stats.samples.table  # type: ignore[union-attr]
    assert list(table["text"].iloc[ROWS]) == list(pairs.df["text"].iloc[ROWS])
    fresh = replace(evidence, residuals=TextResiduals(most))
    for layer in (0, 2):
        each = raw_residuals(folder, pairs.df["text"].iloc[ROWS], layer)
        want = {"mean": np.stack([x[1:].mean(0) for x in each]), "last": np.stack([x[-1] for x in each])}
        for pooling in ("mean", "last"):
            found = texts.residuals(fresh, ROWS, (layer,), pooling, "test")[layer]
            np.testing.assert_allclose(found, want[pooling], atol=1e-4 * np.abs(want[pooling]).max())


def test_a_text_is_run_once(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    forward = inference.forward_batch

    def counted(model: object, batch: inference.Batch, **how: object) -> object:
        ran.append(len(batch.tokens))
        return forward(model, batch, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(inference, "forward_batch", counted)
    fresh = replace(evidence, residuals=TextResiduals())
    first = texts.residuals(fresh, ROWS, (1,), "mean", "test")[1]
    assert sum(ran) == 3  # one of the four is asked for twice
    again = texts.residuals(replace(fresh, seed=9), np.array([17, 3]), (0, 1), "last", "test")
    assert sum(ran) == 4 and set(again) == {0, 1}
    np.testing.assert_array_equal(texts.residuals(fresh, ROWS[2:3], (1,), "mean", "test")[1][0], first[2])
    assert sum(ran) == 4
    not_kept = replace(evidence, residuals=TextResiduals(0))
    for _ in range(2):
        texts.residuals(not_kept, ROWS[:2], (1,), "mean", "test")
    assert sum(ran) == 8


def test_what_is_held_is_bounded() -> None:
    held = TextResiduals(max_bytes=8 * 10 * 3 * 4)
    assert held.fits((10, 3, 4)) and not held.fits((11, 3, 4))
    assert not held.fits((10**6, 80, 8192))


def test_missing_texts_are_named_once_in_order() -> None:
    held = TextResiduals()
    assert list(held.missing(np.array([4, 1, 4]))) == [1, 4]
    part = np.arange(8.0).reshape(2, 2, 2)
    held.put((5, 2, 2), np.array([1, 4]), {"mean": part, "last": part + 1})
    assert list(held.missing(np.array([4, 0, 1, 3]))) == [0, 3]
    np.testing.assert_array_equal(held.read(np.array([4, 1]), 1, "last"), [[7, 8], [3, 4]])


def test_all_layers_are_held(evidence: Evidence) -> None:
    """Held for all layers, whichever are asked for first."""
    fresh = replace(evidence, residuals=TextResiduals())
    texts.residuals(fresh, ROWS, (0,), "mean", "test")
    info = models.info(evidence.model)
    assert fresh.residuals.read(ROWS, info.n_layers - 1, "last").shape == (4, info.d_model)
