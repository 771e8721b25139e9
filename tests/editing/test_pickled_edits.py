"""Edits survive pickle and copies: every class, with the same tokens afterwards."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251  (edits must survive a process pool)
from typing import Any

import numpy as np
import pytest

from neva_tl import models
from neva_tl.core.content_hash import content_hash
from neva_tl.editing import (
    Ablate,
    AddVector,
    Clamp,
    ContextAware,
    Edit,
    GateShift,
    LayerProbe,
    ProbedVector,
    PromptShift,
    RelevanceGate,
    Rescale,
    RewriteAnswer,
    RolePrompt,
    Scale,
    Shift,
    compose,
    edit,
    paced,
)
from neva_tl.editing.encoded import CLASSES
from neva_tl.editing.saved import SavedEdit
from neva_tl.models import inference

pytestmark = pytest.mark.core

AT = [(0, 3), (1, 7), (2, 40)]


def edits(model: Any, make_set: Any) -> list[Edit]:
    info, rng = models.info(model), np.random.default_rng(0)
    neurons = make_set(model, AT)
    gates = make_set(model, AT, site="gate")
    gates = gates.with_df(gates.df.assign(p_diff=[0.6, -0.4, 0.3], q95=1.0))
    n = info.n_layers
    gate = RelevanceGate(
        tuple(range(n)), rng.normal(size=(n, info.d_mlp)).astype(np.float32), *(np.zeros(n) for _ in range(3))
    )
    wide = rng.normal(size=info.d_model)
    probe = LayerProbe(1, np.arange(info.d_model), wide, -0.5, wide / (wide @ wide))
    narrow = LayerProbe(0, np.array([3]), np.ones(1), 0.1, np.ones(1))
    return [
        Shift(neurons, dose=3.0),
        Shift(neurons, dose=3.0, scope="last", gate=gate),
        Scale(neurons, dose=3.0),
        Ablate(neurons, mode="resample", seed=3),
        Clamp(neurons, dose=2.0),
        Rescale(neurons, dose=2.0, lowest=0.0),
        GateShift(gates, dose=1.5),
        ContextAware(neurons, (narrow,), dose=6.0),
        AddVector({1: wide}, dose=2.0),
        ProbedVector((probe,), dose=6.0),
        PromptShift((probe,), dose=6.0),
        compose([Shift(neurons, dose=2.0), Shift(neurons, dose=1.0)]),
        paced(Shift(neurons, dose=3.0), half_life=3.0),
        RolePrompt("Be kind."),
        RewriteAnswer("Be kind."),
    ]


def test_every_class_round_trips_and_writes_the_same_tokens(tiny: Any, make_set: Any) -> None:
    def write(item: Edit) -> list[str]:
        with edit(tiny, item):
            return inference.generate(tiny, ["Who eats the bread?", "Why"], max_new_tokens=5, stop_at_eos=False)

    items = edits(tiny, make_set)
    assert {type(item).__name__ for item in items} == {name for name, kind in CLASSES.items() if issubclass(kind, Edit)}
    for item in items:
        for other in (pickle.loads(pickle.dumps(item)), copy.deepcopy(item)):
            assert type(other) is type(item) and content_hash(other) == content_hash(item)
            assert other.with_dose(0.5).dose == 0.5
            if isinstance(item, RolePrompt):
                assert other.rewrite("Why?") == item.rewrite("Why?")
            elif not isinstance(item, RewriteAnswer):
                assert write(other) == write(item), item


def test_a_loaded_edit_round_trips(make_set: Any, tiny: Any) -> None:
    saved = SavedEdit(Shift(make_set(tiny, AT)), models.fingerprint(tiny), {"value": "power"})
    other = pickle.loads(pickle.dumps(saved))
    assert other.model == saved.model and other.about == saved.about
    assert content_hash(other.edit) == content_hash(saved.edit)
