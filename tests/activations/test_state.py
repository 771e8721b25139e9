"""Stopped and resumed collections against ones that ran through; memory that runs out against memory that does not."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.comparisons import near, same
from neva_tl import models
from neva_tl.activations import ActivationStats, collect, collecting
from neva_tl.activations.plan import tokenised
from neva_tl.activations.ranks import World
from neva_tl.activations.state import Checkpoint
from neva_tl.core.errors import InputError, WorkError
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts import ContrastSet

pytestmark = pytest.mark.core

BUDGET = 200


class Stop(Exception):
    """What a test stops a collection with."""


def stop_after(monkeypatch: pytest.MonkeyPatch, passes: int) -> None:
    """Let so many forward passes through, then raise."""
    plain, seen = inference.forward_batch, [0]

    def forward(*args: Any, **kwargs: Any) -> Any:
        seen[0] += 1
        if seen[0] > passes:
            raise Stop
        return plain(*args, **kwargs)

    monkeypatch.setattr(inference, "forward_batch", forward)


@pytest.fixture(scope="module")
def whole(model: Any, pairs: ContrastSet) -> ActivationStats:
    return collect(model, pairs, token_budget=BUDGET, share_prefixes=False)


def resumable(model: Any, pairs: ContrastSet, tmp_path: Path, **options: Any) -> ActivationStats:
    return collect(
        model,
        pairs,
        token_budget=BUDGET,
        share_prefixes=False,
        checkpoint=tmp_path / "state",
        save_every=0.0,
        **options,
    )


@pytest.mark.parametrize("passes", [0, 1, 4])
def test_resumed_is_equal_to_the_last_bit(
    model: Any, pairs: ContrastSet, whole: ActivationStats, tmp_path: Path, passes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, passes)
        with pytest.raises(Stop):
            resumable(model, pairs, tmp_path, samples=tmp_path / "h.npy")
    with pytest.MonkeyPatch.context() as patch:
        # what was done is not done again: one pass more than are left would stop it
        batches = Checkpoint(tmp_path / "state", {}, World()).files()
        assert len(batches) == (passes > 0)
        again = resumable(model, pairs, tmp_path, samples=tmp_path / "h.npy")
    same(again, whole)
    assert again.samples is not None
    plain = collect(model, pairs, token_budget=BUDGET, share_prefixes=False, samples=True).samples
    assert plain is not None
    np.testing.assert_array_equal(again.samples.h, plain.h)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["h.npy"]


def test_only_what_is_left_is_run(model: Any, pairs: ContrastSet, tmp_path: Path) -> None:
    total = [0]
    plain = inference.forward_batch

    def counted(*args: Any, **kwargs: Any) -> Any:
        total[0] += 1
        return plain(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "forward_batch", counted)
        collect(model, pairs, token_budget=BUDGET, share_prefixes=False)
        needed, total[0] = total[0], 0
        with pytest.MonkeyPatch.context() as inner:
            stop_after(inner, 3)
            with pytest.raises(Stop):
                resumable(model, pairs, tmp_path)
        total[0] = 0
        resumable(model, pairs, tmp_path)
        assert total[0] == needed - 3 > 0


def test_a_checkpoint_of_something_else_is_refused(model: Any, pairs: ContrastSet, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stop):
            resumable(model, pairs, tmp_path)
    with pytest.raises(InputError, match="differs in pooling"):
        resumable(model, pairs, tmp_path, pooling="last")
    with pytest.raises(InputError, match="differs in batches"):
        collect(model, pairs, token_budget=100, checkpoint=tmp_path / "state")
    [file] = tmp_path.glob("state.*")
    file.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="no state of a collection"):
        resumable(model, pairs, tmp_path)
    file.unlink()
    with pytest.raises(InputError, match="need a file"):
        resumable(model, pairs, tmp_path, samples=True)


def test_other_token_ids_never_resume(pairs: ContrastSet, tmp_path: Path) -> None:
    """The same prompts on the same model: another date, argument or `chat` runs other tokens."""
    folder = tiny_checkpoint(tmp_path / "m", chat=True)
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    model = models.load(folder)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stop):
            resumable(model, pairs, tmp_path)
    inference.set_template(model, date="2024-07-27")  # as many tokens, so that the batches are the same
    with pytest.raises(InputError, match=r"differs in tokens\)"):
        resumable(model, pairs, tmp_path)
    inference.set_template(model)
    with pytest.raises(InputError, match=r"differs in .*tokens"):
        resumable(model, pairs, tmp_path, chat=False)
    same(resumable(model, pairs, tmp_path), collect(model, pairs, token_budget=BUDGET, share_prefixes=False))


def test_states_of_other_processes_are_taken_over(
    model: Any, pairs: ContrastSet, whole: ActivationStats, tmp_path: Path
) -> None:
    """Two processes were stopped, one goes on: its moments are theirs and its own, and no batch counts twice."""
    for rank in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collecting, "current_world", lambda rank=rank: _Deaf(rank, 2))
            stop_after(patch, 2)
            with pytest.raises(Stop):
                resumable(model, pairs, tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["state.1of2.safetensors", "state.2of2.safetensors"]
    near(resumable(model, pairs, tmp_path), whole, 1e-6)
    assert not list(tmp_path.iterdir())


class _Deaf(World):
    """One of several processes that hears nothing of the others."""

    def gathered(self, item: Any) -> list[Any]:
        return [item]

    def wait(self) -> None:
        return None


@pytest.mark.parametrize("spare", [40, 5])
def test_halves_where_memory_ends(
    model: Any, pairs: ContrastSet, whole: ActivationStats, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    plain, refused = inference.forward_batch, []
    fits = int(tokenised(model, pairs.examples(), None).lengths.max()) + spare

    def tight(model: Any, batch: Any, **kwargs: Any) -> Any:
        if batch.tokens.numel() > fits:
            refused.append(batch.tokens.numel())
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
            )
        return plain(model, batch, **kwargs)

    monkeypatch.setattr(inference, "forward_batch", tight)
    near(collect(model, pairs, token_budget=BUDGET, share_prefixes=False), whole, 1e-6)
    # it learns: once a size has failed, nothing of that size is tried again
    assert 0 < len(refused) <= 3
    assert all(b < a for a, b in itertools.pairwise(refused))


def test_one_text_that_does_not_fit_is_named(model: Any, pairs: ContrastSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(inference, "forward_batch", never)
    with pytest.raises(WorkError, match=r"out of memory on a text of \d+ tokens \('What about"):
        collect(model, pairs, token_budget=BUDGET, share_prefixes=False)


LIMITED = """
import resource, sys
import numpy as np
from neva_tl import models, prompts
from neva_tl.activations import collect
from neva_tl.models.inference import scoring

