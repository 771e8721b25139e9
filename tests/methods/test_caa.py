"""CAA against NumPy on raw residuals, and projection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.residuals import raw_mean_residuals
from neva_tl.editing import AddVector
from neva_tl.methods import Evidence, build
from neva_tl.methods.caa import default_layers, project_out
from neva_tl.prompts import ContrastSet

pytestmark = pytest.mark.core


def test_caa_is_the_mean_difference_of_raw_residuals(evidence: Evidence, folder: Path, pairs: ContrastSet) -> None:
    means = raw_mean_residuals(folder, pairs, 1)
    item = build("caa", evidence, "power")
    assert isinstance(item, AddVector) and list(item.vectors) == [1]
    assert (item.scope, item.dose, item.name) == ("generated", 1.0, "caa")
    want = means["power", "+"] - means["power", "-"]
    np.testing.assert_allclose(item.vectors[1], want, atol=1e-4 * np.abs(want).max())


def test_projected_caa_is_orthogonal_to_the_other_values(evidence: Evidence, folder: Path, pairs: ContrastSet) -> None:
    means = raw_mean_residuals(folder, pairs, 1)
    plain, projected = (build(m, evidence, "power").vectors[1] for m in ("caa", "caa_projected"))  # type: ignore[attr-defined]
    assert np.linalg.norm(projected) == pytest.approx(np.linalg.norm(plain), rel=1e-5)
    for other in ("benevolence", "security"):
        d = means[other, "+"] - means[other, "-"]
        assert abs(projected @ d) / np.linalg.norm(projected) / np.linalg.norm(d) < 1e-4


def test_several_layers_share_one_dose(evidence: Evidence) -> None:
    item = build("caa", replace(evidence, layers=(0, 2)), "power")
    assert isinstance(item, AddVector) and sorted(item.vectors) == [0, 2]
    for layer, vector in item.vectors.items():
        np.testing.assert_allclose(vector, evidence.stats.direction("power")[layer] / 2, rtol=1e-5)
    assert list(build("caa", replace(evidence, layers=None), "power").vectors) == [default_layers(3)[0]]  # type: ignore[attr-defined]
    assert [default_layers(n)[0] for n in (1, 2, 11, 30)] == [0, 1, 6, 17]


matrices = st.integers(2, 8).flatmap(lambda d: st.tuples(st.just(d), st.integers(0, d + 2), st.integers(0, 2**32 - 1)))


@settings(max_examples=50, deadline=None)
@given(matrices, st.booleans())
def test_project_out(shape: tuple[int, int, int], repeat: bool) -> None:
    """Orthogonal to all of the others, same norm; zero when they leave no room. Repeated directions change nothing."""
    d, m, seed = shape
    rng = np.random.default_rng(seed)
    vector, others = rng.normal(size=d), rng.normal(size=(d, m))
    if repeat and m:
        # dependent columns in front of independent ones: what plain QR gets wrong
        others = np.concatenate([others[:, :1], 2 * others[:, :1], others], axis=1)
    got = project_out(vector, others)
    scale = np.linalg.norm(vector)
    assert np.abs(others.T @ got).max(initial=0.0) < 1e-6 * scale * max(1.0, np.abs(others).max(initial=0.0))
    if m < d:
        assert np.linalg.norm(got) == pytest.approx(scale, rel=1e-8)
        rest = vector - others @ np.linalg.lstsq(others, vector, rcond=None)[0] if m else vector
        np.testing.assert_allclose(got, rest * scale / np.linalg.norm(rest), atol=1e-6 * scale)
    else:
        assert (got == 0).all()


def test_project_out_of_a_repeated_direction_then_another() -> None:
    e = np.eye(3)
    others = np.stack([e[0], e[0], e[1]], axis=1)
    np.testing.assert_allclose(project_out(np.array([1.0, 2.0, 3.0]), others), [0, 0, np.sqrt(14)], atol=1e-12)
    np.testing.assert_allclose(project_out(e[0], others), 0)
