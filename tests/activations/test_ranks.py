"""Two real processes (gloo) against one: the same moments, and one clear line when a process is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.comparisons import near
from neva_tl import models
from neva_tl.activations import ActivationStats, collect
from neva_tl.prompts import ContrastSet

pytestmark = pytest.mark.core


def torchrun(folder: Path, prompts: Path, out: Path, processes: int = 2, slow: float = 0.0) -> subprocess.Popen[str]:
    """`torchrun ... -m neva_tl collect` with small batches; `slow` seconds before every forward pass."""
    script = out.parent / "slowly.py"
    script.write_text(
        "import sys, time\n"
        "from neva_tl.models import inference\n"
        "from neva_tl.cli.main import main\n"
        "plain = inference.forward_batch\n"
        "def forward(*args, **kwargs):\n"
        f"    time.sleep({slow})\n"
        "    print('pass', file=sys.stderr, flush=True)\n"
        "    return plain(*args, **kwargs)\n"
        "inference.forward_batch = forward\n"
        "main()\n"
    )
    argv = ["collect", "--model", folder, "--prompts", prompts, "--out", out, "--token-budget", 100, "--save-every", 0]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", script, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def prompts(pairs: ContrastSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs.save(tmp_path_factory.mktemp("prompts") / "pairs.csv")


def test_two_processes_equal_one(folder: Path, pairs: ContrastSet, prompts: Path, tmp_path: Path) -> None:
    run = torchrun(folder, prompts, tmp_path / "stats")
    said, errors = run.communicate(timeout=200)
    assert run.returncode == 0, errors[-3000:]
    assert said.strip() == f"48 prompts -> {tmp_path / 'stats.json'}"
    near(ActivationStats.load(tmp_path / "stats"), collect(models.load(folder), pairs, token_budget=100), 1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["slowly.py", "stats.json", "stats.safetensors"]


def test_a_lost_process_ends_the_job_and_the_next_call_goes_on(
    folder: Path, pairs: ContrastSet, prompts: Path, tmp_path: Path
) -> None:
    run = torchrun(folder, prompts, tmp_path / "stats", slow=0.5)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*.state.*"))) < 2 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children(run.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    said, errors = run.communicate(timeout=120)
    assert run.returncode != 0 and not said
    assert "neva-tl: " in errors and ("process was lost" in errors), errors[-3000:]
    assert not (tmp_path / "stats.json").exists() and list(tmp_path.glob("*.state.*"))
    again = torchrun(folder, prompts, tmp_path / "stats")
    _, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors[-3000:]
    near(ActivationStats.load(tmp_path / "stats"), collect(models.load(folder), pairs, token_budget=100), 1e-6)
    whole = collect(models.load(folder), pairs, token_budget=100)
    assert (ActivationStats.load(tmp_path / "stats").n == whole.n).all()


def children(pid: int) -> list[int]:
    """Child processes, oldest first."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True).stdout
    return sorted(int(line) for line in found.split())
