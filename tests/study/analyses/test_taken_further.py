"""A run on one's own model and prompts can be analysed later: its prompts gone, its folder moved, its model moved."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import neva_tl as nv
from helpers.scripts import draw_figure, load_script
from neva_tl.core.errors import InputError
from neva_tl.plots.files import FIGURES
from neva_tl.study import Study
from neva_tl.study.analyses.script import model_option, script
from neva_tl.study.run import tables
from neva_tl.study.run.origin import PROMPTS

SMALL = {
    "validation": 3, "test": 4, "neutral": 1, "n_boot": 20, "rows_per_value": 8, "refine": 1, "targets": (0.2,),
    "max_new_tokens": 3, "text_values": 1, "text_prompts": 1,
}  # fmt: skip


#: Searches as short as the analyses allow, by script.
SHORT = {
    "circuits": "--value power --size 4 --drawn 4 --texts 3 --batch 2 --exchanges 1 --edge-texts 2 --random 1",
    "sensitivity": "--value power --factor k --method neva_shift",
    "two_values": "--method neva_shift --pair power,tradition",
}


def moved_run(root: Path, checkpoint: Path, pairs_file: Path, values: tuple[str, ...]) -> dict[str, Path]:
    """Make a run, remove its prompts file, and move the run and its model elsewhere."""
    model = Path(shutil.copytree(checkpoint, root / "model"))
    prompts = Path(shutil.copy(pairs_file, root / "mine.csv"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_figures", lambda cells, jobs: None)
        study = Study(str(model), prompts=str(prompts), values=values, methods=("neva", "neva_shift"), overrides=SMALL)
        study.run(root / "run", workers=1)
    prompts.unlink()
    (root / "elsewhere").mkdir()
    return {
        "run": Path(shutil.move(root / "run", root / "elsewhere" / "run")),
        "model": Path(shutil.move(model, root / "elsewhere" / "model")),
        "old": model,
    }


@pytest.fixture(scope="module")
def moved(checkpoint: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of two values, moved; its prompts file is gone and its model is elsewhere."""
    return moved_run(tmp_path_factory.mktemp("further"), checkpoint, pairs_file, ("power", "tradition"))


@pytest.fixture(scope="module")
def one_moved(checkpoint: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same of one concept, from a file of prompts and two answers."""
    root = tmp_path_factory.mktemp("one")
    table = pd.read_csv(pairs_file).query("value == 'power'")
    plus, minus = (table[table["pole"] == pole].set_index("pair_id")["text"] for pole in "+-")
    prompts = plus.str.split("?").str[0] + "?"
    answers = {name: text.str.split("?").str[1].str.strip() for name, text in (("plus", plus), ("minus", minus))}
    pd.DataFrame({"prompt": prompts, **answers}).to_csv(root / "thrift.csv", index=False)
    return moved_run(root, checkpoint, root / "thrift.csv", ())


def call_script(monkeypatch: pytest.MonkeyPatch, name: str, run: Path, *options: str) -> int:
    """Run `analyses/NAME.py RUN OPTIONS` in this process."""
    module = load_script(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(run), *options])
    return script(name, module.__doc__ or "", module.act, getattr(module, "options", model_option))


def test_the_run_holds_its_prompts_and_where_its_model_was(moved: dict[str, Path]) -> None:
    run = nv.Run.open(moved["run"])
    assert run.manifest["source"]["folder"] == str(moved["old"].resolve())
    assert (moved["run"] / PROMPTS).is_file()
    assert run.pairs().hash == run.manifest["prompt_hash"]


def test_a_model_that_moved_is_named(moved: dict[str, Path], checkpoint: Path) -> None:
    run = nv.Run.open(moved["run"])
    with pytest.raises(InputError, match="--model") as caught:
        run.load_model()
    assert "\n" not in str(caught.value)
    assert nv.models.is_model(run.load_model(str(moved["model"])))


def test_another_model_is_refused(moved: dict[str, Path], folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="other weights"):
        nv.Run.open(moved["run"]).load_model(str(folders["gpt2"]))


def test_tables_neurons_and_edits(moved: dict[str, Path]) -> None:
    run = nv.Run.open(moved["run"])
    assert len(run.table("methods")) >= 2 and "neva_shift" in repr(run)
    assert run.neurons("power").value == "power"
    model = run.load_model(str(moved["model"]))
    (edit,) = run.edits(model, ("neva_shift",), ("power",))
    with nv.edit(model, edit.edit):
        nv.generate(model, ["What about the mill?"], max_new_tokens=2)
    with pytest.raises(InputError, match="no table"):
        run.table("nothing")


def circuits_end_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path, options: str, *model: str
) -> bool:
    """Return whether there is a circuit: a random model may have none for these words, which one line says."""
    capsys.readouterr()
    status = call_script(monkeypatch, "circuits", run, *options.split(), *model)
    last = capsys.readouterr().err.splitlines()[-1]
    assert status == 0 or (status == 2 and "could be searched (Searched circuit of" in last), last
    return status == 0


@pytest.mark.filterwarnings("ignore", "error::RuntimeWarning")
def test_every_analysis_figure_and_the_report_end_well(
    moved: dict[str, Path], call: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ("--model", str(moved["model"]))
    searched = circuits_end_well(monkeypatch, capsys, moved["run"], SHORT["circuits"], *model)
    for name in ("layer_ablation", "logit_lens", "sensitivity", "two_values"):
        assert call_script(monkeypatch, name, moved["run"], *SHORT.get(name, "").split(), *model) == 0, name
    assert call_script(monkeypatch, "leakage", moved["run"]) == 0
    status, _, err = call("report", moved["run"])
    absent = set(FIGURES) - {path.stem for path in (moved["run"] / "figures").glob("*.png")}
    assert absent == {"gain_curves", "gain_leakage"} | (set() if searched else {"faithfulness"})
    page = (moved["run"] / "report.html").read_text(encoding="utf-8")
    assert status == 0 and "report.html" in err and str(moved["old"]) not in page
    assert ('id="faithfulness"' in page) == searched and "it cannot be shown" not in page


@pytest.mark.filterwarnings("ignore", "error::RuntimeWarning")
def test_one_concept_can_be_taken_further(
    one_moved: dict[str, Path], call: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = one_moved["run"], ("--model", str(one_moved["model"]))
    circuits_end_well(monkeypatch, capsys, run, SHORT["circuits"].replace("power", "mine"), *model)
    for name in ("layer_ablation", "logit_lens", "sensitivity", "two_values"):
        options = SHORT.get(name, "").replace("--pair power,tradition", "").replace("power", "mine").split()
        assert call_script(monkeypatch, name, run, *options, *model) == (2 if name == "two_values" else 0), name
    assert "two_values: the run steers towards mine alone: two values are needed" in capsys.readouterr().err
    assert draw_figure("sensitivity", [str(run)]) == 0 and draw_figure("overlap", [str(run), "--skip-missing"]) == 0
    assert call("report", run)[0] == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "it cannot be shown" not in page and 'id="layers"' in page and 'id="leakage"' not in page
