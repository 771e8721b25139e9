"""Identity by content: equal for equal content in any process, different for any difference that matters."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neva_tl.core.content_hash import content_hash
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import (
    Ablate,
    AddVector,
    Amplify,
    ContextAware,
    LayerProbe,
    RelevanceGate,
    Rescale,
    RolePrompt,
    Scale,
)
from neva_tl.editing import identity as exported

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def canonical(x):
    """What must tell two contents apart, written as Python's own comparison of nested tagged tuples."""
    if isinstance(x, bool) or x is None:
        return ("fact", x)
    if isinstance(x, int | float):
        return ("number", x)
    if isinstance(x, str | bytes):
        return (type(x).__name__, x)
    if isinstance(x, dict):
        return ("dict", frozenset((k, canonical(v)) for k, v in x.items()))
    return ("list", tuple(map(canonical, x)))


@given(plain, plain)
def test_equal_content_is_equal_and_other_content_is_not(a, b):
    assert (content_hash(a) == content_hash(b)) == (canonical(a) == canonical(b))
    if isinstance(a, dict):
        assert content_hash(a) == content_hash(dict(reversed(a.items())))


def test_neighbours_do_not_read_alike():
    things = [
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        "abc",
        b"abc",
        [["abc"]],
        [],
        {},
        set(),
        "",
        None,
        0,
        False,
        "0",
        [0, 0],
    ]
    things += [
        np.zeros(2),
        np.zeros(2, np.float32),
        np.zeros((2, 1)),
        np.zeros(2, int),
        torch.zeros(2),
        float("nan"),
        1e300,
    ]
    assert len({content_hash(thing) for thing in things}) == len(things)
    assert content_hash(2) == content_hash(2.0) == content_hash(np.float64(2))
    assert content_hash(np.inf) != content_hash(-np.inf)


def test_tables_by_content():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert content_hash(table) == content_hash(table.copy())
    others = [table.assign(a=[1.0, 2.0]), table[["b", "a"]], table.iloc[::-1], table.rename(columns={"a": "c"})]
    assert len({content_hash(t) for t in [table, *others]}) == 5


def neurons(seed: int = 0, **changes) -> NeuronSet:
    rng = np.random.default_rng(seed)
    df = pd.DataFrame({"layer": [0, 0, 1], "neuron": [1, 2, 3], "mean_plus": rng.random(3), "mean_minus": 0.0})
    df = df.assign(sd=1.0, score=[3.0, 2.0, 1.0])
    return NeuronSet(
        **({"value": "power", "method": "m", "df": df, "n_layers": 2, "d_mlp": 8, "settings": {"k": 3}} | changes)
    )


def edits() -> dict[str, object]:
    gate = RelevanceGate((0, 1), np.ones((2, 8), np.float32), np.zeros(2), np.zeros(2), np.zeros(2))
    probe = LayerProbe(0, np.array([1, 2]), np.ones(2), 0.5, np.ones(2))
    shift = Amplify(neurons(), dose=2.0)
    return {
        "shift": shift,
        "other dose": shift.with_dose(2.5),
        "other scope": shift.with_scope("last"),
        "behind a gate": shift.with_gate(gate),
        "behind another threshold": shift.with_gate(gate.at(0.6)),
        "other neurons": Amplify(neurons(1), dose=2.0),
        "fewer neurons": Amplify(neurons().head(2), dose=2.0),
        "other value": Amplify(neurons(value="security"), dose=2.0),
        "scale": Scale(neurons(), dose=2.0, effects="all"),
        "rescale": Rescale(neurons(), dose=2.0),
        "rescale by weight": Rescale(neurons(), dose=2.0, weights="score"),
        "rescale with a bound": Rescale(neurons(), dose=2.0, lowest=0.0),
        "ablate": Ablate(neurons(), dose=2.0, effects="all"),
        "ablate by mean": Ablate(neurons(), dose=2.0, effects="all", mode="mean"),
        "vector": AddVector({2: np.ones(4), 1: np.zeros(4)}),
        "vector in single precision": AddVector({2: np.ones(4, np.float32), 1: np.zeros(4, np.float32)}),
        "other layer": AddVector({3: np.ones(4), 1: np.zeros(4)}),
        "context": ContextAware(neurons(), (probe,)),
        "other probe": ContextAware(neurons(), (replace(probe, lowest=0.0),)),
        "role": RolePrompt("Be kind."),
        "other role": RolePrompt("Be bold."),
    }


def test_every_difference_between_edits_shows_and_a_second_making_does_not():
    made = {name: exported(edit) for name, edit in edits().items()}
    assert len(set(made.values())) == len(made)
    assert made == {name: exported(edit) for name, edit in edits().items()}
    swapped = AddVector({1: np.zeros(4), 2: np.ones(4)})
    assert exported(swapped) == made["vector"]


def test_the_same_in_another_process(tmp_path):
    """Saved, loaded in another process (with another hash seed), and still itself."""
    neurons().save(tmp_path / "set")
    code = (
        "import sys; from neva_tl.core.neuron_set import NeuronSet; from neva_tl.core.content_hash import content_hash\n"
        "print(content_hash(NeuronSet.load(sys.argv[1])), content_hash({'a', 'b', 'c'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "set")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [content_hash(NeuronSet.load(tmp_path / "set")), content_hash({"c", "b", "a"})]


def test_what_cannot_be_told_is_refused_by_name():
    with pytest.raises(InputError, match=r"Scale\.neurons\.settings\[1\] holds a function"):
        content_hash(Scale(neurons(settings={"score": lambda x: x}), effects="all"))
    with pytest.raises(InputError, match=r"list\[1\] holds a object"):
        content_hash([1, object()])
