"""Cost of an edit in generation, compared with other libraries.

    python analyses/benchmarks/benchmark_edit.py [--models demo gpt2 smollm2] [--batches 1 8] [--repeats 5] [--out FILE.json]

Prints two tables per model, medians of alternating repeats; the JSON file has every repeat and grows as they come. Writing: the
same number of greedy tokens for all methods, unedited and edited by the same shift (our loop on the TransformerLens model,
transformers' `generate` with `edit_hf`, with a hook written by hand) or the same vector (`edit_hf`, repeng); microseconds that
the edit adds to a decoding step. Conditions (`--conditions`): the same texts unedited, shifted, shifted with a gate, and for
ten conditions one after the other and in one batch. The generated texts must be equal before anything is timed. `gpt2` is
GPT-2's shape (124 M) with random weights.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from common.options import pin, pinnable, write_results

from neva_tl.core.errors import InputError, NevaError

TOKENS, PROMPTS, NEURONS = 20, 48, 200
#: Few repeats of a short call are noise: repeats go on until all methods together took this time (s), up to this number.
ENOUGH, MOST = 20.0, 40
#: Tokens of a prompt, and new tokens, in the writing table.
PROMPT, NEW = 16, 32
#: Context around a timed call (its value is the argument of the call), and the call.
Job = tuple[Callable[[], AbstractContextManager[Any]], Callable[[Any], Any]]
#: Method -> its reference.
BASE = {
    "ours, edited": "ours",
    "ours, edited, last": "ours",
    "hf, edit_hf": "hf",
    "hf, edit_hf, last": "hf",
    "hf, edit_hf, ten edits": "hf",
    "hf, raw hook": "hf",
    "hf, edit_hf, vector": "hf",
    "hf, repeng, vector": "hf, repeng, no vector",
    "shifted": "unedited",
    "shifted behind a gate": "unedited",
    "ten conditions, one batch": "ten conditions, one after the other",
}


def main() -> int:
    """Run the benchmark; a model that cannot be loaded is an error of one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=["demo", "gpt2", "smollm2"], help="gpt2, or a model of neva_tl.load"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="rows of a batch")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each method")
    parser.add_argument("--new-tokens", type=int, default=NEW, help="new tokens of each row")
    parser.add_argument("--conditions", nargs="*", default=["demo"], help="models of the table of conditions")
    pinnable(parser)
    parser.add_argument("--out", type=Path, help="write every repeat as JSON")
    args = parser.parse_args()
    pin(args.core)
    try:
        results = measure(args.models, args.batches, args.repeats, args.new_tokens, args.conditions, args.out)
    except NevaError as error:
        print(f"benchmark_edit: {error}", file=sys.stderr)
        return error.exit_code
    for check, value in results["checks"].items():
        print(f"{check}: {value}")
    return 0


def measure(
    names: list[str],
    batches: list[int],
    repeats: int,
    new_tokens: int = NEW,
    conditioned: Sequence[str] = ("demo",),
    out: Path | None = None,
) -> dict[str, Any]:
    """Measure, print and write all tables.

    Args:
        names: models.
        batches: rows of a batch.
        repeats: timed repeats of each method.
        new_tokens: new tokens of each row.
        conditioned: models of the table of conditions.
        out: JSON file, or None.

    Returns:
        `{"bench", "rows", "checks"}`, a row per repeat.
    """
    rows: list[dict[str, Any]] = []
    checks: dict[str, Any] = {}
    results = {"bench": "edit", "rows": rows, "checks": checks}

    def show() -> None:
        print_table(rows, rows[-1]["workload"])
        checks.update(ratios(rows))
        write_results(results, out)

    for name in names:
        try:
            with checkpoint(name) as folder:
                for batch in batches:
                    writing(name, folder, batch, new_tokens, repeats, rows, checks)
                    gc.collect()
                    show()
                if name in conditioned:
                    conditions(name, repeats, rows, checks)
                    show()
        except InputError as error:
            if name != "smollm2":
                raise
            checks["skipped smollm2"] = str(error)
    return results


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the time of edited over unedited generation, and over `generate`."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        seconds.setdefault((row["workload"], row["method"]), []).append(row["seconds"])
    out = {}
    for (workload, method), times in seconds.items():
        for edited, base in (("ours, edited", "ours"), ("hf, edit_hf", "hf"), ("ours, edited", "hf")):
            if method == edited and (workload, base) in seconds:
                # repeat by repeat, because a slow phase of the machine slows both
                quotients = [a / b for a, b in zip(times, seconds[workload, base], strict=True)]
                out[f"{workload}: '{edited}', times '{base}'"] = statistics.median(quotients)
    return out


