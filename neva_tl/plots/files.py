"""Figures of a run folder: which table each reads, and drawing one from tables alone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from neva_tl.core.errors import InputError, NevaError
from neva_tl.plots.bars import method_bars
from neva_tl.plots.circle import circle_plot
from neva_tl.plots.dose import dose_response, gain_leakage
from neva_tl.plots.faithfulness import faithfulness_plot
from neva_tl.plots.gain_curves import gain_curves_plot
from neva_tl.plots.heatmap import leakage_heatmap
from neva_tl.plots.layer_ablation import layer_ablation
from neva_tl.plots.layer_profile import layer_profile
from neva_tl.plots.lens import logit_lens_plot, token_lens_plot
from neva_tl.plots.overlap import overlap_plot
from neva_tl.plots.sensitivity import sensitivity_plot, sparsity_plot
from neva_tl.plots.style import at_gain, save_figure
from neva_tl.plots.texts import texts_plot
from neva_tl.plots.two_values import two_values_plot
from neva_tl.plots.volcano import effect_volcano


@dataclass(frozen=True)
class FigureSpec:
    """A figure: its table, how it is drawn, what makes the table."""

    table: str
    draw: Callable[[pd.DataFrame], Figure]
    made_by: str = "neva-tl run"


FIGURES: dict[str, FigureSpec] = {
    "leakage_heatmap": FigureSpec("leakage", lambda df: leakage_heatmap(at_gain(df))),
    "circle_plot": FigureSpec("leakage", lambda df: circle_plot(at_gain(df))),
    "layer_profile": FigureSpec("neurons", layer_profile),
    "overlap": FigureSpec("neurons", overlap_plot),
    "layer_ablation": FigureSpec("layers", layer_ablation, "analyses/layer_ablation.py"),
    "logit_lens": FigureSpec("lens", logit_lens_plot, "analyses/logit_lens.py"),
    "token_lens": FigureSpec("lens_tokens", token_lens_plot, "analyses/logit_lens.py"),
    "faithfulness": FigureSpec("circuits", faithfulness_plot, "analyses/circuits.py"),
    "effect_volcano": FigureSpec("effects", effect_volcano),
    "dose_response": FigureSpec("dose", dose_response),
    "gain_leakage": FigureSpec("dose", gain_leakage),
    "method_bars": FigureSpec("methods", method_bars),
    "sensitivity": FigureSpec("sensitivity", sensitivity_plot, "analyses/sensitivity.py"),
    "sparsity": FigureSpec("sparsity_curve", sparsity_plot, "analyses/sensitivity.py"),
    "gain_curves": FigureSpec("gain_curves", gain_curves_plot, "analyses/method_comparison.py"),
    "two_values": FigureSpec("two_values_kinds", two_values_plot, "analyses/two_values.py"),
    "texts": FigureSpec("generations", texts_plot),
}


def read_table(run: str | Path, name: str, made_by: str = "neva-tl run") -> pd.DataFrame:
    """Read `RUN/tables/NAME.parquet`; the model's `n_layers` and `d_mlp` go with it as `attrs` where the run says them.

    Raises:
        InputError: the run folder or the table is not there, or it is no parquet file.
    """
    run = Path(run)
    if not run.is_dir():
        raise InputError(f"{run} is no run folder: give the folder that `neva-tl run --out` wrote")
    path = run / "tables" / f"{name}.parquet"
    if not path.is_file():
        raise InputError(f"{path} does not exist: the table {name!r} is written by {made_by}")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as parquet ({error}): write it again with {made_by}") from error
    table.attrs.update(_sizes(run))
    return table


def _sizes(run: Path) -> dict[str, int]:
    """Layers and neurons of a layer of the run's model, from its manifest or results; empty where neither says."""
    for name in ("manifest.json", "results.json"):
        try:
            model = json.loads((run / name).read_text(encoding="utf-8"))["model"]
            return {key: int(model[key]) for key in ("n_layers", "d_mlp")}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def draw_run(run: str | Path, name: str) -> Figure:
    """Draw one figure of a run from its table.

    Raises:
        InputError: an unknown figure, or its table is missing or empty.
    """
    if name not in FIGURES:
        raise InputError(f"unknown figure {name!r}: known are {', '.join(FIGURES)}")
    spec = FIGURES[name]
    return spec.draw(read_table(run, spec.table, spec.made_by))


def write_figures(run: str | Path, names: tuple[str, ...] | None = None, *, jobs: int = 1) -> list[Path]:
    """Write `RUN/figures/NAME.pdf` and `.png` of every figure whose table is there (or of those named).

    Args:
        run: run folder.
        names: figures; None takes every one whose table is there.
        jobs: processes that share the drawing.

    Raises:
        InputError: a figure asked for by name has no table.
    """
    there = (n for n in FIGURES if (Path(run) / "tables" / f"{FIGURES[n].table}.parquet").is_file())
    wanted = tuple(there) if names is None else names
    if jobs == 1 or len(wanted) < 2:
        return [path for name in wanted for path in _write(run, name)]
    from joblib import Parallel, delayed

    drawn = Parallel(n_jobs=jobs, backend="loky")(delayed(_write)(run, name) for name in wanted)
    return [path for paths in drawn for path in paths]


def _write(run: str | Path, name: str) -> list[Path]:
    return save_figure(draw_run(run, name), Path(run) / "figures" / name)


def draw_all(run: str | Path) -> list[Path]:
    """Write every figure whose table is there."""
    return write_figures(run)


def script(name: str, argv: list[str] | None = None) -> int:
    """The command line of `figures/NAME.py`: one run folder in, two files out, one line when something is missing."""
    spec = FIGURES[name]
    parser = argparse.ArgumentParser(
        description=f"Draw {name} from RUN/tables/{spec.table}.parquet into RUN/figures/{name}.pdf and .png"
    )
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    args = parser.parse_args(argv)
    try:
        for path in write_figures(args.run, (name,)):
            print(path)
    except NevaError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    return 0
