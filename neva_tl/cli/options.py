"""Options and checks that the commands of `neva-tl` share.

`--out` has one rule in all commands:

1. `circuit`, `generate`, `profile`, `prompts write` and `validate-judge` write a file, whose suffix is its format; `collect` and
   `select` write two, NAME.json and NAME.safetensors; the others write a folder.
2. Missing parent folders are made. A file that exists is replaced, in one step.
3. A folder that exists and is not empty must hold this command's results of the same request: it is resumed, or its results are
   written again. Anything else is refused.
4. All this is checked before any work, and a refusal is one line, with exit status 2.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli import completion
from neva_tl.core.errors import InputError
from neva_tl.core.messages import Level, detail, level, notice, say, set_level, timed

#: Largest seed: 64-bit integers with a sign, which JSON readers and tables hold without loss.
MAX_SEED = 2**63 - 1
DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")
MATMULS = ("float32", "bf16")


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
    return _one_of("dtype", dtype, DTYPES)


def known_matmul(matmul: str) -> str:
    """Check the precision of matrix products.

    Args:
        matmul: Text of the option.

    Raises:
        BadParameter: The precision is unknown.
    """
    return _one_of("matmul", matmul, MATMULS)


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise typer.BadParameter(f"unknown {name} {text!r}: choose one of {', '.join(choices)}")
    return text


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
        autocompletion=completion.model,
        callback=named,
        help="demo, demo:FOLDER, a short name (neva-tl models), a .gguf file, a local Hugging Face folder, or a hub name",
    ),
]
Prompts = Annotated[
    str,
    typer.Option(
        "--prompts",
        autocompletion=completion.prompts,
        callback=named,
        help="demo, schwartz, moral-foundations, persona:DIR, valueeval:DIR, valuebench:FILE, pairs:FILE.csv, or a "
        "csv/jsonl/parquet file of our schema; auto: demo for demo models, schwartz otherwise",
    ),
]
Theory = Annotated[
    str | None,
    typer.Option(
        "--theory",
        autocompletion=completion.theory,
        callback=named,
        help="theory of the values: schwartz, schwartz20, moral-foundations, or a .yaml or .json file; default: implied by the "
        "names in the prompts",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="seed of sampling, placebos and bootstraps")]


def quieter(on: bool) -> bool:
    """Set the level of messages to quiet.

    Args:
        on: Whether `--quiet` is given, before or after the command.

    Raises:
        BadParameter: `--verbose` is given too.
    """
    return _at(on, Level.QUIET)


def louder(on: bool) -> bool:
    """Set the level of messages to verbose.

    Args:
        on: Whether `--verbose` is given, before or after the command.

    Raises:
        BadParameter: `--quiet` is given too.
    """
    return _at(on, Level.VERBOSE)


def _at(on: bool, new: Level) -> bool:
    if on and level() not in (new, Level.NORMAL):
        raise typer.BadParameter("--quiet and --verbose exclude each other")
    if on:
        set_level(new)
    return on


Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
AllowMismatch = Annotated[
    bool,
    typer.Option(
        "--allow-mismatch", help="take the edit on another model than its own, with a warning; sizes must fit"
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=quieter, help="no bars and no lines of progress; warnings and errors stay"),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=louder, help="also what was decided, timings and log lines")
]
Profile = Annotated[str, typer.Option("--profile", autocompletion=completion.profile, help="quick or full")]
Steered = Annotated[
    list[str] | None,
    typer.Option("--value", autocompletion=completion.value_names, help="steer only this value (repeatable)"),
]
ValueName = Annotated[
    str, typer.Option("--value", autocompletion=completion.value_names, help="a value of the prompts or of the theory")
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype", autocompletion=completion.dtype, callback=known_dtype, help="float32, bfloat16, float16 or auto"
    ),
]
Matmul = Annotated[
    str,
    typer.Option(
        "--matmul",
        autocompletion=completion.matmul,
        callback=known_matmul,
        help="precision of the matrix products of a float32 model: float32 or bf16",
    ),
]
Selector = Annotated[
    str,
    typer.Option(
        "--method",
        autocompletion=completion.selector,
        help="selector: effect_size, neva, margin, probe, causal, ...; auto: neva on the demo model, else margin",
    ),
]
Judge = Annotated[
    str,
    typer.Option(
        "--judge",
        autocompletion=completion.judge,
        callback=named,
        help="exact (demo), logprob, llm:MODEL, wordlist, classifier:PATH, hf:NAME_OR_FOLDER, chat:MODEL@BASE_URL, or auto",
    ),
]
Gate = Annotated[
    str,
    typer.Option(
        "--gate",
        autocompletion=completion.gate,
        help="relevance (every method edits only tokens that concern values), none, or auto",
    ),
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
        autocompletion=completion.judge,
        callback=named,
        help="judge that filters the model's answers: llm:MODEL, wordlist, classifier:PATH, hf:NAME_OR_FOLDER, "
        "chat:MODEL@BASE_URL; auto: the words of a built-in theory",
    ),
]
K = Annotated[int | None, typer.Option("--k", min=1, help="number of neurons; default: the selector's own rule")]


def say_note(source: str, note: str) -> None:
    """Print the rows that a reader left out, in one line on stderr; nothing for an empty note.

    Commands call it after the work that can fail, so that an error stays the only line.

    Args:
        source: Name of the data.
        note: The `note` of the reader's result.
    """
    if note:
        notice(f"{source}: {' '.join(note.split())}")


def resolve_prompts(prompts: str, model: str) -> str:
    """Resolve the source of prompts.

    Args:
        prompts: The option; `auto` is `demo` on a demo model, else `schwartz`.
        model: Name of the model.
    """
    from neva_tl.core.auto import AUTO, auto_of
    from neva_tl.models.sources import is_demo

    return auto_of(is_demo(model)).prompts if prompts == AUTO else prompts


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


def selected(
    model_name: str,
    prompts: str,
    dtype: str,
    value: str,
    *,
    method: str,
    k: int | None,
    seed: int,
    stats: Path | None = None,
    theory: str | None = None,
) -> tuple[Any, str]:
    """Select the neurons of a value, on statistics collected now, cached, or read from a file.

    Args:
        model_name: Name of the model.
        prompts: Source of prompts.
        dtype: Number format of the model.
        value: The value.
        method: Registered name of a selector, or `auto` for the study's.
        k: Largest number of neurons; None takes the selector's default.
        seed: Seed of every random draw.
        stats: File of statistics; None collects them.
        theory: Theory of the values; None for the one that the prompts imply.

    Returns:
        The neurons, and the settings of the edits of a study in one line.

    Raises:
        InputError: The selector is unknown, the statistics belong to other weights, or the prompts or the model cannot answer
            the request.
    """
    import neva_tl as nv
    from neva_tl.core.auto import AUTO
    from neva_tl.selection.registry import find_selector
    from neva_tl.study import StudyConfig

    if method != AUTO:
        find_selector(method)
    config = StudyConfig(model=model_name, selector=method, k=k, dtype=dtype, seed=seed)
    selector = find_selector(config.resolved().selector)
    detail(f"decided: {config.decisions}")
    options: dict[str, Any] = {"method": method, "k": k, "seed": seed}
    if stats is not None:
        model, statistics = _stored(model_name, dtype, stats, theory, value)
        if selector.needs_texts:
            statistics = statistics.with_texts(load_pairs(prompts, model_name, value, theory))
        return nv.select(statistics, value, model=model, **options), config.decisions
    pairs = load_pairs(prompts, model_name, value, theory)
    config = replace(config, prompts=pairs.name).resolved(pairs)
    with timed(f"loading {model_name}"):
        model = nv.load(model_name, dtype=dtype)
    check_k(model, k)
    if selector.needs_samples or selector.needs_texts:
        from neva_tl.study.run.evidence import cached_margins, cached_statistics

        # the rows of a study's quick profile, so that steer, generate and select read one cache
        limited = limited_rows(pairs, config.spending().rows_per_value)
        statistics = cached_statistics(model, limited, config, progress=True)
        if config.selector == "margin":
            options["effects"] = cached_margins(model, limited, config, statistics, progress=True)
    else:
        statistics = nv.collect(model, pairs, progress=True)
    say_note("prompts", pairs.note)
    return nv.select(statistics, value, model=model, **options), config.decisions


def limited_rows(pairs: Any, rows_per_value: int) -> Any:
    """Limit the training pairs of each value, and say so where some are left out.

    Args:
        pairs: The contrast set.
        rows_per_value: Largest number of pairs; 0 keeps all of them.
    """
    from neva_tl.study.run.stages import limit_rows

    limited = limit_rows(pairs, rows_per_value)
    if len(limited) < len(pairs):
        say(
            f"{rows_per_value} training pairs of each value, as in a quick study (all of them: neva-tl collect, then --stats)"
        )
    return limited


def _stored(model_name: str, dtype: str, stats: Path, theory: str | None, value: str) -> tuple[Any, Any]:
    """Load a model, and its statistics from a file.

    Raises:
        InputError: The statistics belong to other weights, or lack the value.
    """
    import neva_tl as nv
    from neva_tl.core.theories import find_theory
    from neva_tl.models import fingerprint_for, function_difference

    statistics = nv.ActivationStats.load(stats)
    if theory is not None:
        statistics = replace(statistics, theory=find_theory(theory))
    statistics.index(value)
    model = nv.load(model_name, dtype=dtype)
    current = fingerprint_for(statistics.fingerprint, model, str(stats))
    if statistics.fingerprint.get("weights_hash") != current["weights_hash"]:
        raise InputError(f"{stats} was collected on other weights than {model_name}: collect again")
    if difference := function_difference(statistics.fingerprint, current):
        raise InputError(f"{stats} was collected on another model than {model_name} ({difference}): collect again")
    return model, statistics