@contextmanager
def checkpoint(name: str) -> Iterator[Path]:
    """Yield the folder of a model's checkpoint; for `gpt2` a temporary one."""
    from neva_tl.models import sources

    if name != "gpt2":
        path = sources.resolve(name).path
        if path is None:
            raise InputError(f"{name} is not a local model: give a folder, a .gguf file, gpt2, demo or smollm2")
        yield path
        return
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from neva_tl.models.tiny import tiny_tokenizer

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        GPT2LMHeadModel(GPT2Config(initializer_range=0.05)).save_pretrained(folder)
        tiny_tokenizer(bos=False).save_pretrained(folder)
        yield Path(folder)


def a_shift(model: Any, seed: int, **options: Any) -> Any:
    """Make a shift of `NEURONS` random neurons of the model, by `.05 * dose` each."""
    import pandas as pd

    import neva_tl as nv

    info = nv.models.info(model)
    rng = np.random.default_rng(seed)
    flat = rng.choice(info.n_layers * info.d_mlp, size=min(NEURONS, info.n_layers * info.d_mlp // 4), replace=False)
    layer, neuron = np.divmod(np.sort(flat), info.d_mlp)
    df = pd.DataFrame({"layer": layer, "neuron": neuron, "mean_plus": 0.05, "mean_minus": 0.0, "sd": 1.0, "score": 1.0})
    neurons = nv.NeuronSet("power", "benchmark", df, info.n_layers, info.d_mlp, fingerprint=nv.fingerprint(model))
    return nv.Amplify(neurons, **options)


# ---------------------------------------------------------------- writing


def writing(
    name: str, folder: Path, batch: int, new: int, repeats: int, rows: list[dict[str, Any]], checks: dict[str, Any]
) -> None:
    """Time the same tokens by every path, edited and unedited.

    Args:
        name: name of the model in the table.
        folder: folder of its checkpoint.
        batch: rows of a batch.
        new: new tokens of each row.
        repeats: timed repeats of each method.
        rows: list that gets a row per repeat.
        checks: dict that gets the results of comparisons.
    """
    import torch
    from transformers import AutoModelForCausalLM

    import neva_tl as nv
    from neva_tl.models.inference.sampling import SamplingSettings, decode

    model = nv.load(folder)
    info = nv.models.info(model)

    def plain() -> Any:
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        hf.generation_config.eos_token_id = None  # the same number of tokens for all methods
        return hf

    hf = plain()
    rng = np.random.default_rng(0)
    prompt = torch.from_numpy(rng.integers(5, min(info.d_vocab, 300), size=(batch, PROMPT)))
    mask = torch.ones_like(prompt, dtype=torch.bool)
    new = min(new, info.n_ctx - PROMPT)
    edits = [a_shift(model, seed, dose=20.0 + seed) for seed in range(10)]
    shift = edits[0]
    vectors = {layer: 0.01 * rng.normal(size=info.d_model).astype(np.float32) for layer in range(info.n_layers)}

    def ours(session: Any) -> list[list[int]]:
        return decode(model, prompt, mask, range(batch), SamplingSettings(new, 0.0, 0, frozenset()), session)

    def hfs(_: Any, writer: Any = hf) -> list[list[int]]:
        decoding = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        return writer.generate(prompt, attention_mask=mask.long(), **decoding)[:, PROMPT:].tolist()

    jobs: dict[str, Job] = {
        "ours": (nullcontext, ours),
        "ours, edited": (lambda: nv.edit(model, shift), ours),
        "ours, edited, last": (lambda: nv.edit(model, shift.with_scope("last")), ours),
        "hf": (nullcontext, hfs),
        "hf, edit_hf": (lambda: nv.edit_hf(hf, shift), hfs),
        "hf, edit_hf, last": (lambda: nv.edit_hf(hf, shift.with_scope("last")), hfs),
        "hf, edit_hf, ten edits": (lambda: nv.edit_hf(hf, *edits), hfs),
        "hf, raw hook": (lambda: raw_hooks(hf, shift), hfs),
        "hf, edit_hf, vector": (lambda: nv.edit_hf(hf, nv.AddVector(vectors)), hfs),
    }
    if importlib.util.find_spec("repeng") is None:
        checks["skipped repeng"] = "not installed: pip install repeng"
    else:
        # repeng changes the model, so that it gets its own copy
        steered = Controlled(plain(), vectors)
        jobs["hf, repeng, no vector"] = (nullcontext, lambda _: hfs(_, steered.model))
        jobs["hf, repeng, vector"] = (steered.set, lambda _: hfs(_, steered.model))
    workload = f"{name}, {batch} x {new} tokens"
    with torch.no_grad():
        texts = {}
        for job, (around, run) in jobs.items():
            with around() as session:
                texts[job] = run(session)
        assert all(np.shape(text) == (batch, new) for text in texts.values()), "unequal numbers of tokens"
        same_as_hook = texts["hf, edit_hf"] == texts["hf, raw hook"]
        assert same_as_hook, "edit_hf and the hook by hand give different texts"
        assert texts["hf, edit_hf"] != texts["hf"], "the edit changes nothing"
        if "hf, repeng, vector" in texts:
            assert texts["hf, repeng, vector"] == texts["hf, edit_hf, vector"], (
                "repeng and edit_hf give different texts"
            )
        for job, twin in (("ours", "hf"), ("ours, edited", "hf, edit_hf"), ("ours, edited, last", "hf, edit_hf, last")):
            # attention is computed differently: near a tie of two tokens rows may differ
            same = float(np.mean([a == b for a, b in zip(texts[job], texts[twin], strict=True)]))
            checks[f"{workload}: rows of '{job}' equal to '{twin}'"] = same
            first = [a[0] == b[0] for a, b in zip(texts[job], texts[twin], strict=True)]
            message = f"{workload}: '{job}' and '{twin}' give different texts ({same:.0%} alike)"
            assert all(first), message
            assert same >= 0.5, message
        timed(workload, jobs, repeats, rows, steps=new)


@contextmanager
def raw_hooks(hf: Any, shift: Any) -> Iterator[None]:
    """Apply the shift by hand: a dense step on the input of each output projection."""
    import torch

    blocks = hf.model.layers if hasattr(hf, "model") else hf.transformer.h
    df = shift.neurons.df
    with ExitStack() as stack:
        for layer in shift.neurons.layers:
            mlp = blocks[layer].mlp
            module = mlp.down_proj if hasattr(mlp, "down_proj") else mlp.c_proj
            rows = df[df["layer"] == layer]
            step = torch.zeros(shift.neurons.d_mlp)
            contrast = (rows["mean_plus"] - rows["mean_minus"]).tolist()
            step[rows["neuron"].tolist()] = shift.dose * torch.tensor(contrast)
            handle = module.register_forward_pre_hook(lambda _, args, step=step: (args[0] + step,))
            stack.callback(handle.remove)
        yield


class Controlled:
    """A model under repeng, as its documentation shows."""

    def __init__(self, hf: Any, vectors: dict[int, np.ndarray]) -> None:
        if not hasattr(np, "float_"):
            np.float_ = np.float64  # type: ignore[attr-defined]  # repeng 0.4 reads this name, which NumPy 2 removed
        from repeng import ControlModel, ControlVector

        self.model = ControlModel(hf, list(vectors))
        self.vector = ControlVector(model_type=hf.config.model_type, directions=vectors)

    @contextmanager
    def set(self) -> Iterator[None]:
        """Set the control for the duration of the context."""
        self.model.set_control(self.vector, 1.0)
        yield
        self.model.reset()


# ---------------------------------------------------------------- conditions


def conditions(name: str, repeats: int, rows: list[dict[str, Any]], checks: dict[str, Any]) -> None:
    """Time a batch of texts under several conditions.

    They are unedited, edited, gated, and ten conditions apart and together.

    Args:
        name: the model.
        repeats: timed repeats of each method.
        rows: list that gets a row per repeat.
        checks: dict that gets the results of comparisons.
    """
    import neva_tl as nv
    from neva_tl.editing import RelevanceGate, edit_rows

    model = nv.load(name)
    info = nv.models.info(model)
    rng = np.random.default_rng(0)
    spec = "demo" if info.demo else "schwartz"
    prompts = nv.prompts.open_prompts(spec, "validation")["text"].head(PROMPTS).tolist()
    weight = rng.normal(size=(info.n_layers, info.d_mlp)).astype(np.float32)
    zeros = np.zeros(info.n_layers)
    gate = RelevanceGate(tuple(range(info.n_layers)), weight, zeros, zeros, zeros)

    def write(*edits: Any) -> list[str]:
        with nv.edit(model, *edits) as session:
            return nv.generate(model, prompts, max_new_tokens=TOKENS, temperature=1.0, session=session)

    ten = [a_shift(model, seed, dose=1.0 + seed, scope="last") for seed in range(10)]

    def apart() -> list[str]:
        return [text for edit in ten for text in write(edit)]

    def together() -> list[str]:
        number = np.arange(len(ten)).repeat(len(prompts))
        numbers = np.tile(np.arange(len(prompts)), len(ten)).tolist()
        with edit_rows(model, [(edit,) for edit in ten], number) as session:
            return nv.generate(
                model,
                prompts * len(ten),
                numbers=numbers,
                max_new_tokens=TOKENS,
                temperature=1.0,
                session=session,
                batch_size=len(prompts) * len(ten),
            )

    same = float(np.mean([a == b for a, b in zip(apart(), together(), strict=True)]))
    # sums in another order may change a draw near the boundary of two tokens
    assert same > 0.99, f"only {same:.1%} of the texts are equal in one batch and apart"
    workload = f"{name}, {PROMPTS} prompts x {TOKENS} tokens a condition"
    checks[f"{workload}: texts of ten conditions equal apart and together"] = same
    jobs: dict[str, Job] = {
        "unedited": (nullcontext, lambda _: write()),
        "shifted": (nullcontext, lambda _: write(ten[0])),
        "shifted behind a gate": (nullcontext, lambda _: write(ten[0].with_gate(gate))),
        "ten conditions, one after the other": (nullcontext, lambda _: apart()),
        "ten conditions, one batch": (nullcontext, lambda _: together()),
    }
    timed(workload, jobs, repeats, rows)


# ---------------------------------------------------------------- timing


def timed(
    workload: str, jobs: dict[str, Job], repeats: int, rows: list[dict[str, Any]], steps: int | None = None
) -> None:
    """Time alternating repeats of some jobs.

    `setup_seconds` is the time to enter and leave the context of a job; it is not part of `seconds`. CPU time of this process
    is more reliable than wall time on a shared machine.

    Args:
        workload: name in the table.
        jobs: the jobs by method.
        repeats: smallest number of repeats.
        rows: list that gets a row per repeat.
        steps: decoding steps of a job; adds the time per step that an edit adds to its reference in the same repeat.
    """
    repeat, begun = 0, time.perf_counter()
    while repeat < repeats or (repeats > 1 and repeat < MOST and time.perf_counter() - begun < ENOUGH):
        seconds: dict[str, tuple[float, float, float]] = {}
        for job, (around, run) in jobs.items():
            opened = time.perf_counter()
            with around() as session:
                started, worked = time.perf_counter(), time.process_time()
                run(session)
                wall, cpu = time.perf_counter() - started, time.process_time() - worked
            seconds[job] = (wall, cpu, time.perf_counter() - opened - wall)
        for job, (wall, cpu, setup) in seconds.items():
            row = {"workload": workload, "method": job, "repeat": repeat, "seconds": wall}
            row |= {"cpu_seconds": cpu, "setup_seconds": setup}
            base = BASE.get(job)
            if base is not None:
                wall_base, cpu_base, _ = seconds[base]
                row |= {"ratio": wall / wall_base, "cpu_ratio": cpu / cpu_base, "base": base}
                if steps is not None:
                    row["added_us_per_step"] = 1e6 * (wall - wall_base) / steps
                    row["added_cpu_us_per_step"] = 1e6 * (cpu - cpu_base) / steps
            rows.append(row)
        repeat += 1


def print_table(rows: list[dict[str, Any]], workload: str) -> None:
    """Print medians with spread, ratios to the reference, added time per step."""
    print(f"\n{workload}")
    selected = [row for row in rows if row["workload"] == workload]
    for job in dict.fromkeys(row["method"] for row in selected):
        repeats = [row for row in selected if row["method"] == job]
        seconds = [row["seconds"] for row in repeats]
        line = f"{job:38s} {statistics.median(seconds):7.3f} s  [{min(seconds):.3f}, {max(seconds):.3f}]"
        if "ratio" in repeats[0]:
            wall, cpu = (statistics.median(row[key] for row in repeats) for key in ("ratio", "cpu_ratio"))
            line += f"  x{wall:.2f} (CPU x{cpu:.2f}) of {repeats[0]['base']}"
        if "added_us_per_step" in repeats[0]:
            keys = ("added_us_per_step", "added_cpu_us_per_step")
            wall, cpu = (statistics.median(row[key] for row in repeats) for key in keys)
            line += f"  {wall:+7.1f} (CPU {cpu:+7.1f}) us a step"
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
