"""A run on one's own model and prompts can be analysed later: its prompts gone, its folder moved, its model moved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import neva_tl as nv
from neva_tl.core.errors import InputError
from neva_tl.study import Study, layer_table
from neva_tl.study.analyses.lens import lens_table
from neva_tl.study.run import tables
from neva_tl.study.run.origin import PROMPTS

SMALL = {
    "validation": 3, "test": 4, "neutral": 1, "n_boot": 20, "rows_per_value": 8, "refine": 1, "targets": (0.2,),
    "max_new_tokens": 3, "text_values": 1, "text_prompts": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def moved(checkpoint: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run, moved; its prompts file is gone and its model stands elsewhere."""
    root = tmp_path_factory.mktemp("further")
    model = Path(shutil.copytree(checkpoint, root / "model"))
    prompts = Path(shutil.copy(pairs_file, root / "mine.csv"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_figures", lambda cells, jobs: None)
        values = ("power", "tradition")
        study = Study(str(model), prompts=str(prompts), values=values, methods=("neva", "neva_shift"), overrides=SMALL)
        study.run(root / "run", workers=1)
    prompts.unlink()
    (root / "elsewhere").mkdir()
    return {
        "run": Path(shutil.move(root / "run", root / "elsewhere" / "run")),
        "model": Path(shutil.move(model, root / "elsewhere" / "model")),
        "old": model,
    }


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


@pytest.mark.filterwarnings("ignore")
def test_layers_lens_and_report_end_well(moved: dict[str, Path], call: Any) -> None:
    config = nv.Run.open(moved["run"]).manifest["config"]
    assert len(layer_table(moved["run"], config, model=str(moved["model"])))
    assert len(lens_table(moved["run"], config, model=str(moved["model"])))
    status, _, err = call("report", moved["run"])
    page = (moved["run"] / "report.html").read_text(encoding="utf-8")
    assert status == 0 and "report.html" in err and str(moved["old"]) not in page
