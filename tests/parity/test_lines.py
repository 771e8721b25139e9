"""Both TransformerLens lines (3.9 and 4.x) select the same neurons and give the same edited log-probabilities.

Two ways: each line against plain transformers and NumPy (runs under either), and one line against the other, run in the
other environment of the checkout where that exists.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.paths import ROOT

SCRIPT = ROOT / "tests" / "helpers" / "one_line.py"


def other_python() -> Path:
    """The interpreter of the other line's environment."""
    name = ".venv" if version("transformer-lens").startswith("3.") else ".venv-tl3"
    python = ROOT / name / "bin" / "python"
    if not python.exists():
        pytest.skip(
            f"needs the other TransformerLens line in {name} (make {'setup' if name == '.venv' else 'test-tl3'})"
        )
    ready = subprocess.run([python, "-c", "import transformer_lens, sklearn"], capture_output=True, timeout=200)
    if ready.returncode:
        pytest.skip(f"the environment {name} is not complete")
    return python


def compare_lines(model: str) -> None:
    python = other_python()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([python, SCRIPT, model], capture_output=True, text=True, env=environment, timeout=280)
    assert run.returncode == 0, run.stderr[-2000:]
    theirs = json.loads(run.stdout.splitlines()[-1])
    mine: dict[str, Any] = json.loads(json.dumps(runpy.run_path(str(SCRIPT))["measure"](model)))
    assert {mine["class"], theirs["class"]} == {"TransformerBridge", "HookedTransformer"}
    assert mine["fingerprint"] == theirs["fingerprint"]
    for method in ("effect_size", "neva"):
        a, b = mine[method], theirs[method]
        assert a["neurons"] == b["neurons"], method
        np.testing.assert_allclose(a["score"], b["score"], rtol=1e-3)
        for key in ("none", "shift", "ablate", "context"):
            np.testing.assert_allclose(a[key]["last"], b[key]["last"], atol=1e-4, err_msg=f"{method} {key}")
            # sums over a dozen tokens
            np.testing.assert_allclose(a[key]["sums"], b[key]["sums"], atol=1e-3, err_msg=f"{method} {key}")
            assert a[key]["text"] == b[key]["text"], (method, key)
        moved = np.abs(np.subtract(a["shift"]["last"], a["none"]["last"])).max()
        assert moved > 1e-2, "the edit must do something for the comparison to mean anything"


def test_lines_agree_on_stories(shared_dir: Path) -> None:
    compare_lines(str(shared_dir / "models" / "stories3M"))


def test_lines_agree_on_demo() -> None:
    from neva_tl import demo

    if not (demo.path() / "model.safetensors").is_file():
        pytest.skip("the demo model has not been trained yet")
    compare_lines("demo")


# ---------------------------------------------------------------- against plain transformers


def plain_contrast(folder: Path, rows: list[dict[str, Any]], value: str) -> tuple[np.ndarray, np.ndarray]:
    """`(paired d_z, mean difference)` `[l, k]` of the pooled down-projection input, by raw hooks and NumPy."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = AutoTokenizer.from_pretrained(folder)
    seen: list[np.ndarray] = []
    for block in hf.model.layers:
        block.mlp.down_proj.register_forward_pre_hook(lambda m, a: seen.append(a[0][0, 1:].double().mean(0).numpy()))
    pooled: dict[str, list[np.ndarray]] = {"+": [], "-": []}
    for row in rows:
        if row["value"] == value:
            seen.clear()
            with torch.no_grad():
                hf(torch.tensor([[text.bos_token_id, *text(row["text"], add_special_tokens=False)["input_ids"]]]))
            pooled[row["pole"]].append(np.stack(seen))
    difference = np.stack(pooled["+"]) - np.stack(pooled["-"])
    return difference.mean(0) / difference.std(0, ddof=1), difference.mean(0)


@pytest.mark.core
def test_selection_and_edit_equal_plain_transformers(stories3m: Any, shared_dir: Path) -> None:
    import neva_tl as nv
    from neva_tl.models import inference

    folder = shared_dir / "models" / "stories3M"
    script = runpy.run_path(str(SCRIPT))
    rows = script["rows"]()
    d, delta = plain_contrast(folder, rows, "benevolence")
    stats = nv.collect(stories3m, nv.ContrastSet.from_rows(rows, "lines"))
    neurons = nv.select(
        stats, "benevolence", method="effect_size", k=16, lam=0.0, delta=0.0, require_q=False, require_split_half=False
    )
    order = np.argsort(-np.abs(d), axis=None)[:16]
    assert {(int(i) // 512, int(i) % 512) for i in order} == set(
        map(tuple, neurons.df[["layer", "neuron"]].to_numpy().tolist())
    )
    batch = inference.encode(stories3m, [nv.Example("", script["TEXTS"][0])])
    with nv.edit(stories3m, nv.Amplify(neurons, dose=2.0)) as session:
        got = inference.forward_batch(stories3m, batch, session=session)
    assert got is not None
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    step = np.zeros_like(d)
    step.reshape(-1)[order] = 2.0 * delta.reshape(-1)[order]
    with torch.no_grad():
        unedited = hf(batch.tokens).logits.log_softmax(-1)
        for layer, block in enumerate(hf.model.layers):
            add = torch.tensor(step[layer], dtype=torch.float32)
            block.mlp.down_proj.register_forward_pre_hook(lambda m, a, add=add: (a[0] + add,))
        want = hf(batch.tokens).logits.log_softmax(-1)
    assert float((want - unedited).abs().max()) > 1e-2
    torch.testing.assert_close(got.log_softmax(-1), want, atol=1e-4, rtol=0)
