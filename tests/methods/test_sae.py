"""SAE features: ranked by contrast and specificity, pooled as the statistics are, once for all values."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.statistics import hedges_g, moments
from neva_tl.editing.saved import load_edit, save_edit
from neva_tl.methods import Evidence, build, sae, sae_features
from neva_tl.methods.sae_files import SparseAutoencoder
from neva_tl.methods.sae_residuals import token_residuals, trained_sae
from neva_tl.methods.texts import residuals

pytestmark = pytest.mark.core


def test_features_are_the_texts_means_ranked_by_hand(evidence: Evidence) -> None:
    """With `pooling="last"` a text is one token, so that its features can be encoded here."""
    last = replace(evidence, stats=replace(evidence.stats, pooling="last"))
    assert last.stats.samples is not None and evidence.sae is not None
    table = last.stats.samples.table
    coder = SparseAutoencoder.load(Path(evidence.sae))
    x = residuals(last, np.arange(len(table)), (1,), "last", "test")[1]
    values, features = coder.top(torch.tensor(x).float())
    z = np.zeros((len(table), coder.n_features))
    np.put_along_axis(z, features.numpy(), values.numpy(), axis=1)

    def g(value: str) -> np.ndarray:
        poles = [moments(z[((table["value"] == value) & (table["pole"] == pole)).to_numpy()]) for pole in "+-"]
        sd = np.sqrt((poles[0].m2 + poles[1].m2) / (poles[0].n + poles[1].n - 2))
        return np.where(sd > 1e-4 * np.maximum(poles[0].mean, poles[1].mean), hedges_g(poles[0], poles[1]).g, 0.0)

    target = g("power")
    leak = np.max([np.sign(target) * g(name) for name in ("benevolence", "security")], axis=0)
    score = np.abs(target) - np.maximum(0, leak)
    want = {f for f in np.flatnonzero(score > 0).tolist() if target[f] != 0}
    found = sae_features(last, "power")
    features = found["feature"].to_numpy()
    # the last bits of a pass decide between equal scores, and about scores of 0
    assert len(want) > 3 and all(score[f] < 1e-3 for f in want.symmetric_difference(features.tolist()))
    np.testing.assert_allclose(found["score"], score[features], rtol=1e-3, atol=1e-4)
    assert (np.diff(score[features]) < 1e-3).all(), "best first"
    assert (sae_features(evidence, "power")["g"].to_numpy() != found["g"].to_numpy()[0]).any(), "mean pooling differs"


def test_can_be_saved_and_suppresses_at_a_negative_dose(evidence: Evidence, tmp_path: Path) -> None:
    item = build("sae", evidence, "power").with_dose(-2.0)
    assert item.name == "sae" and sorted(item.vectors) == [1]  # type: ignore[attr-defined]
    again = load_edit(save_edit(item, tmp_path / "saved", model=evidence.model), model=evidence.model).edit
    assert again.dose == -2.0 and np.array_equal(again.vectors[1], item.vectors[1])  # type: ignore[attr-defined]


def test_a_folder_of_another_width_is_refused(evidence: Evidence, tmp_path: Path) -> None:
    eye = torch.eye(3)
    other = SparseAutoencoder(eye, torch.zeros(3), eye, torch.zeros(3), 1).save(tmp_path / "layers.1")
    with pytest.raises(InputError, match="reads 3 dimensions of layer 1"):
        sae(replace(evidence, sae=str(other)), "power")


def test_tokens_leave_out_what_all_texts_begin_with(evidence: Evidence) -> None:
    fit, held_out = token_residuals(evidence, 1)
    assert fit.shape[1] == models.info(evidence.model).d_model and len(held_out) > 0
    # BOS gives one residual in every text; no two of the remaining rows of a text's first token may equal it
    rows = torch.cat([fit, held_out])
    assert len(torch.unique(rows.round(decimals=4), dim=0)) > 0.5 * len(rows)


def test_without_library_and_folder_one_line_says_what_helps(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sparsify", None)
    with pytest.raises(InputError, match=r"neva_tl\[sae\]"):
        sae(replace(evidence, sae=None), "power")


@pytest.mark.filterwarnings("ignore")
def test_trains_once_and_then_reads_the_cache(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sparsify")
    from neva_tl.methods.sae_training import SaeSettings

    settings = SaeSettings(expansion=2, k=4, steps=20, batch=128)
    bare = replace(evidence, sae=None)
    first = trained_sae(bare, 1, settings)
    monkeypatch.setitem(sys.modules, "sparsify", None)
    assert torch.equal(trained_sae(bare, 1, settings).decoder, first.decoder)
    with pytest.raises(InputError, match="needs eai-sparsify"):
        trained_sae(bare, 1, replace(settings, seed=1))
