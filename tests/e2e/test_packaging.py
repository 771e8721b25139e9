"""The package outside the repository: what wheel and sdist contain, and the work of a colleague who has only the wheel."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import neva_tl as nv
from helpers.contrast_sets import small_set
from helpers.paths import FIXTURES, ROOT
from neva_tl.models.tiny import tiny_checkpoint

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", ".*cache", "runs", "build", "dist", "*.egg-info", "__pycache__")
PROMPTS = ["Who eats the bread?", "Why", "The old king counts his coins and"]


def build(kind: str, tree: Path, out: Path) -> Path:
    """Build a wheel or an sdist with the installed setuptools, as pip does without isolation."""
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(out)]
    run = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return out / run.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel, the sdist, and the wheel that the sdist builds."""
    root = tmp_path_factory.mktemp("package")
    tree = shutil.copytree(ROOT, root / "tree", ignore=NOT_COPIED)
    sdist, wheel = build("sdist", tree, root), build("wheel", tree, root)
    with tarfile.open(sdist) as archive:
        archive.extractall(root / "sdist", filter="data")
    (root / "again").mkdir()
    (unpacked,) = (root / "sdist").iterdir()
    return {"sdist": sdist, "wheel": wheel, "again": build("wheel", unpacked, root / "again")}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_every_file_of_the_package_and_no_other(built: dict[str, Path]) -> None:
    names = set(contents(built["wheel"]))
    package = {name for name in names if not re.match(r"neva_tl-[\d.]+\.dist-info/", name)}
    expected = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "neva_tl").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert package == expected
    assert {
        "neva_tl/py.typed", "neva_tl/__init__.pyi", "neva_tl/demo/lexicon.json", "neva_tl/demo/model/model.safetensors",
        "neva_tl/prompts/data/schwartz/power.json", "neva_tl/plots/templates/report.html.j2",
    } <= package  # fmt: skip


def test_the_sdist_builds_the_same_wheel(built: dict[str, Path]) -> None:
    assert built["again"].name == built["wheel"].name
    assert contents(built["again"]) == contents(built["wheel"])
    with tarfile.open(built["sdist"]) as archive:
        folders = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert "LICENSE" in folders and not folders & {"tests", "analyses", "docs", "runs"}


# ---------------------------------------------------------------- a colleague's path


@pytest.fixture(scope="module")
def machine_b(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel in `site`, outside the repository."""
    root = tmp_path_factory.mktemp("machine_b")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(root / "site")]
    subprocess.run([*pip, str(built["wheel"])], check=True, capture_output=True)
    return root


def on_machine_b(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the wheel and the installed dependencies alone."""
    env = {
        "PATH": os.environ["PATH"], "HOME": str(root), "PYTHONPATH": str(root / "site"), "PYTHONSAFEPATH": "1",
        "HF_HUB_OFFLINE": "1", "NEVA_TL_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def work(machine_b: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Machine A studies and saves an edit; what machine B did with the folder."""
    from helpers.machine_b import tokens

    a = tmp_path_factory.mktemp("machine_a")
    checkpoint = tiny_checkpoint(a / "checkpoint", n_ctx=512)
    model = nv.load(checkpoint)
    stats = nv.collect(model, small_set(), samples=True)
    neurons = nv.select(stats, "power", method="effect_size", k=8, require_q=False, require_split_half=False)
    folder = nv.save_edit(nv.Amplify(neurons, dose=60.0, scope="last"), a / "edit", model=model)
    hf = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    here = {"unedited": tokens(hf, checkpoint, PROMPTS)}
    with nv.attach(hf, folder):
        here["edited"] = tokens(hf, checkpoint, PROMPTS)

    for source in (checkpoint, folder, FIXTURES / "v0.1" / "run"):
        shutil.copytree(source, machine_b / source.name)
    shutil.rmtree(a)  # nothing points back to machine A
    shutil.copy(ROOT / "examples" / "thrift.csv", machine_b / "pairs.csv")
    shutil.copy(ROOT / "tests" / "helpers" / "machine_b.py", machine_b / "work.py")
    (machine_b / "prompts.json").write_text(json.dumps(PROMPTS), encoding="utf-8")
    run = on_machine_b(machine_b, sys.executable, "work.py")
    assert run.returncode == 0, run.stderr[-3000:]
    return {"here": here, **json.loads(run.stdout.splitlines()[-1])}


def test_machine_b_uses_the_wheel_alone(machine_b: Path, work: dict[str, Any]) -> None:
    assert len(work["files"]) > 50 and all(Path(file).is_relative_to(machine_b / "site") for file in work["files"])


def test_a_saved_edit_gives_the_same_tokens_on_machine_b(work: dict[str, Any]) -> None:
    assert work["edited"] == work["here"]["edited"] and work["unedited"] == work["here"]["unedited"]
    assert all(edited != unedited for edited, unedited in zip(work["edited"], work["unedited"], strict=True))


def test_demo_prompts_steer_and_report_run_outside_the_repository(machine_b: Path, work: dict[str, Any]) -> None:
    assert len(work["demo"][0].split()) >= 2 and work["prompts"] > 0
    assert work["steer"]["status"] == 0 and re.search(r"gain on test +-?\d", work["steer"]["out"]), work["steer"]
    assert (machine_b / "steered" / "edit.json").is_file() and work["steered"] != 0
    assert work["report"]["status"] == 0 and "<html" in (machine_b / "run" / "report.html").read_text(encoding="utf-8")


def test_the_command_is_installed(machine_b: Path) -> None:
    run = on_machine_b(machine_b, str(machine_b / "site" / "bin" / "neva-tl"), "--help")
    assert run.returncode == 0 and "steer" in run.stdout, run.stderr


# ---------------------------------------------------------------- bounds


def test_the_oldest_set_is_at_the_lower_bounds() -> None:
    """`make test-oldest` tests the bounds that pyproject.toml states."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(re.match(r"([\w-]+)>=([\d.]+)", item).groups() for item in project["dependencies"])  # type: ignore[union-attr]
    lines = (ROOT / "requirements" / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = {name: version for name, _, version in (line.partition("==") for line in lines if not line.startswith("#"))}
    assert bounds.pop("torch") and len(bounds) > 20  # see requirements/oldest.py

    def release(version: str) -> tuple[int, ...]:
        numbers = [int(number) for number in version.split(".")]
        return tuple(numbers + [0] * (3 - len(numbers)))

    assert {name: release(pins[name]) for name in bounds} == {name: release(bound) for name, bound in bounds.items()}
