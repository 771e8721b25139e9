"""Optional parts of a study: each one broken in turn; the study ends, says why, and everything else is as it was."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.space_tokenizer import space_checkpoint
from neva_tl import circuits, models, selection
from neva_tl.attribution import value_tokens, without_token
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.values import VALUES
from neva_tl.editing import fit_relevance
from neva_tl.plots import files
from neva_tl.plots.files import FigureSpec
from neva_tl.prompts import Example
from neva_tl.study import Study, StudyResult
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.report import sections, write_report
from neva_tl.study.run import stages, tables
from neva_tl.study.run.cell_runner import CellRunner
from neva_tl.study.run.cost_meter import CostMeter
from neva_tl.study.run.optional import leave_out, left_out, optional, was_left_out
from neva_tl.study.run.run_folder import RunFolder

#: One word per asked value that the small vocabulary holds as a whole; none of hedonism's begins like one of them.
WORDS = {"power": "authority", "tradition": "ancestor", "benevolence": "help"}
ANSWERS = {
    "power": ("Take authority over the {0}.", "Let others lead the {0} today."),
    "tradition": ("Keep the {0} as each ancestor did.", "Throw out the {0}, it is old."),
    "benevolence": ("Help with the {0} for free.", "Ask for money at the {0}."),
}
THINGS = (
    "bridge",
    "mill",
    "farm",
    "market",
    "garden",
    "school",
    "choir",
    "tower",
    "council",
    "forge",
    "bakery",
    "library",
)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)


def reasons(folder: Path) -> dict[str, str]:
    """What results.json says was left out."""
    entries = json.loads((folder / "results.json").read_text())["left_out"]
    return {entry["part"]: entry["reason"] for entry in entries}


def section(folder: Path) -> str:
    """The text of the report's section 'Left out'."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<h2 id="missing">Left out</h2><ul>(.*?)</ul>', page, re.S)
    return html.unescape(re.sub("<[^>]+>", "\n", found[1])) if found else ""


def fail(message: str, error: type[Exception] = InputError) -> Callable[..., Any]:
    def broken(*args: Any, **options: Any) -> Any:
        raise error(message)

    return broken