model = models.load(sys.argv[1])
pairs = prompts.load(sys.argv[2])
collect(model, pairs, token_budget=64)  # whatever is loaded late is loaded
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]),) * 2)
seen = []
plain = scoring.run_pass
def counted(model, tokens, *args, **kwargs):
    seen.append(tokens.numel())
    return plain(model, tokens, *args, **kwargs)
scoring.run_pass = counted
stats = collect(model, pairs, token_budget=1_000_000, share_prefixes=False)
print(max(seen), len(seen))
stats.save(sys.argv[4])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc and RLIMIT_AS")
def test_a_real_limit_of_memory_is_survived(folder: Path, tmp_path: Path) -> None:
    """All texts in one batch need more than the process may have: it halves, and loses none."""
    from neva_tl import models
    from neva_tl.models.tiny import tiny_checkpoint

    wide = tiny_checkpoint(tmp_path / "wide", d_mlp=4096, n_layers=2)
    rows = [
        {
            "value": value,
            "pole": pole,
            "text": f"{value} {'yes' if pole == '+' else 'no'} {'and so on ' * (1 + topic % 5)}{topic}.",
            "pair_id": f"{value} {topic}",
            "cluster": f"topic {topic}",
            "split": "train",
        }
        for value in ("power", "security")
        for topic in range(60)
        for pole in "+-"
    ]
    pairs = ContrastSet.from_rows(rows, "many")
    pairs.save(tmp_path / "many.csv")
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(wide), str(tmp_path / "many.csv"),
         str(150 << 20), str(tmp_path / "stats")],
        capture_output=True, text=True, timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    largest, passes = map(int, run.stdout.split())
    assert passes > 2 and largest > 0
    near(ActivationStats.load(tmp_path / "stats"), collect(models.load(wide), pairs, token_budget=500), 1e-5)


KILLED = """
import os, sys
from neva_tl import models, prompts
from neva_tl.models import inference
from neva_tl.activations import collect

plain, left = inference.forward_batch, [int(sys.argv[4])]
def forward(*args, **kwargs):
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    return plain(*args, **kwargs)
inference.forward_batch = forward
stats = collect(models.load(sys.argv[1]), prompts.load(sys.argv[2]), token_budget=200, share_prefixes=False,
                checkpoint=sys.argv[3], save_every=0.0)
stats.save(sys.argv[5])
"""


def test_kill_nine_and_on(folder: Path, pairs: ContrastSet, whole: ActivationStats, tmp_path: Path) -> None:
    pairs.save(tmp_path / "pairs.csv")

    def call(passes: int) -> int:
        names = [folder, tmp_path / "pairs.csv", tmp_path / "state", passes, tmp_path / "stats"]
        env = os.environ | {"HF_HUB_OFFLINE": "1"}
        return subprocess.run([sys.executable, "-c", KILLED, *map(str, names)], timeout=200, env=env).returncode

    assert call(2) == -signal.SIGKILL
    assert not (tmp_path / "stats.json").exists()
    assert call(1000) == 0
    same(ActivationStats.load(tmp_path / "stats"), whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.csv", "stats.json", "stats.safetensors"]
