"""Persona vectors: where they are `caa`, and where they differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.residuals import raw_mean_residuals
from neva_tl.activations import collect
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector
from neva_tl.methods import Evidence, build
from neva_tl.methods.caa import default_layers
from neva_tl.prompts import ContrastSet

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def of_last(evidence: Evidence, pairs: ContrastSet) -> Evidence:
    """The same evidence, collected at the answers' last token."""
    return replace(evidence, stats=collect(evidence.model, pairs, samples=True, pooling="last"))


def vectors(method: str, evidence: Evidence) -> dict[int, np.ndarray]:
    item = build(method, evidence, "power")
    assert isinstance(item, AddVector)
    return dict(item.vectors)


def test_with_means_over_the_answer_it_is_caas_vector_in_a_wider_scope(evidence: Evidence) -> None:
    assert evidence.stats.pooling == "mean"
    np.testing.assert_array_equal(vectors("persona_vector", evidence)[1], vectors("caa", evidence)[1])
    scopes = {
        name: build("persona_vector", replace(evidence, scope=name), "power").scope
        for name in ("generated", "last", "all", "prompt")
    }
    assert scopes == {"generated": "last", "last": "last", "all": "all", "prompt": "prompt"}
    assert build("caa", evidence, "power").scope == "generated"


def test_it_averages_the_answer_where_the_study_reads_its_last_token(
    evidence: Evidence, of_last: Evidence, folder: Path, pairs: ContrastSet
) -> None:
    means = raw_mean_residuals(folder, pairs, 1)
    want = means["power", "+"] - means["power", "-"]
    got = vectors("persona_vector", of_last)[1]
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())
    assert np.abs(vectors("caa", of_last)[1] - want).max() > 0.1 * np.abs(want).max()


def test_one_layer_is_edited_with_the_full_difference(evidence: Evidence) -> None:
    got = vectors("persona_vector", replace(evidence, layers=(2, 0, 1)))
    np.testing.assert_allclose(got[1], evidence.stats.direction("power")[1], rtol=1e-6)
    assert list(got) == [1] and len(vectors("caa", replace(evidence, layers=(2, 0, 1)))) == 3
    assert tuple(vectors("persona_vector", replace(evidence, layers=None))) == default_layers(3)


def test_without_texts_another_pooling_is_refused(of_last: Evidence) -> None:
    bare = replace(of_last, stats=replace(of_last.stats, samples=None, texts=None))
    with pytest.raises(InputError, match="persona_vector reads the training texts again"):
        build("persona_vector", bare, "power")
