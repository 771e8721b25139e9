"""The scripts in figures/: one per figure of a paper, from any run, naming the tables that it lacks."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from helpers import fake_run as fake
from helpers.paths import ROOT
from neva_tl import plots
from neva_tl.plots import paper
from neva_tl.plots.files import MissingTable, command_of
from neva_tl.plots.pairing import two_conditions
from neva_tl.plots.paper import script
from neva_tl.study.paper.captions import CAPTIONS

SCRIPTS = sorted(path for path in (ROOT / "figures").glob("[!_]*.py"))
JUDGES = pd.DataFrame(
    {
        "judge": ["wordlist", "llm:a-model-with-a-very-long-name-1.5b", "published: BERT"],
        "persona_auroc": [0.56, 0.85, np.nan], "persona_auroc_lo": [0.5, 0.78, np.nan], "persona_auroc_hi": [0.62, 0.9, np.nan],
        "task_f1": [0.22, 0.25, 0.42], "task_f1_lo": [0.04, 0.1, np.nan], "task_f1_hi": [0.28, 0.34, np.nan],
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up run, with the table of judges; nothing writes into its tables."""
    run = fake.write_run(tmp_path_factory.mktemp("figures") / "run")
    methods = pd.read_parquet(run / "tables" / "methods.parquet")
    for side, x in (("", 0.02), ("_lo", 0.0), ("_hi", 0.04)):
        methods[f"leakage{side}"] = x
    methods.to_parquet(run / "tables" / "methods.parquet")
    JUDGES.to_parquet(run / "tables" / "judges.parquet")
    return run


def one_value(run: Path, folder: Path) -> Path:
    """The same run with one value."""
    (folder / "tables").mkdir(parents=True)
    for path in (run / "tables").glob("*.parquet"):
        table = pd.read_parquet(path)
        for column in ("steered", "measured", "value"):
            if column in table.columns:
                table = table[table[column].isin(["power"]) | table[column].isna()]
        table.to_parquet(folder / "tables" / path.name)
    return folder


def all_figures(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "figures"), *arguments],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False,
    )  # fmt: skip


def order() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures_main", ROOT / "figures" / "__main__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_a_script_is_short_and_names_its_table_and_width(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 50
    assert re.search(r'^WIDTH: Width = "(column|text)"$', text, re.MULTILINE)
    (table,) = set(re.findall(r'read_table\(run, "(\w+)"\)', text))
    assert f"(table {table}" in text
    assert text.startswith(('"""Figure ', '"""Supplement: ')) and f"python figures/{path.name} runs/" in text


def test_every_figure_of_a_run_and_of_a_paper_has_a_script() -> None:
    names = {path.stem for path in SCRIPTS}
    assert set(plots.FIGURES) <= names
    assert set(CAPTIONS) == set(order().PAPER) <= names
    for name, caption in CAPTIONS.items():
        text = (ROOT / "figures" / f"{name}.py").read_text("utf-8")
        assert f'read_table(run, "{caption.table}")' in text
        assert caption.wide == ('WIDTH: Width = "text"' in text), f"caption and script of {name} differ in width"


def drawn(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[set[str], str]:
    """Draw all figures of a run in this process, without files: the names of the figures, and what was printed."""
    names = set()

    def keep(figure: Figure, stem: Path) -> list[Path]:
        assert any(ax.has_data() or ax.texts for ax in figure.axes), stem.name
        names.add(stem.name)
        return []

    monkeypatch.setattr(paper, "save_figure", keep)
    assert order().main([str(run)]) == 0
    return names, capsys.readouterr().out


def test_all_figures_are_drawn_from_a_run_that_has_all_tables(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, out = drawn(run, monkeypatch, capsys)
    assert names == {path.stem for path in SCRIPTS} and "not drawn" not in out


def test_a_run_of_one_value_has_the_others_and_says_why_not(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, out = drawn(one_value(run, tmp_path / "one"), monkeypatch, capsys)
    absent = dict(re.findall(r"^(\w+): not drawn, (.*)$", out, re.MULTILINE))
    assert set(absent) == {"leakage_heatmap", "overlap"} == {path.stem for path in SCRIPTS} - names
    assert "nothing to leak to" in absent["leakage_heatmap"]


def test_a_figure_without_its_table_names_the_command(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "run"
    (bare / "tables").mkdir(parents=True)
    pd.read_parquet(run / "tables" / "neurons.parquet").to_parquet(bare / "tables" / "neurons.parquet")
    done = all_figures(str(bare))
    assert done.returncode == 0, done.stderr
    lines = dict(re.findall(r"^(\w+): not drawn, (.*)$", done.stdout, re.MULTILINE))
    assert set(lines) == {path.stem for path in SCRIPTS} - {"overlap", "layer_profile", "value_layers"}
    for name in ("overlap", "layer_profile", "value_layers"):
        assert (bare / "paper" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert imread(bare / "paper" / f"{name}.png")[..., :3].std() > 0.02
    assert f"`python analyses/layer_ablation.py {bare}`" in lines["layer_ablation"]
    assert f"`python analyses/judge_quality.py --data DATA --out {bare}`" in lines["judges"]
    assert "`neva-tl run`" in lines["dose_response"]
    for name in ("layers", "sensitivity", "circuits", "judges", "gain_curves"):
        assert (ROOT / command_of(bare, name).split()[1]).is_file()


def test_one_script_alone_fails_in_one_line_without_its_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "figures" / "layer_ablation.py"
    draw = runpy.run_path(str(path))["draw"]
    assert script(str(path), draw, [str(run), "--out", str(tmp_path), "--style", "nature"]) == 0
    assert (tmp_path / "layer_ablation.pdf").is_file()
    (tmp_path / "tables").mkdir()
    assert script(str(path), draw, [str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "layers.parquet" in error and "analyses/layer_ablation.py" in error
    assert script(str(path), draw, [str(tmp_path), "--skip-missing"]) == 0
    assert script(str(path), draw, [str(tmp_path / "nowhere"), "--skip-missing"]) == 2  # no run at all is an error


def test_no_run_is_one_line(tmp_path: Path) -> None:
    done = all_figures(str(tmp_path / "nowhere"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "not a run folder" in done.stderr


def test_two_conditions_are_neurons_beside_another_kind() -> None:
    table = fake.methods()
    assert [row[0] for row in two_conditions(table)] == ["neva", "caa"]
    assert [row[2] for row in two_conditions(table)] == [0.4, 0.4]
    assert [row[0] for row in two_conditions(table[table["method"].isin(["role", "random"])])] == ["role", "random"]
    assert [row[0] for row in two_conditions(table[table["method"] == "caa"])] == ["caa"]


def test_a_table_that_is_missing_is_told_from_one_that_is_broken(run: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    with pytest.raises(MissingTable):
        plots.read_table(tmp_path, "layers")
    (tmp_path / "tables" / "layers.parquet").write_bytes(b"x")
    with pytest.raises(plots.files.InputError) as error:
        plots.read_table(tmp_path, "layers")
    assert not isinstance(error.value, MissingTable)
