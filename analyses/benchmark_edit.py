"""What an edit costs while the model writes, and what common batches save: medians of alternating repeats.

    python analyses/benchmark_edit.py [--model demo] [--repeats 5]

Prints a table: seconds for the same texts unedited, shifted, shifted behind a gate, and for ten conditions one after the
other and in one batch. The texts of the last two are asserted equal before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from neva_tl.errors import NevaError

TOKENS, PROMPTS, NEURONS = 20, 48, 200


def main() -> int:
    """Run the benchmark; one clear line where the model cannot be loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo", help="what neva_tl.load takes")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each")
    args = parser.parse_args()
    try:
        print_table(measure(args.model, args.repeats))
    except NevaError as error:
        print(f"benchmark_edit: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(name: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat, by what was done."""
    import pandas as pd

    import neva_tl as nv
    from neva_tl.editing import RelevanceGate, edit_rows

    model = nv.load(name)
    info = nv.models.info(model)
    rng = np.random.default_rng(0)
    spec = "demo" if info.demo else "schwartz"
    asked = nv.prompts.open_prompts(spec, "validation")["text"].head(PROMPTS).tolist()

    def shift(seed: int) -> Any:
        own = np.random.default_rng(seed)
        flat = own.choice(info.n_layers * info.d_mlp, size=min(NEURONS, info.n_layers * info.d_mlp // 4), replace=False)
        layer, neuron = np.divmod(np.sort(flat), info.d_mlp)
        df = pd.DataFrame(
            {"layer": layer, "neuron": neuron, "mean_plus": 0.01, "mean_minus": 0.0, "sd": 1.0, "score": 1.0}
        )
        neurons = nv.NeuronSet("power", "benchmark", df, info.n_layers, info.d_mlp, fingerprint=nv.fingerprint(model))
        return nv.Amplify(neurons, dose=1.0 + seed, scope="last")

    weight = rng.normal(size=(info.n_layers, info.d_mlp)).astype(np.float32)
    zeros = np.zeros(info.n_layers)
    gate = RelevanceGate(tuple(range(info.n_layers)), weight, zeros, zeros, zeros)

    def write(*edits: Any) -> list[str]:
        with nv.edit(model, *edits) as session:
            return nv.generate(model, asked, max_new_tokens=TOKENS, temperature=1.0, session=session)

    ten = [shift(seed) for seed in range(10)]

    def apart() -> list[str]:
        return [text for edit in ten for text in write(edit)]

    def together() -> list[str]:
        number = np.arange(len(ten)).repeat(len(asked))
        numbers = np.tile(np.arange(len(asked)), len(ten)).tolist()
        with edit_rows(model, [(edit,) for edit in ten], number) as session:
            return nv.generate(
                model,
                asked * len(ten),
                numbers=numbers,
                max_new_tokens=TOKENS,
                temperature=1.0,
                session=session,
                batch_size=len(asked) * len(ten),
            )

    same = np.mean([a == b for a, b in zip(apart(), together(), strict=True)])
    # sums in another order may flip a draw that lies on the edge between two tokens
    assert same > 0.99, f"only {same:.1%} of the texts are equal in one batch and apart"
    jobs: dict[str, Callable[[], list[str]]] = {
        "unedited": write,
        "shifted": lambda: write(ten[0]),
        "shifted behind a gate": lambda: write(ten[0].with_gate(gate)),
        "ten conditions, one after the other": apart,
        "ten conditions, one batch": together,
    }
    seconds: dict[str, list[float]] = {job: [] for job in jobs}
    for _ in range(repeats):
        for job, run in jobs.items():
            started = time.perf_counter()
            run()
            seconds[job].append(time.perf_counter() - started)
    return seconds


def print_table(seconds: dict[str, list[float]]) -> None:
    """Median, spread, and the ratio to what each line is compared with."""
    base = {"shifted": "unedited", "shifted behind a gate": "unedited"}
    base["ten conditions, one batch"] = "ten conditions, one after the other"
    print(f"{PROMPTS} prompts x {TOKENS} tokens a condition")
    for job, found in seconds.items():
        ratio = ""
        if job in base:
            pairs = zip(found, seconds[base[job]], strict=True)
            ratio = f"  x{statistics.median(a / b for a, b in pairs):.2f} of {base[job]}"
        print(f"{job:38s} {statistics.median(found):7.3f} s  [{min(found):.3f}, {max(found):.3f}]{ratio}")


if __name__ == "__main__":
    sys.exit(main())
