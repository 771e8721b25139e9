"""The logit lens of a run folder: its own edits at its own doses, its own prompts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.paths import ROOT
from helpers.scripts import script_path
from neva_tl import models, prompts
from neva_tl.activations import ActivationStats
from neva_tl.attribution import logit_lens
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import edit
from neva_tl.methods import Evidence, build
from neva_tl.models import inference
from neva_tl.prompts.example import Example
from neva_tl.study import StudyResult
from neva_tl.study.analyses import lens as study_lens


@pytest.fixture
def run(finished: StudyResult, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished small study, whose model is found by its folder."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    loaded = models.load(checkpoint)
    monkeypatch.setattr(study_lens.models, "load", lambda name, dtype, matmul: loaded)
    return folder


def test_table_is_the_lens_of_the_runs_edits(run: Path, tiny_model: Any) -> None:
    options = json.loads((run / "manifest.json").read_text())["config"]
    table = study_lens.lens_table(run, options, method="neva_shift")
    doses = {
        v: json.loads((run / "cells" / "dose" / "neva_shift" / f"{v}.json").read_text()) for v in ("power", "tradition")
    }
    stats = ActivationStats.load(run / "stats" / "stats")
    texts = prompts.open_prompts("schwartz", "test")["text"].head(6).tolist()
    behind = inference.generate(tiny_model, texts, max_new_tokens=study_lens.ANSWER_TOKENS)
    examples = [Example(p, a.strip()) for p, a in zip(texts, behind, strict=True) if a.strip()]
    steered = [v for v in table["steered"].dropna().unique()]
    assert steered == ["power", "tradition"]
    for value in steered:
        dose = doses[value]["doses"]["0.2"]
        dose = doses[value]["best"] if dose is None else dose
        neurons = NeuronSet.load(run / "neurons" / value)
        evidence = Evidence(tiny_model, stats, {value: neurons}, "generated")
        towards = build("neva_shift", evidence, value).with_dose(dose)
        own = logit_lens(tiny_model, examples, edited=lambda towards=towards: edit(tiny_model, towards), at="answer")
        mine = table[(table["steered"] == value)]
        np.testing.assert_allclose(mine["log_odds"], own[own["condition"] == "edited"]["log_odds"], atol=1e-4)
        plain = table[table["steered"].isna()]
        np.testing.assert_allclose(plain["log_odds"], own[own["condition"] == "unedited"]["log_odds"], atol=1e-4)
        assert set(mine["dose"]) == {dose}
    tokens = study_lens.RunFolder(run).read_table("tables/lens_tokens")
    assert set(tokens["steered"]) == {"power", "tradition"} and tokens["prompt"].str.startswith(texts[0]).all()
    assert study_lens.lens_table(run, options).equals(
        study_lens.RunFolder(run).read_table("tables/lens")
    )  # read, not made


def test_a_run_without_doses_is_refused(run: Path) -> None:
    options = json.loads((run / "manifest.json").read_text())["config"]
    with pytest.raises(InputError, match="no dose of neva"):
        study_lens.lens_table(run, options)
    with pytest.raises(InputError, match="another study"):
        study_lens.lens_table(run, {**options, "seed": 5}, method="neva_shift")


def test_the_script_says_what_is_wrong(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script_path("logit_lens")), str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "not a run folder" in done.stderr
