"""Registry of the figures of a run folder, drawn from its tables alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import pandas as pd
from matplotlib.figure import Figure

from neva_tl.core.errors import InputError, NevaError, reason_of
from neva_tl.core.ledger import check, checked_bytes
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories import ValueTheory, find_theory
from neva_tl.plots.bars import method_bars
from neva_tl.plots.canvas import Look
from neva_tl.plots.circle import circle_plot
from neva_tl.plots.dose import dose_response, gain_leakage
from neva_tl.plots.faithfulness import faithfulness_plot
from neva_tl.plots.gain_curves import gain_curves_plot
from neva_tl.plots.heatmap import leakage_heatmap
from neva_tl.plots.layer_ablation import layer_ablation
from neva_tl.plots.layer_profile import layer_profile
from neva_tl.plots.lens import logit_lens_plot, token_lens_plot
from neva_tl.plots.needs import lacks_circle, lacks_leakage, lacks_nothing, lacks_others, lacks_second_set
from neva_tl.plots.overlap import overlap_plot
from neva_tl.plots.sensitivity import sensitivity_plot, sparsity_plot
from neva_tl.plots.style import at_gain, save_figure
from neva_tl.plots.texts import texts_plot
from neva_tl.plots.two_values import two_values_plot
from neva_tl.plots.value_names import using_theory

#: The command that writes most tables.
RUN = "neva-tl run"


@dataclass(frozen=True)
class FigureSpec:
    """A figure of a run folder.

    Attributes:
        table: name of the table it reads.
        draw: function from the table, and the keywords of `Look`, to the figure.
        made_by: the command that writes the table.
        lacks: function from the table to the reason why its run cannot have the figure ("" where it can).
    """

    table: str
    draw: Callable[..., Figure]
    made_by: str = RUN
    lacks: Callable[[pd.DataFrame], str] = lacks_nothing


FIGURES: dict[str, FigureSpec] = {
    "leakage_heatmap": FigureSpec(
        "leakage", lambda df, **look: leakage_heatmap(at_gain(df), **look), lacks=lacks_others
    ),
    "circle_plot": FigureSpec("leakage", lambda df, **look: circle_plot(at_gain(df), **look), lacks=lacks_circle),
    "layer_profile": FigureSpec("neurons", layer_profile),
    "overlap": FigureSpec("neurons", overlap_plot, lacks=lacks_second_set),
    "layer_ablation": FigureSpec("layers", layer_ablation, "analyses/layer_ablation.py"),
    "logit_lens": FigureSpec("lens", logit_lens_plot, "analyses/logit_lens.py"),
    "token_lens": FigureSpec("lens_tokens", token_lens_plot, "analyses/logit_lens.py"),
    "faithfulness": FigureSpec("circuits", faithfulness_plot, "analyses/circuits.py"),
    "dose_response": FigureSpec("dose", dose_response),
    "gain_leakage": FigureSpec("dose", gain_leakage, lacks=lacks_leakage),
    "method_bars": FigureSpec("methods", method_bars),
    "sensitivity": FigureSpec("sensitivity", sensitivity_plot, "analyses/sensitivity.py"),
    "sparsity": FigureSpec("sparsity_curve", sparsity_plot, "analyses/sensitivity.py"),
    "gain_curves": FigureSpec("gain_curves", gain_curves_plot, "analyses/method_comparison.py"),
    "two_values": FigureSpec("two_values_kinds", two_values_plot, "analyses/two_values.py"),
    "texts": FigureSpec("generations", texts_plot),
}


class MissingTable(InputError):
    """A run has no table for a figure, or its table cannot have the figure."""


#: Table -> what writes it, where no figure of a run draws it or the command has further options.
_FURTHER = {
    "judges": "analyses/judge_quality.py --data DATA --out",
    "gain_curves": "analyses/method_comparison.py --model MODEL --out",
}


def command_of(run: str | Path, table: str) -> str:
    """Return the command that writes a table of a run.

    Args:
        run: the run folder.
        table: name of the table.
    """
    made_by = ({spec.table: spec.made_by for spec in FIGURES.values()} | _FURTHER).get(table, RUN)
    return made_by if made_by == RUN else f"python {made_by} {run}"


def read_table(run: str | Path, name: str, made_by: str | None = None) -> pd.DataFrame:
    """Read `RUN/tables/NAME.parquet`.

    Args:
        run: the run folder.
        name: name of the table.
        made_by: the command that writes it, for the error message; None takes the one of the figures that draw the table.

    Returns:
        The table, with the model's `n_layers` and `d_mlp` as `attrs` where the run's manifest or results have them.

    Raises:
        InputError: The run folder or the table is missing, was changed since it was written, or is not a parquet file.

    Example:
        >>> nv.plots.read_table(run, "leakage")["method"].unique().tolist()
        ['neva_shift', 'caa']
    """
    run = Path(run)
    made_by = made_by or command_of(run, name)
    if not run.is_dir():
        raise InputError(f"{run} is not a run folder: give the folder that `neva-tl run --out` wrote")
    path = _table_path(run, name)
    if not path.is_file():
        raise MissingTable(f"{path} does not exist: `{made_by}` writes the table {name!r}")
    data = checked_bytes(path)
    try:
        table = pd.read_parquet(io.BytesIO(data))
    except Exception as error:
        raise InputError(f"{path} cannot be read as parquet ({error}): write it again with {made_by}") from error
    table.attrs.update(_sizes(run))
    return table


def _table_path(run: Path, name: str) -> Path:
    return run / "tables" / f"{name}.parquet"


def _sizes(run: Path) -> dict[str, int]:
    """`n_layers` and `d_mlp` from the manifest or the results, else an empty dict."""
    for name in ("manifest.json", "results.json"):
        try:
            check(run / name)
            model = json.loads((run / name).read_text(encoding="utf-8"))["model"]
            return {key: int(model[key]) for key in ("n_layers", "d_mlp")}
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def draw_run(run: str | Path, name: str, **look: Unpack[Look]) -> Figure:
    """Draw one figure of a run from its table.

    Args:
        run: the run folder.
        name: a key of `FIGURES`.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: The figure is unknown, its table is missing or empty, or the run cannot have it.

    Example:
        >>> figure = nv.plots.draw_run(run, "leakage_heatmap", width="column", style="acl")
    """
    if name not in FIGURES:
        raise InputError(f"unknown figure {name!r}: the figures are {', '.join(FIGURES)}")
    spec = FIGURES[name]
    with using_theory(run_theory(run)):
        table = read_table(run, spec.table)
        if len(table) and (reason := spec.lacks(table)):
            raise InputError(f"{run} has no figure {name}: {reason}")
        return spec.draw(table, **look)


def reason_against(run: str | Path, name: str) -> str:
    """Return the reason why a run cannot have a figure; "" where it can, or where its table is empty or cannot be read.

    Args:
        run: the run folder.
        name: a key of `FIGURES`.
    """
    spec = FIGURES[name]
    try:
        with using_theory(run_theory(run)):
            table = read_table(run, spec.table)
            return spec.lacks(table) if len(table) else ""
    except NevaError:
        return ""  # such a table is a figure that fails, with its reason


def run_theory(run: str | Path) -> ValueTheory | None:
    """Return the theory that a run's manifest records; None where its values imply the theory.

    Args:
        run: the run folder.
    """
    try:
        manifest = json.loads((Path(run) / "manifest.json").read_text(encoding="utf-8"))
        record = manifest.get("theory") or manifest.get("config", {}).get("theory")
    except (OSError, ValueError, AttributeError):
        return None
    return find_theory(record) if record else None


def write_figures(
    run: str | Path,
    names: tuple[str, ...] | None = None,
    *,
    jobs: int = 1,
    failed: dict[str, str | None] | None = None,
) -> list[Path]:
    """Write the figures of a run as `RUN/figures/NAME.pdf` and `.png`.

    Args:
        run: the run folder.
        names: keys of `FIGURES`; None takes every figure whose table exists and whose needs the theory meets.
        jobs: number of processes that share the drawing.
        failed: receives the name of every figure with the reason why it cannot be drawn (None: it was drawn), whatever the
            error; None raises the first error.

    Returns:
        The paths of the files.

    Raises:
        InputError: A named figure has no table (only without `failed`).

    Example:
        >>> [path.name for path in nv.plots.write_figures(run, ("layer_profile",))]
        ['layer_profile.pdf', 'layer_profile.png']
    """
    if names is None:
        names = tuple(name for name in FIGURES if _drawable(Path(run), name))
    catch = failed is not None
    if jobs == 1 or len(names) < 2:
        written = [_attempt(run, name, catch) for name in progress_bar(names, desc="figures", unit="figure")]
    else:
        from joblib import Parallel, delayed

        tasks = (delayed(_attempt)(run, name, catch) for name in names)
        results = Parallel(n_jobs=jobs, backend="loky", return_as="generator")(tasks)
        written = list(progress_bar(results, total=len(names), desc="figures", unit="figure"))
    if failed is not None:
        failed |= {name: reason for name, (_, reason) in zip(names, written, strict=True)}
    return [path for paths, _ in written for path in paths]


def _attempt(run: str | Path, name: str, catch: bool) -> tuple[list[Path], str | None]:
    """Write a figure; return its files, and with `catch` the reason why there are none."""
    try:
        return _write(run, name), None
    except Exception as error:
        if not catch:
            raise
        return [], reason_of(error)


def _drawable(run: Path, name: str) -> bool:
    return _table_path(run, FIGURES[name].table).is_file() and not reason_against(run, name)


def _write(run: str | Path, name: str) -> list[Path]:
    return save_figure(draw_run(run, name), Path(run) / "figures" / name)
