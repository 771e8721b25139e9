"""Options and checks that the commands of `neva-tl` share."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.core.errors import InputError

#: Largest seed: 64-bit integers with a sign, which JSON readers and tables hold without loss.
MAX_SEED = 2**63 - 1
DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")


def path_of(text: str | Path) -> Path:
    """Parse a path: `Path("")` would be the current folder.

    Args:
        text: Text of the option, or its default.

    Raises:
        BadParameter: The text is empty.
    """
    if not str(text).strip():
        raise typer.BadParameter("a path is expected, not an empty text")
    return Path(text)


def named(text: str | None) -> str | None:
    """Check that an option with a name is not empty.

    Args:
        text: Text of the option; None where it is not given.

    Raises:
        BadParameter: The text is empty.
    """
    if text is not None and not text.strip():
        raise typer.BadParameter("a name is expected, not an empty text")
    return text


def finite(number: float | None) -> float | None:
    """Check that a number is finite: NaN passes every comparison with a bound.

    Args:
        number: Number of the option; None where it is not given.

    Raises:
        BadParameter: The number is NaN or infinite.
    """
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"a finite number is expected, not {number}")
    return number


def known_dtype(dtype: str) -> str:
    """Check the number format.

    Args:
        dtype: Text of the option.

    Raises:
        BadParameter: The format is unknown.
    """
    if dtype not in DTYPES:
        raise typer.BadParameter(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    return dtype


def check_method(name: str) -> None:
    """Check the name of a method.

    Args:
        name: Text of the option.

    Raises:
        InputError: No method has that name.
    """
    from neva_tl.methods import METHODS

    if name not in METHODS:
        raise InputError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")


Model = Annotated[
    str,
    typer.Option(
        "--model",
        callback=named,
        help="demo, demo:FOLDER, smollm2, a .gguf file, a local Hugging Face folder, or a hub name",
    ),
]
Prompts = Annotated[
    str,
    typer.Option(
        "--prompts",
        callback=named,
        help="demo, schwartz, moral-foundations, persona:DIR, valueeval:DIR, valuebench:FILE, pairs:FILE.csv, or a "
        "csv/jsonl/parquet file of our schema; auto: demo for demo models, schwartz otherwise",
    ),
]
Theory = Annotated[
    str | None,
    typer.Option(
        "--theory",
        callback=named,
        help="theory of the values: schwartz, schwartz20, moral-foundations, or a .yaml or .json file; default: implied by the "
        "names in the prompts",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="seed of sampling, placebos and bootstraps")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Profile = Annotated[str, typer.Option("--profile", help="quick or full")]
Steered = Annotated[list[str] | None, typer.Option("--value", help="steer only this value (repeatable)")]
ValueName = Annotated[str, typer.Option("--value", help="a value of the prompts or of the theory")]
Dtype = Annotated[str, typer.Option("--dtype", callback=known_dtype, help="float32, bfloat16, float16 or auto")]
Selector = Annotated[str, typer.Option("--method", help="selector: effect_size, neva, margin, probe, causal, ...")]
Judge = Annotated[
    str,
    typer.Option(
        "--judge",
        callback=named,
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
Definition = Annotated[str, typer.Option("--definition", help="meaning of the concept in a sentence")]
Opposite = Annotated[
    str, typer.Option("--opposite", help="what comes first where the concept does not; default: left open")
]
WordsJudge = Annotated[
    str,
    typer.Option(
        "--judge",
        callback=named,
        help="judge that filters the model's answers: wordlist, classifier:PATH, hf:NAME_OR_FOLDER, chat:MODEL@BASE_URL; auto: "
        "the words of a built-in theory",
    ),
]
K = Annotated[int | None, typer.Option("--k", min=1, help="number of neurons; default: the selector's own rule")]


def say(text: str) -> None:
    """Print a line on stderr.

    Args:
        text: The line.
    """
    print(text, file=sys.stderr, flush=True)


def say_note(source: str, note: str) -> None:
    """Print the rows that a reader left out, in one line on stderr; nothing for an empty note.

    Commands call it after the work that can fail, so that an error stays the only line.

    Args:
        source: Name of the data.
        note: The `note` of the reader's result.
    """
    if note:
        say(f"{source}: {' '.join(note.split())}")


def resolve_prompts(prompts: str, model: str) -> str:
    """Resolve the source of prompts.

    Args:
        prompts: The option; `auto` is `demo` on a demo model, else `schwartz`.
        model: Name of the model.
    """
    from neva_tl.models.sources import is_demo

    return ("demo" if is_demo(model) else "schwartz") if prompts == "auto" else prompts


def load_pairs(prompts: str, model: str, value: str | None = None, theory: str | None = None) -> Any:
    """Load the prompts.

    Commands call it before they load a model, because it is quick.

    Args:
        prompts: The option.
        model: Name of the model.
        value: A value that the prompts have to cover.
        theory: The option; None for the theory that the prompts imply.

    Raises:
        InputError: The theory is unknown, or the prompts cannot be read, are not of the theory, or do not cover the value.
    """
    import neva_tl as nv

    pairs = nv.prompts.load(resolve_prompts(prompts, model), theory=theory)
    if value is not None:
        pairs.for_value(value)
    return pairs


def check_k(model: Any, k: int | None) -> None:
    """Check the number of neurons before statistics are collected.

    Args:
        model: The loaded model.
        k: The option.

    Raises:
        InputError: The model has fewer neurons.
    """
    from neva_tl.models import info
    from neva_tl.selection import base as selection

    selection.check_k(k, info(model).n_layers * info(model).d_mlp)


def collected(
    model_name: str,
    prompts: str,
    dtype: str,
    samples: bool,
    stats: Path | None = None,
    theory: str | None = None,
    *,
    value: str | None = None,
    k: int | None = None,
    check: Callable[[Any], None] = lambda _: None,
) -> tuple[Any, Any]:
    """Load a model with its statistics, collected now or read from a file.

    Args:
        model_name: Name of the model.
        prompts: Source of prompts.
        dtype: Number format of the model.
        samples: Whether to collect samples.
        stats: File of statistics; None collects them.
        theory: Theory of the values; None for the one that the prompts imply.
        value: The value that they are collected for.
        k: Number of neurons to select.
        check: Called with the loaded model before statistics are collected.

    Raises:
        InputError: The statistics belong to other weights, or the prompts or the model cannot answer the request.
    """
    import neva_tl as nv
    from neva_tl.core.theories import find_theory
    from neva_tl.models import function_difference
    from neva_tl.study import StudyConfig
    from neva_tl.study.steering.evidence import cached_statistics

    if stats is not None:
        statistics = nv.ActivationStats.load(stats)
        if theory is not None:
            statistics = replace(statistics, theory=find_theory(theory))
        if value is not None:
            statistics.index(value)
        model = nv.load(model_name, dtype=dtype)
        current = nv.fingerprint(model)
        if statistics.fingerprint.get("weights_hash") != current["weights_hash"]:
            raise InputError(f"{stats} was collected on other weights than {model_name}: collect again")
        if difference := function_difference(statistics.fingerprint, current):
            raise InputError(f"{stats} was collected on another model than {model_name} ({difference}): collect again")
        return model, statistics
    pairs = load_pairs(prompts, model_name, value, theory)
    model = nv.load(model_name, dtype=dtype)
    check_k(model, k)
    check(model)
    config = StudyConfig(model=model_name, prompts=pairs.name, dtype=dtype)
    if samples:
        statistics = cached_statistics(model, pairs, config.resolved(pairs), progress=True)
    else:
        statistics = nv.collect(model, pairs, pooling=config.pooling, progress=True)
    say_note("prompts", pairs.note)
    return model, statistics
