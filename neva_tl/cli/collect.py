"""`neva-tl collect`: activation statistics, by one process or several of torchrun."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli.options import (
    Debug,
    Dtype,
    Json,
    Matmul,
    Model,
    Prompts,
    Quiet,
    Seed,
    Theory,
    Verbose,
    finite,
    load_pairs,
    path_of,
    say_note,
)
from neva_tl.core.errors import WorkError


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(collect)


def collect(
    model: Model = "demo",
    prompts: Prompts = "auto",
    theory: Theory = None,
    out: Annotated[
        Path,
        typer.Option("--out", parser=path_of, metavar="PATH", help="where to write PATH.json and PATH.safetensors"),
    ] = Path("runs/stats"),
    split: Annotated[str, typer.Option("--split", help="train, validation, test, or all")] = "train",
    pooling: Annotated[
        str, typer.Option("--pooling", help="mean, last, max, token, or auto (last on the demo model, else mean)")
    ] = "auto",
    stop_at_layer: Annotated[
        int | None, typer.Option("--stop-at-layer", min=1, help="collect and run only the layers below this one")
    ] = None,
    token_budget: Annotated[
        int | None, typer.Option("--token-budget", min=1, help="tokens of a batch; default: depends on the device")
    ] = None,
    save_every: Annotated[
        float, typer.Option("--save-every", min=0, callback=finite, help="seconds between two checkpoints")
    ] = 5.0,
    dtype: Dtype = "float32",
    matmul: Matmul = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Collect activation statistics of every MLP neuron on contrastive prompts.

    After a stop or a kill, the same command resumes. Under torchrun several processes share the prompts:
    torchrun --nproc-per-node=2 -m neva_tl collect ...
    """
    import neva_tl as nv
    from neva_tl.activations.pooling import decided_pooling
    from neva_tl.activations.ranks import joined
    from neva_tl.core.files import check_output_pair, without_suffix
    from neva_tl.models.sources import is_demo

    kind: Any = decided_pooling(pooling, is_demo(model))  # type: ignore[arg-type]
    check_output_pair(out)
    pairs = load_pairs(prompts, model, theory=theory)
    if split != "all":
        pairs.split(split)  # raises where the prompts have no such split
    with joined() as world, _stoppable(world.size):
        stats = nv.collect(
            nv.load(model, dtype=dtype, matmul=matmul),  # type: ignore[arg-type]
            pairs,
            split=None if split == "all" else split,
            pooling=kind,
            stop_at_layer=stop_at_layer,
            token_budget=token_budget,
            checkpoint=out.with_name(f"{without_suffix(out).name}.state"),
            save_every=save_every,
            progress=True,
        )
        if not world.first:
            return
        path = stats.save(out)
    say_note("prompts", pairs.note)
    counts = {name: int(stats.n[stats.index(name)].sum()) for name in stats.values}
    unit = "tokens" if kind == "token" else "prompts"
    print(json.dumps({"stats": str(path), unit: counts}) if as_json else f"{sum(counts.values())} {unit} -> {path}")


@contextmanager
def _stoppable(processes: int) -> Iterator[None]:
    """Turn SIGTERM into one line of error among several processes.

    torchrun ends the other processes when it loses one.

    Args:
        processes: Number of processes.
    """

    def stop(_number: int, _frame: Any) -> None:
        raise WorkError(
            "stopped, because another process was lost or torchrun was stopped: run the same command again to resume"
        )

    if processes == 1:
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
