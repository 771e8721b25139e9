"""Responses: shapes that are refused, items that do not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.planted_responses import planted
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.cluster_sums import cluster_sums
from neva_tl.evaluation.measures.responses import Responses


def plain_draw(responses: Responses) -> np.ndarray:
    sums = cluster_sums(responses)
    return formulas.effects(sums, [np.ones((1, len(names))) for names in sums.names])[0]


def test_excluded_items_do_not_count():
    base = tuple(np.zeros(4) for _ in VALUES)
    edited = tuple(np.array([[1.0, 1.0, 0.0, 0.0]]) for _ in VALUES)
    clusters = tuple(np.array(list("abcd")) for _ in VALUES)
    excluded = tuple(np.array([[False, False, j == 0, j == 0]]) for j in range(10))
    responses = Responses("m", ("power",), base, edited, clusters, shared=True, excluded=excluded)
    d = plain_draw(responses)
    assert d[0, 0] == 1.0 and d[0, 1] == 0.5


def test_bad_shapes_are_refused():
    d = np.diag(np.full(10, 0.5))
    good = planted(d)
    with pytest.raises(InputError, match="no items measure"):
        replace(good, base=(np.zeros(0), *good.base[1:]))
    with pytest.raises(InputError, match="expected edited scores"):
        replace(good, edited=tuple(e[:3] for e in good.edited))
    with pytest.raises(InputError, match="not measured"):
        _ = planted(d[:, :9], values=VALUES[:9]).target
