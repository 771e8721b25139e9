"""A study so small that it runs in seconds: a random chat model, and pairs whose poles differ in their words."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neva_tl.core import dictionary
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study import Study, StudyResult
from neva_tl.study.run import tables
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer

#: What the two poles say; a random model tells them apart by their tokens, which is all that these tests need.
ANSWERS = {
    "power": ("Take command of the {thing} and rule.", "Let others lead the {thing} today."),
    "tradition": ("Keep the {thing} as the elders did.", "Throw out the {thing}, it is old."),
}
WORDS = (
    "bridge mill farm harbour market garden school choir tower council forge bakery library theatre orchard boat road "
    "well stable shop field kitchen office club"
)
THINGS = WORDS.split()
#: Everything as small as the study allows.
SMALL = {
    "validation": 4,
    "test": 6,
    "neutral": 2,
    "n_boot": 50,
    "rows_per_value": 10,
    "refine": 1,
    "targets": (0.2,),
    "max_new_tokens": 4,
    "text_values": 1,
    "text_prompts": 1,
}
METHODS = ("neva_shift", "caa", "random", "role")


@pytest.fixture(scope="session", autouse=True)
def _described_tables() -> Iterator[None]:
    """Every column that a study or an analysis writes into a table of the data dictionary is described there."""
    write = RunFolder.write_table

    def checked(self: RunFolder, name: str, df: pd.DataFrame, csv: bool = True) -> Path:
        table = dictionary.tables().get(name.removeprefix("tables/"))
        if name.startswith("tables/") and table is not None:
            unknown = [line for line in table.differences(df.columns) if "not in the dictionary" in line]
            assert not unknown, f"{unknown}: describe it in neva_tl/core/dictionary.toml"
        return write(self, name, df, csv)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "write_table", checked)
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random chat model of three layers."""
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "chatty", chat=True, n_ctx=1024)


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 question-and-answer pairs for each of two values, in our own schema."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["value", "pair_id", "pole", "text", "answer_start", "answer_end", "cluster"])
        for value, answers in ANSWERS.items():
            for thing in THINGS:
                question = f"What about the {thing}?"
                for pole, answer in zip("+-", answers, strict=True):
                    text = f"{question} {answer.format(thing=thing)}"
                    start = len(question) + 1
                    table.writerow([value, f"{value}/{thing}", pole, text, start, len(text), f"{value}/{thing}"])
    return path


@pytest.fixture(scope="session")
def tiny_model(checkpoint: Path) -> Any:
    """The loaded model."""
    import neva_tl as nv

    return nv.load(checkpoint)


@pytest.fixture(scope="session")
def small_study(tiny_model: Any, pairs_file: Path) -> Callable[..., Study]:
    """Makes the small study, with some options changed; `profile_*` options are overrides of the profile."""

    def make(**options: Any) -> Study:
        overrides = {**SMALL, **options.pop("overrides", {})}
        settings: dict[str, Any] = {"prompts": str(pairs_file), "values": ("power", "tradition"), "methods": METHODS}
        return Study(tiny_model, overrides=overrides, **{**settings, **options})

    return make


@pytest.fixture(scope="session")
def finished(small_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """The small study, run without interruption; without figures, which take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_figures", lambda cells, jobs: None)
        return small_study().run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="session")
def neva_run(small_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study with both neuron methods and both plain vectors, finished; tests work on copies of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_figures", lambda cells, jobs: None)
        methods = ("neva", "neva_shift", "caa", "caa_projected")
        return small_study(methods=methods).run(tmp_path_factory.mktemp("runs") / "neva").folder


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets so many conditions be observed from now on; the next one is interrupted as by Ctrl-C."""
    observe, left = Scorer.observe, 0

    def fragile(self: Scorer, *args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return observe(self, *args, **options)

    def allow(conditions: int) -> None:
        nonlocal left
        left = conditions
        monkeypatch.setattr(Scorer, "observe", fragile)

    return allow
