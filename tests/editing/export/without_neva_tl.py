"""Run exported edits in a process in which neva_tl and transformer_lens cannot be imported.

    python without_neva_tl.py FOLDER

FOLDER holds `cases.json` (name, checkpoint, exported folder), `inputs.safetensors`, and gets `results.safetensors`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

BLOCKED = ("neva_tl", "transformer_lens")


class Blocker:
    """Import nothing of neva_tl or TransformerLens."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked")


def attach_from(folder: str) -> Any:
    sys.path.insert(0, folder)
    sys.modules.pop("steer", None)
    try:
        from steer import attach
    finally:
        sys.path.pop(0)
    return attach


def main(folder: Path) -> None:
    sys.meta_path.insert(0, Blocker())  # type: ignore[arg-type]
    for name in BLOCKED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        raise SystemExit(f"{name} can be imported")
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    inputs = load_file(folder / "inputs.safetensors")
    cases = json.loads((folder / "cases.json").read_text())
    models: dict[str, Any] = {}
    results = {}
    for case in cases:
        checkpoint = case["checkpoint"]
        if checkpoint not in models:
            models[checkpoint] = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
            models[checkpoint].generation_config.eos_token_id = None
        model = models[checkpoint]
        given = {"input_ids": inputs["tokens"], "attention_mask": inputs["mask"]}
        position = (inputs["mask"].cumsum(1) - 1).clamp_min(0)
        handle = attach_from(case["folder"])(model)
        options = {"max_new_tokens": case["new"], "do_sample": False}
        with torch.no_grad(), handle:
            results[f"{case['name']} logits"] = model(**given, position_ids=position).logits.contiguous()
            results[f"{case['name']} tokens"] = model.generate(**given, **options)
            if case["static"]:
                static = model.generate(**given, **options, cache_implementation="static")
                results[f"{case['name']} static"] = static
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
        if hooks or "generate" in vars(model):
            raise SystemExit("the handle left something on the model")
    save_file(results, folder / "results.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
