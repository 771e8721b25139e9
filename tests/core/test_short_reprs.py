"""Every public object prints in at most twelve lines, whatever it holds."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import neva_tl as nv
from helpers import fake_run
from helpers.public_inputs import EDITS, JUDGES, TASKS
from helpers.public_results import RESULTS, activation_stats
from neva_tl.core.brief import brief
from neva_tl.plots.showable import ResultTable, showable
from neva_tl.study import Profile, StudyConfig
from neva_tl.study.run.config import PROFILES
from neva_tl.study.run.run_folder import RunFolder

LINES, WIDTH = 12, 100


def reopened(folder: Path) -> nv.Run:
    return nv.Run(RunFolder(fake_run.write_run(folder)), StudyConfig(), {"model": {"name": "demo"}})


def large_table() -> ResultTable:
    columns = {f"column_{i}": np.arange(500) / 3 for i in range(40)}
    return showable(pd.DataFrame({"text": ["a long text " * 40] * 500, **columns}), "dose_response")


MADE = {
    **RESULTS, **EDITS, **JUDGES, **TASKS,
    nv.Example: lambda: nv.Example("a prompt " * 400, "an answer " * 400),
    nv.evaluation.Decoding: nv.evaluation.Decoding,
    nv.models.ModelInfo: lambda: nv.models.info(nv.load("demo")),
    nv.Study: lambda: nv.Study("demo"),
    nv.statistics.Overlap: lambda: nv.statistics.overlap({1, 2, 3}, {3, 4}, 100),
    Profile: lambda: PROFILES["text", "quick"],
    StudyConfig: lambda: nv.Study("demo").config,
    ResultTable: large_table,
    nv.ValueTheory: lambda: nv.theories.SCHWARTZ,
}  # fmt: skip
#: Made in a folder.
IN_FOLDER = {nv.study.StudyResult: lambda folder: nv.study.StudyResult(fake_run.write_run(folder)), nv.Run: reopened}
#: Classes with nothing to print: protocols, bases, handles with Python's own one-line repr, and errors.
WITHOUT = {
    "Edit", "NeuronEdit", "ModelJudge", "TextJudge", "HookHandle", "KVCache", "LayerCache", "Prefill", "PrefixCache",
    "TokenSession", "EditHandle",  # tests/editing/test_attach.py has a handle's
    "Look",  # keywords of a figure: its instances are plain dicts
}  # fmt: skip


def public_classes() -> set[type]:
    names = {name: getattr(nv, name) for name in nv.__all__}
    listed = [thing for thing in names.values() if inspect.isclass(thing)]
    for module in filter(inspect.ismodule, names.values()):
        listed += [getattr(module, name) for name in getattr(module, "__all__", ())]
    return {
        x
        for x in listed
        if inspect.isclass(x) and x.__module__.startswith("neva_tl") and not issubclass(x, Exception | Warning)
    }


def short(text: str) -> bool:
    return len([part for line in text.splitlines() for part in textwrap.wrap(line, WIDTH)]) <= LINES


@pytest.mark.parametrize("kind", list(MADE), ids=lambda c: c.__name__)
def test_reprs_of_instances_are_short(kind: type) -> None:
    thing = MADE[kind]()
    if thing is not None:
        lines = repr(thing).splitlines()
        assert len(lines) <= LINES if kind is ResultTable else short(repr(thing)), repr(thing)


@pytest.mark.parametrize("kind", list(IN_FOLDER), ids=lambda c: c.__name__)
def test_reprs_of_runs_are_short(kind: type, tmp_path: Path) -> None:
    text = repr(IN_FOLDER[kind](tmp_path / "run"))
    assert short(text) and "run" in text


def test_every_public_class_is_looked_at() -> None:
    """Those without an instance above print by `brief`, which is short for any content (next test)."""
    rest = {x for x in public_classes() - set(MADE) - set(IN_FOLDER) if x.__name__ not in WITHOUT}
    assert {x.__name__ for x in rest if x.__repr__ is not brief and not issubclass(x, tuple)} == set()
    large = np.zeros((300, 300))
    assert [x for x in rest if issubclass(x, tuple) and not short(repr(x(*[large] * len(x._fields))))] == []


def test_brief_is_short_whatever_the_fields_hold() -> None:
    large: list[Any] = [
        np.zeros((200, 300)), torch.zeros(200, 300), pd.DataFrame(np.zeros((200, 30))), "line\n" * 900, ["text " * 90] * 900,
        {f"key {i}": np.zeros((50, 50)) for i in range(900)}, activation_stats(), np.float64(1 / 3), None, "",
    ]  # fmt: skip
    names = [f"a_field_{i}" for i in range(30)]
    thing = dataclasses.make_dataclass("Thing", names)(*(large * 3))
    assert short(brief(thing))
    assert brief(dataclasses.make_dataclass("Small", ["a", "b", "_c", "d"])(np.float64(1 / 3), "x", 1, None)) == (
        "Small(a=0.333333, b='x')"
    )
    shaped = dataclasses.make_dataclass("Shaped", ["h", "table"])(
        np.zeros((3, 4), np.float32), pd.DataFrame({"x": [1, 2]})
    )
    assert brief(shaped) == "Shaped(h=<float32[3, 4]>, table=<table of 2 rows>)"


def test_an_edit_of_ones_own_prints_like_ours() -> None:
    @dataclasses.dataclass(frozen=True, eq=False)
    class Twice(nv.Scale):
        """Doubles twice."""

        extra: Any = dataclasses.field(default_factory=lambda: np.zeros(9999), kw_only=True)

    text = repr(Twice(EDITS[nv.Scale]().neurons, dose=4.0))
    assert text.startswith("Twice(power, neurons ") and "dose 4, scope all" in text