# ------------------------------------------------------------ a vocabulary without the words of a value


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint in whose vocabulary no word of hedonism has a token."""
    return models.load(space_checkpoint(tmp_path_factory.mktemp("wordless") / "spaces", list(WORDS.values())))


def test_values_without_a_token_are_an_error_only_where_they_are_asked_for(wordless: Any) -> None:
    table = value_tokens(wordless, VALUES, strict=False)
    assert without_token(table, VALUES) == ("hedonism",)
    own = set(table.loc[~table["shared"], "value"])
    assert set(WORDS) <= own
    with pytest.raises(
        InputError, match="none of the words for hedonism gives a usable token in the tokenizer of spaces"
    ):
        value_tokens(wordless, VALUES)
    pd.testing.assert_frame_equal(
        value_tokens(wordless, tuple(WORDS)), value_tokens(wordless, tuple(WORDS), strict=False)
    )
    assert not len(value_tokens(wordless, ("hedonism",), strict=False))


def test_an_unknown_token_is_no_word(wordless: Any) -> None:
    words = {"power": ["authority"], "hedonism": ["\u6a02"]}
    assert set(value_tokens(wordless, tuple(words), words, strict=False)["value"]) == {"power"}


def test_a_study_of_three_values_ends_without_the_words_of_a_fourth(
    wordless: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_figures: None
) -> None:
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["value", "pair_id", "pole", "text", "answer_start", "answer_end", "cluster"])
        for value, answers in ANSWERS.items():
            for thing in THINGS:
                for pole, answer in zip("+-", answers, strict=True):
                    text = f"And the {thing}? {answer.format(thing)}"
                    start = text.index("?") + 2
                    table.writerow([value, f"{value}/{thing}", pole, text, start, len(text), f"{value}/{thing}"])
    small = {
        "validation": 3,
        "test": 4,
        "neutral": 1,
        "n_boot": 20,
        "rows_per_value": 8,
        "refine": 1,
        "targets": (0.2,),
    }
    small |= {"max_new_tokens": 3, "text_values": 1, "text_prompts": 1}
    options: dict[str, Any] = {"prompts": str(path), "methods": ("neva_shift", "caa"), "overrides": small}
    study = Study(wordless, values=(*WORDS, "stimulation"), **options)
    result = study.run(tmp_path / "run")
    told = reasons(result.folder)
    assert told["Words of hedonism"] == (
        "none of them gives a usable token in the tokenizer of spaces, so circuits have no edges to this value"
    )
    assert told["Value stimulation"].endswith("pairs.csv has no prompts for it")
    assert not any(part.startswith("Circuit of") for part in told)
    assert set(result.table("circuit")["value"]) == set(WORDS) == set(result.results["values"])
    assert "hedonism" not in set(result.table("circuit")["token_value"])
    graph = json.loads((result.folder / "circuits/power.json").read_text())
    assert graph["meta"]["without_token"] == ["hedonism"]
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "hedonism" in line] == [
        f"left out: Words of hedonism: {told['Words of hedonism']}"
    ]
    for part, reason in told.items():
        assert f"{part}: {reason}." in section(result.folder)
        assert f"left out: {part}: {reason}" in result.text()
    study.run(tmp_path / "run")
    assert "left out" not in capsys.readouterr().err  # said once


# ------------------------------------------------------------ each part broken in turn


#: Part -> the files to make again, and how it is broken.
BROKEN: dict[str, tuple[tuple[str, ...], Callable[[pytest.MonkeyPatch], None], tuple[str, ...]]] = {
    "Effect sizes": (
        ("tables/effects.*",),
        lambda patch: patch.setattr(selection, "effect_table", fail("no such effects")),
        ("effects",),
    ),
    "Circuit of power": (
        ("tables/circuit.*", "circuits/*"),
        lambda patch: patch.setattr(circuits, "circuit", fail("no such circuit")),
        ("circuit",),
    ),
    "Capability": (
        ("cells/base.json", "cells/measure/*/*.json"),
        lambda patch: patch.setattr(CostMeter, "capability", fail("no such text")),
        ("methods",),
    ),
    "Fluency": (
        ("cells/base.json",),
        lambda patch: patch.setattr(CostMeter, "fluency", fail("no such fluency")),
        (),
    ),
    "Ablation of power": (
        ("cells/ablation/*",),
        lambda patch: patch.setattr(CellRunner, "ablation", fail("no such ablation")),
        ("ablation",),
    ),
    "Texts": (
        ("cells/texts/*/*", "tables/generations.*"),
        lambda patch: patch.setattr(CellRunner, "example_texts", fail("no such example")),
        ("generations",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("part", BROKEN)
def test_a_broken_part_costs_nothing_else(
    finished: StudyResult,
    small_study: Callable[..., Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
    part: str,
) -> None:
    again, broken, touched = BROKEN[part]
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    for pattern in (*again, "results.json"):
        for file in folder.glob(pattern):
            file.unlink()
    with monkeypatch.context() as patch:
        broken(patch)
        result = small_study().run(folder)
    why = reasons(folder)[part]
    assert why.startswith("no such") and f"{part}: {why}." in section(folder)
    assert "it cannot be shown" not in section(folder)
    for table in ("methods", "leakage", "dose", "values", "ablation", "effects", "neurons", "circuit", "generations"):
        if table not in touched:
            ours, theirs = (run.folder / "tables" / f"{table}.csv" for run in (result, finished))
            assert ours.read_bytes() == theirs.read_bytes(), table
    for name, entry in finished.results["methods"].items():
        fields = set(entry) - {"capability", "fluency"}
        assert {key: result.results["methods"][name][key] for key in fields} == {key: entry[key] for key in fields}
    if part == "Capability":
        assert all(entry["capability"] == {} for entry in result.results["methods"].values())
        assert result.table("methods")["ppl"].isna().all()
        assert "Capability under" not in " ".join(reasons(folder))  # one reason, not one per condition


def test_a_part_that_works_later_is_brought_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RunFolder(tmp_path)
    for _ in range(2):
        with optional(store, "Circuit of power"):
            raise InputError("no  tokens\nhere.")
    assert capsys.readouterr().err == "left out: Circuit of power: no tokens here\n"
    leave_out(store, "Words of hedonism", "none")
    assert left_out(store) == [
        {"part": "Circuit of power", "reason": "no tokens here"},
        {"part": "Words of hedonism", "reason": "none"},
    ]
    with optional(store, "Circuit of power"):
        pass
    assert not was_left_out(store, "Circuit of power") and len(left_out(store)) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), WorkError("the judge is down"), ZeroDivisionError()])
def test_other_errors_stop_the_study(tmp_path: Path, error: BaseException) -> None:
    """A later call can resume after a failed judge, and a fault of ours is no reason to go on."""
    with pytest.raises(type(error)), optional(RunFolder(tmp_path), "Texts"):
        raise error
    assert left_out(RunFolder(tmp_path)) == []


def test_a_figure_that_cannot_be_drawn_costs_no_other_one(
    finished: StudyResult, small_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    (folder / "results.json").unlink()
    some = {
        "layer_profile": files.FIGURES["layer_profile"],
        "method_bars": FigureSpec("methods", fail("no ink", RuntimeError)),
    }
    monkeypatch.setattr(files, "FIGURES", some)
    small_study().run(folder)
    assert reasons(folder)["Figure method_bars"] == "RuntimeError: no ink"
    assert "Figure method_bars: RuntimeError: no ink." in section(folder)
    assert {file.name for file in (folder / "figures").iterdir()} == {"layer_profile.pdf", "layer_profile.png"}
    with pytest.raises(RuntimeError, match="no ink"):
        files.write_figures(folder, ("method_bars",))


def test_a_gate_that_cannot_be_fitted_is_left_out_of_every_method(
    small_study: Callable[..., Study],
    tiny_model: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
) -> None:
    monkeypatch.setattr(stages, "auto_gate", fail("the neutral texts have no tokens"))
    result = small_study(gate="relevance", methods=("neva_shift",)).run(tmp_path / "run")
    assert reasons(result.folder)["Relevance gate"] == "the neutral texts have no tokens"
    assert result.results["methods"]["neva_shift"]["gate"] == "none"
    assert set(result.table("leakage")["gate"]) == {"none"}
    run = Run.open(result.folder)
    assert run.config.gate == "none" and run.evidence(tiny_model).gate is None
    assert run.manifest["config"]["gate"] == "relevance"


def test_a_gate_needs_tokens_of_both_kinds(tiny_model: Any) -> None:
    with pytest.raises(InputError, match="one of the two lists is empty"):
        fit_relevance(tiny_model, [], ["a text"])
    with pytest.raises(InputError, match="the relevant texts have none"):
        fit_relevance(tiny_model, [Example("a prompt", "")], ["a text"], pooling="mean", chat=False)


def test_one_section_of_the_page_does_not_cost_the_page(
    finished: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    monkeypatch.setattr(sections, "heatmaps", fail("d", KeyError))
    write_report(folder)
    assert "Value leakage: it cannot be shown (KeyError: 'd')." in section(folder)
    assert 'id="methods"' in (folder / "report.html").read_text()


def test_what_is_needed_still_stops_with_one_line(
    small_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, function in (("collected", stages.collected), ("selected", stages.selected)):
        monkeypatch.setattr(stages, name, fail(f"{name} not"))
        with pytest.raises(InputError, match=f"{name} not"):
            small_study().run(tmp_path / name)
        monkeypatch.setattr(stages, name, function)


def test_two_values_have_no_circle_test_and_the_page_says_so(finished: StudyResult) -> None:
    assert reasons(finished.folder)["Circle test"] == (
        "it needs at least three pairs of a steered and another measured value, and this study has 2"
    )
