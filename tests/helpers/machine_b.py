"""The work of a colleague's machine, where only the wheel of neva_tl is installed; prints one line of JSON.

Run in a folder with `checkpoint` (a transformers model), `edit` (of `nv.save_edit`), `pairs.csv`, `run` (a study's folder)
and `prompts.json`.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import neva_tl as nv
from neva_tl.cli.main import main

NEW = 8


def command(*args: str) -> dict[str, Any]:
    """Run `neva-tl ...`: exit status and printed text."""
    status, out = 0, io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main(list(args))
        except SystemExit as end:
            status = int(end.code or 0)
    return {"status": status, "out": out.getvalue()}


def tokens(hf: Any, folder: str | Path, prompts: Sequence[str]) -> list[list[int]]:
    """Greedy tokens of a transformers model after each prompt, by the tokenizer of its folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    out = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        new = hf.generate(**inputs, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
        out.append(new[0, inputs["input_ids"].shape[1] :].tolist())
    return out


def work() -> dict[str, Any]:
    """All that the colleague does."""
    prompts = json.loads(Path("prompts.json").read_text(encoding="utf-8"))
    hf = AutoModelForCausalLM.from_pretrained("checkpoint", dtype=torch.float32).eval()
    unedited = tokens(hf, "checkpoint", prompts)
    with nv.attach(hf, "edit"):
        edited = tokens(hf, "checkpoint", prompts)
    demo = nv.load("demo")
    return {
        "unedited": unedited,
        "edited": edited,
        "demo": nv.generate(demo, ["mara says that"], max_new_tokens=4),
        "prompts": len(nv.prompts.load("schwartz", per_value=4)),
        "steer": command("steer", "checkpoint", "pairs.csv", "--gain", "0.05", "--out", "steered"),
        "steered": nv.load_edit("steered").edit.dose,
        "report": command("report", "run"),
        "files": sorted(
            str(module.__file__) for name, module in list(sys.modules.items()) if name.partition(".")[0] == "neva_tl"
        ),
    }


if __name__ == "__main__":
    print(json.dumps(work()))
