"""build_edit and compare: one call each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl import models, prompts
from neva_tl.activations import ActivationStats, collect
from neva_tl.core.auto import FIRST_DOSE, GRIDS
from neva_tl.core.errors import InputError
from neva_tl.editing import (
    Ablate,
    AddVector,
    ContextAware,
    Edit,
    GateShift,
    ProbedVector,
    PromptShift,
    Rescale,
    RewriteAnswer,
    RolePrompt,
    Shift,
)
from neva_tl.methods import METHODS, Evidence, Method, caa, dose_unit, register
from neva_tl.methods.sae_files import SparseAutoencoder
from neva_tl.plots.style import method_colour, method_label, method_order
from neva_tl.study import Study, build_edit, compare
from neva_tl.study.analyses import method_comparison as mc
from neva_tl.study.run import tables
from neva_tl.study.run.cell_runner import grid_of

ROOT = Path(__file__).parents[2]
KIND = {
    "neva": ContextAware,
    "neva_shift": Shift,
    "caa": AddVector,
    "caa_projected": AddVector,
    "random": Shift,
    "label_shuffled": Shift,
    "role": RolePrompt,
    "caa_layers": AddVector,
    "caa_layers_projected": AddVector,
    "caa_probe": ProbedVector,
    "caa_projected_probe": ProbedVector,
    "conva": PromptShift,
    "npti": GateShift,
    "dpn_le": Shift,
    "lape": Ablate,
    "rotated": AddVector,
    "persona_vector": AddVector,
    "austeer": Rescale,
    "cna": Rescale,
    "role_few_shot": RolePrompt,
    "sae": AddVector,
    "visa": RewriteAnswer,
}
FIRST = dict.fromkeys(("neva", "caa_probe", "caa_projected_probe", "conva"), 8.0) | {
    "npti": 1.0,
    "lape": 1.0,
    "austeer": 5.0,
    "cna": 5.0,
}
#: Scopes of methods that do not take the study's.
SCOPE = {"role": "all", "role_few_shot": "all", "persona_vector": "last"}


@pytest.fixture(scope="module")
def stats(tiny_model: Any, pairs_file: Path) -> ActivationStats:
    return collect(tiny_model, prompts.load(str(pairs_file)), samples=True)


@pytest.fixture(scope="module")
def sae(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random sparse autoencoder of layer 1."""
    width, g = models.info(tiny_model).d_model, torch.Generator().manual_seed(3)
    encoder, decoder = torch.randn(2, 4 * width, width, generator=g)
    coder = SparseAutoencoder(encoder, torch.zeros(4 * width), decoder, torch.zeros(width), k=8)
    return str(coder.save(tmp_path_factory.mktemp("sae") / "layers.1"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_by_name(tiny_model: Any, stats: ActivationStats, sae: str, method: str) -> None:
    edit = build_edit(tiny_model, stats, "power", method=method, scope="generated", k=4, sae=sae)
    assert isinstance(edit, KIND[method]) and edit.scope == (SCOPE | {"visa": "all"}).get(method, "generated")
    assert edit.dose == FIRST.get(method, 2.0)
    assert build_edit(tiny_model, stats, "power", method=method, dose=0.5, sae=sae).dose == 0.5


def test_bad_requests(tiny_model: Any, stats: ActivationStats) -> None:
    with pytest.raises(InputError, match="unknown method 'magic'"):
        build_edit(tiny_model, stats, "power", method="magic")
    with pytest.raises(InputError, match="hedonism was not collected"):
        build_edit(tiny_model, stats, "hedonism")
    with pytest.raises(InputError, match="finite"):
        build_edit(tiny_model, stats, "power", dose=float("nan"))
    with pytest.raises(InputError, match="k = 100000"):
        build_edit(tiny_model, stats, "power", k=100_000)


def test_compare_is_a_study_in_one_call(
    tiny_model: Any, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    small = {"validation": 3, "test": 4, "neutral": 1, "n_boot": 20, "refine": 0, "max_new_tokens": 2}
    options: dict[str, Any] = {"prompts": str(pairs_file), "overrides": {**small, "text_values": 1, "text_prompts": 1}}
    found = compare(tiny_model, ("caa", "role"), ("power",), at_gain=(0.1, 0.3), out=tmp_path / "run", **options)
    assert list(found["method"]) == ["caa", "caa", "role"]
    assert np.array_equal(found["target_gain"].to_numpy(dtype=float), [0.1, 0.3, np.nan], equal_nan=True)
    assert (tmp_path / "run" / "report.html").is_file()
    again = compare(tiny_model, ("caa", "role"), ("power",), at_gain=(0.1, 0.3), out=tmp_path / "run", **options)
    assert again.equals(found)
    with pytest.raises(InputError, match="another study"):
        compare(tiny_model, ("caa",), ("power",), at_gain=(0.1,), out=tmp_path / "run", **options)


@pytest.mark.filterwarnings("ignore")
def test_a_method_that_reads_the_gate_gets_it_collected(
    tiny_model: Any, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a folder that was collected without it, which then holds both methods, each as in a folder of its own."""
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    small = {"validation": 3, "test": 4, "neutral": 1, "n_boot": 20, "refine": 0, "max_new_tokens": 2}
    options: dict[str, Any] = {"prompts": str(pairs_file), "overrides": {**small, "text_values": 1, "text_prompts": 1}}
    alone = {}
    for method, gated in (("npti", True), ("lape", False)):
        run = tmp_path / method
        alone[method] = compare(tiny_model, (method,), ("power",), at_gain=(0.1,), out=run, **options)
        assert list(alone[method]["method"]) == [method] and list(alone[method]["gate"]) == ["none"]
        assert ActivationStats.load(run / "stats" / "stats").gated == gated
    both = compare(tiny_model, ("npti",), ("power",), at_gain=(0.1,), out=tmp_path / "lape", **options)
    assert list(both["method"]) == ["lape", "npti"]
    assert ActivationStats.load(tmp_path / "lape" / "stats" / "stats").gated
    for method, found in alone.items():
        mine = both[both["method"] == method].reset_index(drop=True)
        # a column that one table leaves empty holds None there and NaN beside numbers
        pd.testing.assert_frame_equal(
            *(t.astype(object).where(t.notna(), None) for t in (mine, found)), check_dtype=False
        )


@pytest.mark.filterwarnings("ignore")
def test_an_optional_method_is_measured_or_left_out_with_its_reason(
    tiny_model: Any, pairs_file: Path, sae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    monkeypatch.setitem(sys.modules, "sparsify", None)
    small = {"validation": 3, "test": 4, "neutral": 1, "n_boot": 20, "refine": 0, "max_new_tokens": 2}
    options: dict[str, Any] = {"prompts": str(pairs_file), "overrides": {**small, "text_values": 1, "text_prompts": 1}}
    options |= {"values": ("power",), "methods": ("caa", "sae")}
    without = Study(tiny_model, **options).run(tmp_path / "without")
    assert list(dict.fromkeys(without.table("methods")["method"])) == ["caa"]
    (line,) = [record for record in without.left_out if record["part"] == "Method sae"]
    assert "neva_tl[sae]" in line["reason"]
    measured = Study(tiny_model, sae=sae, **options).run(tmp_path / "with")
    assert list(dict.fromkeys(measured.table("methods")["method"])) == ["caa", "sae"]
    assert not [record for record in measured.left_out if record["part"] == "Method sae"]
    with pytest.raises(InputError, match=r"neva_tl\[sae\]"):
        Study(tiny_model, **{**options, "methods": ("sae",)}).run(tmp_path / "alone")


@pytest.mark.filterwarnings("ignore")
def test_answers_are_rewritten_where_a_judge_reads_them(
    tiny_model: Any, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    small = {"validation": 3, "test": 4, "neutral": 1, "n_boot": 20, "refine": 0, "max_new_tokens": 6, "samples": 1}
    options: dict[str, Any] = {"prompts": str(pairs_file), "values": ("power",), "methods": ("role", "visa")}
    options |= {"overrides": {**small, "text_values": 1, "text_prompts": 1}}
    read = Study(tiny_model, judge="wordlist", **options).run(tmp_path / "read")
    assert list(read.table("methods")["method"]) == ["role", "visa"]
    texts = read.table("generations").set_index("method")
    rewritten = texts.loc["visa"]
    assert list(rewritten["first_text"]) == list(texts.loc["unedited", "text"])
    assert (rewritten["text"] != rewritten["first_text"]).any() and texts.loc["role", "meaning"].isna().all()
    kept = read.results["methods"]["visa"]["fluency"]["meaning"]["est"]
    assert (
        kept == pytest.approx(rewritten["meaning"].mean())
        and "meaning" not in read.results["methods"]["role"]["fluency"]
    )
    assert read.results["methods"]["visa"]["capability"]["kl"]["edited"]["est"] is None
    unread = Study(tiny_model, judge="logprob", **options).run(tmp_path / "unread")
    assert list(unread.table("methods")["method"]) == ["role"]
    (line,) = [record for record in unread.left_out if record["part"] == "Method visa"]
    assert "reads none" in line["reason"]


def test_a_registered_method_works_in_a_study_and_its_analyses(
    tiny_model: Any, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record is enough: plan, gates, dose, families, contests, curves, label and colour read it."""
    monkeypatch.setattr(tables, "_figures", lambda cells, jobs: None)
    for name in ("twice", "follower"):
        monkeypatch.setitem(METHODS, name, METHODS["caa"])  # so that both are removed at the end

    def twice(evidence: Evidence, value: str) -> Edit:
        return AddVector(
            {layer: 2 * vector for layer, vector in caa(evidence, value).vectors.items()}, scope=evidence.scope
        )

    register("twice", Method(twice, "vectors", label="CAA twice", colour="#123456"))
    register("follower", Method(twice, "placebo", dose_of="twice"))
    small = {"validation": 3, "test": 6, "neutral": 1, "n_boot": 20, "refine": 0, "max_new_tokens": 2}
    options: dict[str, Any] = {"prompts": str(pairs_file), "overrides": {**small, "text_values": 1, "text_prompts": 1}}
    methods, values = ("neva_shift", "twice", "follower"), ("power", "tradition")
    run = tmp_path / "gate-none"
    table = compare(tiny_model, methods, values, at_gain=(0.1, 0.3), out=run, **options)
    assert list(table["method"]) == [name for name in methods for _ in (0.1, 0.3)]
    assert not (run / "cells" / "dose" / "follower").exists()
    for target in ("0.1", "0.3"):
        cells = [run / "cells" / "measure" / name / f"power@{target}.json" for name in ("twice", "follower")]
        followed, following = (json.loads(cell.read_text())["dose"] for cell in cells)
        assert followed == following
    mc.write(tmp_path)
    combined = pd.read_parquet(tmp_path / "tables" / "method_comparison.parquet").set_index("method")
    assert combined["family"].to_dict() == {"neva_shift": "neurons", "twice": "vectors", "follower": "placebo"}
    for name in ("method_contests", "equal_gain"):
        contests = pd.read_parquet(tmp_path / "tables" / f"{name}.parquet")
        assert set(contests["rival"]) == {"twice"}, name
    assert "twice" in mc.methods_for("smollm2")
    assert method_label("twice") == "CAA twice" and method_colour("twice") == "#123456"
    assert method_label("follower") == "follower" and method_order(["follower", "neva"]) == ["neva", "follower"]


def test_records_that_cannot_work_are_refused() -> None:
    # in a process of its own: here the type checker refuses such records first
    code = "from neva_tl.core.method_records import Method; Method('caa', {!r}, dose={!r})"
    for facts, why in (
        (("neuron", "share"), "family of Method is 'neuron'"),
        (("prompt", "grams"), "dose of Method is 'grams'"),
    ):
        done = subprocess.run([sys.executable, "-c", code.format(*facts)], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 1 and f"InputError: {why}" in done.stderr
    for other, why in (("role", "no dose is searched"), ("random", "no dose is searched"), ("magic", "unknown method")):
        with pytest.raises(InputError, match=why):
            register("mine", Method(caa, "vectors", dose_of=other))
    assert "mine" not in METHODS


def test_every_method_has_a_dose_grid_of_its_unit() -> None:
    searched = [method for method in METHODS if not method.startswith("role") and method != "visa"]
    for method in searched:
        grid = grid_of(method)
        assert grid[0] > 0 and list(grid) == sorted(grid)
        assert dose_unit(method) in FIRST_DOSE and dose_unit(method) in GRIDS
    assert grid_of("lape")[-1] == 1.0, "a share ends at the level itself"
    assert grid_of("caa_probe") == grid_of("conva") == grid_of("neva") != grid_of("caa")
