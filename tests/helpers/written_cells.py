"""Run folders whose cells are written by hand: no noise, so that every measure is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from neva_tl.methods import gate_name
from neva_tl.study.run.run_folder import RunFolder

MEASURED = ("power", "tradition", "benevolence")
TOPICS, PER_TOPIC = 6, 2
BOTH = ("power", "tradition")
#: What each edit adds to power, tradition, benevolence.
ADDED = {
    "neva": {"power": (0.5, 0.0, 0.05), "tradition": (0.0, 0.5, 0.05)},
    "neva_shift": {"power": (0.5, 0.1, 0.0), "tradition": (0.0, 0.5, 0.1)},
    "caa": {"power": (0.5, 0.3, -0.2), "tradition": (0.1, 0.5, 0.2)},
    "caa_projected": {"power": (0.5, 0.2, 0.0), "tradition": (0.0, 0.5, 0.2)},
    "caa_probe": {"power": (0.5, 0.2, 0.2), "tradition": (0.2, 0.5, 0.2)},
}
KL = {"neva": 0.1, "neva_shift": 0.2, "caa": 0.8, "caa_projected": 1.0, "caa_probe": 0.2}


def items(added: tuple[float, ...] = (0.0, 0.0, 0.0)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = []
    for name, shift in zip(MEASURED, added, strict=True):
        n = TOPICS * PER_TOPIC
        clusters = [f"{name}/{k % TOPICS}" for k in range(n)]
        score = rng.normal(size=n) + shift
        frames.append(
            pd.DataFrame({"kind": "score", "measured": name, "item": range(n), "cluster": clusters, "score": score})
        )
    return pd.concat(frames, ignore_index=True)


def study(root: Path, reached: dict[str, tuple[str, ...]], relevance: bool, target: float = 0.4) -> RunFolder:
    store = RunFolder.open(root, {"study": "x"})
    store.write_table("cells/base.items", items(), csv=False)
    store.write_json("cells/base.json", {"capability": {"perplexity": 10.0, "kl": 0.0, "accuracy": 1.0}})
    rows, methods = [], []
    for method, done in reached.items():
        gate = gate_name(method, relevance)
        for value in BOTH:
            name = f"cells/measure/{method}/{value}@{target}"
            store.write_table(f"{name}.items", items(ADDED[method][value]), csv=False)
            cost = {"perplexity": 10.0 * np.exp(KL[method]), "kl": KL[method], "accuracy": 1 - KL[method] / 2}
            store.write_json(f"{name}.json", {"capability": cost})
            status = "reached" if value in done else "unreached"
            rows.append({"method": method, "gate": gate, "target_gain": target, "steered": value, "status": status})
        methods.append(
            {
                "method": method,
                "gate": gate,
                "target_gain": target,
                "reached": f"{len(done)}/2",
                "gain": 0.5,
                "nlr": 0.1,
            }
            | {"ppl": 10.0 * np.exp(KL[method]), "ppl_base": 10.0, "acc": 1 - KL[method] / 2, "acc_base": 1.0}
        )
    store.write_table("tables/values", pd.DataFrame(rows))
    store.write_table("tables/methods", pd.DataFrame(methods))
    store.write_table("tables/dose", pd.DataFrame({"method": ["caa"], "dose": [1.0], "gain": [0.5]}))
    store.write_json("results.json", {})
    store.write_json("manifest.json", {"study": "x", "config": {"model": "smollm2"}, "wall_time_s": 1.0})
    return store
