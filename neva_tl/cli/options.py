"""Options and checks that the commands of `neva-tl` share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, check_name, find_theory

Model = Annotated[
    str,
    typer.Option(
        "--model", help="demo, demo:FOLDER, smollm2, a .gguf file, a local Hugging Face folder, or a hub name"
    ),
]
Prompts = Annotated[
    str,
    typer.Option(
        "--prompts",
        help="demo, schwartz, persona:DIR, valueeval:DIR, valuebench:FILE, pairs:FILE.csv, or a csv/jsonl/parquet file of our "
        "schema; auto: demo for demo models, schwartz otherwise",
    ),
]
Theory = Annotated[
    str | None,
    typer.Option(
        "--theory",
        help="theory of the values: schwartz, schwartz20, moral-foundations, or a .yaml or .json file; default: implied by the "
        "names in the prompts",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="seed of sampling, placebos and bootstraps")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Profile = Annotated[str, typer.Option("--profile", help="quick or full")]
Steered = Annotated[list[str] | None, typer.Option("--value", help="steer only this value (repeatable)")]
ValueName = Annotated[str, typer.Option("--value", help="a value of the prompts or of the theory")]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16 or auto")]
Selector = Annotated[str, typer.Option("--method", help="selector: effect_size, neva, margin, probe, causal, ...")]
Judge = Annotated[
    str,
    typer.Option(
        "--judge",
        help="exact (demo), logprob, wordlist, classifier:PATH, hf:NAME_OR_FOLDER, chat:MODEL@BASE_URL, or auto",
    ),
]
Gate = Annotated[
    str, typer.Option("--gate", help="relevance (every method edits only tokens that concern values), none, or auto")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="processes; default: one per core for a small model on a CPU, else 1"),
]
K = Annotated[int | None, typer.Option("--k", min=1, help="number of neurons; default: the selector's own rule")]


def say(text: str) -> None:
    """Print a line on stderr.

    Args:
        text: The line.
    """
    print(text, file=sys.stderr, flush=True)


def writable(out: Path) -> None:
    """Check that an output path can be written, and create its parent folder.

    Commands call it first, because their work may take minutes.

    Args:
        out: The path.

    Raises:
        InputError: The path is a folder, a parent is a file, or the permission to write is missing.
    """
    if out.suffix and out.is_dir():
        raise InputError(f"cannot write {out}: it is a folder; name a file")
    existing = next(parent for parent in out.absolute().parents if parent.exists())
    if not existing.is_dir():
        raise InputError(f"cannot write {out}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK):
        raise InputError(f"cannot write {out}: no permission to write in {existing}")
    out.parent.mkdir(parents=True, exist_ok=True)


def resolve_prompts(prompts: str, model: str) -> str:
    """Resolve the source of prompts.

    Args:
        prompts: The option; `auto` is `demo` on a demo model, else `schwartz`.
        model: Name of the model.
    """
    from neva_tl.models.sources import is_demo

    return ("demo" if is_demo(model) else "schwartz") if prompts == "auto" else prompts


def check_value(value: str, prompts: str, theory: str | None) -> None:
    """Check the name of a value before the work that needs it.

    Args:
        value: The name.
        prompts: Source of prompts; empty where a file of statistics replaces them.
        theory: The option; None for the theory that the prompts imply.

    Raises:
        InputError: Theory or prompts have no such value.
    """
    if theory is not None:
        find_theory(theory).index(value)
    elif prompts in ("auto", "demo", "schwartz"):
        SCHWARTZ.index(value)
    if not prompts:
        check_name(value)
    elif prompts not in ("auto", "demo", "schwartz"):
        from neva_tl.prompts import load

        # reading the file takes a moment, collecting takes minutes
        load(prompts, theory=theory).for_value(value)


def collected(
    model_name: str,
    prompts: str,
    dtype: str,
    samples: bool,
    stats: Path | None = None,
    theory: str | None = None,
) -> tuple[Any, Any]:
    """Load a model with its statistics, collected now or read from a file.

    Args:
        model_name: Name of the model.
        prompts: Source of prompts.
        dtype: Number format of the model.
        samples: Whether to collect samples.
        stats: File of statistics; None collects them.
        theory: Theory of the values; None for the one that the prompts imply.

    Raises:
        InputError: The statistics belong to other weights.
    """
    import neva_tl as nv
    from neva_tl.models import function_difference
    from neva_tl.study import StudyConfig

    model = nv.load(model_name, dtype=dtype)
    if stats is not None:
        statistics = nv.ActivationStats.load(stats)
        current = nv.fingerprint(model)
        if statistics.fingerprint.get("weights_hash") != current["weights_hash"]:
            raise InputError(f"{stats} was collected on other weights than {model_name}: collect again")
        if difference := function_difference(statistics.fingerprint, current):
            raise InputError(f"{stats} was collected on another model than {model_name} ({difference}): collect again")
        return model, statistics
    pairs = nv.prompts.load(resolve_prompts(prompts, model_name), theory=theory)
    pooling = StudyConfig(model=model_name).pooling
    return model, nv.collect(model, pairs, samples=samples, pooling=pooling, progress=True)
