"""analyses/benchmarks/gpu_check.py: refuses politely where there is no GPU; its steps run on a processor with small sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.scripts import script_path

SCRIPT = script_path("gpu_check")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is at hand")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path / "gpu.json"))
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    assert done.stderr.startswith("gpu_check: no CUDA device is at hand") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_its_steps_run_on_a_processor(tmp_path: Path) -> None:
    sizes = ("--layers", "2", "--d-model", "64", "--d-mlp", "96", "--heads", "4", "--texts", "20", "--repeats", "2")
    done = run("--device", "cpu", "--dtype", "float32", *sizes, "--out", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["method"] for row in found["rows"]} == {"plain forward", "neva_tl.collect"} and len(found["rows"]) == 4
    assert found["checks"]["largest difference of a mean from raw hooks"] < 1e-4
