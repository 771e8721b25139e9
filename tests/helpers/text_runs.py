"""Text-judged run folders whose cells are written by hand, so that every figure is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.study.run.run_folder import RunFolder

#: Values that the judge scores.
MEASURED = ("power", "tradition", "benevolence", "security")
TOPICS = 8
TARGET = 0.2


def items(added: Mapping[str, float], spread: float = 0.0, rise: str = "") -> pd.DataFrame:
    """Item scores: the unedited ones plus what an edit adds; the value `rise` gains more on later topics, `spread` in all."""
    rng = np.random.default_rng(0)
    frames = []
    for name in MEASURED:
        score = rng.uniform(0.3, 0.5, TOPICS) + added.get(name, 0.0)
        if name == rise:
            score = score + spread * np.linspace(-0.5, 0.5, TOPICS)
        clusters = [f"t{k}" for k in range(TOPICS)]
        frames.append(
            pd.DataFrame(
                {"kind": "score", "measured": name, "item": range(TOPICS), "cluster": clusters, "score": score}
            )
        )
    return pd.concat(frames, ignore_index=True)


def record(kl: float = 0.0, perplexity: float = 2.0, invalid: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {
        "invalid": invalid,
        "n_texts": TOPICS,
        "capability": {"kl": kl},
        "fluency": {"perplexity": perplexity},
    } | fields


def text_run(
    root: Path,
    gains: Mapping[str, Mapping[str, float]],
    *,
    seed: int = 0,
    leak: Mapping[str, float] | None = None,
    kl: Mapping[str, float] | None = None,
    perplexity: Mapping[str, float] | None = None,
    spread: float = 0.2,
    neurons: int = 300,
    judge: str = "llm:reader",
    weights: str = "a" * 64,
    curves: pd.DataFrame | None = None,
) -> RunFolder:
    """Write a run: `gains` is method -> steered value -> mean gain; `leak` what a method adds to every other value."""
    values = list(dict.fromkeys(value for of_method in gains.values() for value in of_method))
    store = RunFolder.open(root, {"study": "x"})
    prompts = pd.DataFrame(
        {"prompt": [f"prompt {k}" for k in range(TOPICS)], "topic": [f"t{k}" for k in range(TOPICS)]}
    )
    store.write_table("cells/base.texts", prompts.assign(sample=0, text="a text", valid=True), csv=False)
    store.write_table("cells/base.items", items({}), csv=False)
    store.write_json("cells/base.json", record())
    rows = []
    for method, of_method in gains.items():
        target = None if method == "role" else TARGET
        for value, gain in of_method.items():
            added = {name: (leak or {}).get(method, 0.0) for name in MEASURED} | {value: gain}
            about = {"dose": None if target is None else 4.0, "status": "own gain" if target is None else "reached"}
            write_cell(
                store,
                f"cells/measure/{method}/{value}@{target}",
                items(added, spread, value),
                record((kl or {}).get(method, 0.1), (perplexity or {}).get(method, 2.0), **about),
            )
            rows.append({"method": method, "gate": "none", "target_gain": target, "steered": value} | about)
    store.write_table("tables/values", pd.DataFrame(rows).astype({"target_gain": float, "dose": float}))
    if curves is not None:
        store.write_table("tables/dose", curves)
    results = {
        "judge": judge, "unit": "P(expresses)", "values": values, "target_gain": TARGET, "model": {"name": "made up"},
        "neurons": {value: {"k": neurons, "layers": [1]} for value in values},
    }  # fmt: skip
    store.write_json("results.json", results)
    manifest = {
        "study": "x", "config": {"model": "demo", "prompts": "demo"}, "seed": seed, "prompt_hash": "p", "finished": True,
        "model": {"name": "made up", "weights_hash": weights}, "wall_time_s": 1.0,
    }  # fmt: skip
    store.write_json("manifest.json", manifest)
    return store


def write_cell(store: RunFolder, name: str, scores: pd.DataFrame, about: Mapping[str, Any]) -> None:
    store.write_table(f"{name}.items", scores, csv=False)
    store.write_json(f"{name}.json", dict(about))
