"""`neva-tl profile`: a model's value questionnaire and sharing games."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from neva_tl.cli import completion
from neva_tl.cli.options import (
    Debug,
    Dtype,
    Json,
    K,
    Model,
    Prompts,
    Quiet,
    Seed,
    Verbose,
    check_k,
    check_method,
    finite,
    load_pairs,
    path_of,
    say_note,
)
from neva_tl.cli.tables import print_report
from neva_tl.core.errors import InputError, reason_of
from neva_tl.core.messages import notice, say

#: Smallest probability of the letters at which a model counts as answering.
LITTLE_MASS = 0.1


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(profile)


def profile(
    model: Model = "smollm2",
    questionnaire: Annotated[
        Path | None,
        typer.Option(
            "--questionnaire",
            parser=path_of,
            metavar="PATH",
            help="CSV: questionnaire, item, value, agreement; default: our own 40 items",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="one questionnaire of that file, for example PVQ40")
    ] = None,
    centre: Annotated[
        bool, typer.Option("--centre", help="subtract the mean over all items (scores then sum to zero)")
    ] = False,
    value: Annotated[
        str | None,
        typer.Option(
            "--value", autocompletion=completion.value_names, help="steer towards this value, and show the change"
        ),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", autocompletion=completion.method, help="method to steer with")
    ] = "neva",
    dose: Annotated[
        float | None, typer.Option("--dose", callback=finite, help="dose of the method; default: a typical one")
    ] = None,
    scope: Annotated[
        str,
        typer.Option("--scope", autocompletion=completion.scope, help="tokens that are edited: all, prompt or last"),
    ] = "all",
    prompts: Prompts = "auto",
    rows: Annotated[int, typer.Option("--rows", min=0, help="training pairs of each value; 0: all of them")] = 80,
    k: K = None,
    svo: Annotated[
        bool, typer.Option("--svo/--no-svo", help="also ask how the model shares points with another person")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", parser=path_of, metavar="PATH", help="also write the profile as .csv")
    ] = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Ask a model how well statements about the ten values describe it.

    With --value, before and after an edit.
    """
    import neva_tl as nv
    from neva_tl.core.files import atomic_write, to_json
    from neva_tl.evaluation import SurveyJudge, value_profile

    _check(model, questionnaire, only, value, method, scope, out)
    judge = SurveyJudge.load(questionnaire, questionnaire=only, centre=centre)
    pairs = None if value is None else load_pairs(prompts, model, value)
    loaded = nv.load(model, dtype=dtype)
    edits = None
    if value is not None:
        check_k(loaded, k)
        edits = _Steering(value, method, dose, scope, pairs, rows, k, seed).edit(loaded)
    say(f"asking {len(judge.items)} items twice")
    value_scores = value_profile(loaded, judge, edits, seed=seed)
    say_note("questionnaire", judge.note)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            value_scores.df.to_csv(file, index=False)
        say(f"written: {out}")
    report, lines = _answers(model, value_scores)
    if report["mass"] < LITTLE_MASS:
        notice("the model rarely answers with a letter: these scores say little about it")
    if value is not None:
        tax = value_scores.tax(value)
        about = {"value": value, "method": method, "dose": None if edits is None else edits.dose}
        report |= {"edit": about, "tax": tax.to_json()}
        lines.append(f"towards {value} by {method}: change of the others per unit of gain {tax}")
    if svo:
        say("sharing points")
        try:
            report["svo"], svo_lines = _sharing(loaded, edits, seed)
            lines += svo_lines
        except InputError as error:  # the questionnaire's answers are there, and the games are a second measure
            report["left_out"] = [{"part": "Sharing points", "reason": reason_of(error)}]
            notice(f"left out: sharing points: {reason_of(error)}")
    if as_json:
        print(json.dumps(to_json(report), allow_nan=False))
    else:
        print_report("\n".join(lines), lambda: [*value_scores.parts(), *lines[1:]])


def _check(
    model: str,
    questionnaire: Path | None,
    only: str | None,
    value: str | None,
    method: str,
    scope: str,
    out: Path | None,
) -> None:
    """Check the options before the model is loaded.

    Args:
        model: Name of the model.
        questionnaire: File of items.
        only: Questionnaire of that file.
        value: Value to steer towards.
        method: Method to steer with.
        scope: Tokens to edit.
        out: File for the profile.

    Raises:
        InputError: An option is unknown or unusable.
    """
    from neva_tl.core.files import check_output
    from neva_tl.core.theories.schwartz import value as lookup
    from neva_tl.models.sources import is_demo

    if is_demo(model):
        raise InputError("the demo model speaks a small language without questions: name a model of natural language")
    if only is not None and questionnaire is None:
        raise InputError("--only selects a questionnaire of a file: give the file with --questionnaire")
    if value is not None:
        lookup(value)
        check_method(method)
    if scope not in ("all", "prompt", "last"):
        raise InputError(
            f"unknown scope {scope!r}: choose all, prompt or last (the letter is read before any token is generated)"
        )
    if out is not None:
        check_output(out)
        if out.suffix.lower() != ".csv":
            raise InputError(f"cannot write a profile as {out.name!r}: use .csv")


@dataclass(frozen=True)
class _Steering:
    """Options of the edit towards a value.

    Attributes:
        value: Value to steer towards.
        method: Registered name.
        dose: In the method's unit; None takes the method's first dose.
        scope: Tokens to edit.
        pairs: The contrast set, which covers the value.
        rows: Training pairs of each value; 0 takes all of them.
        k: Neurons; None takes the selector's default.
        seed: Seed of placebos and probes.
    """

    value: str
    method: str
    dose: float | None
    scope: Any
    pairs: Any
    rows: int
    k: int | None
    seed: int

    def edit(self, loaded: Any) -> Any:
        """Build the edit, from statistics collected now.

        Args:
            loaded: The loaded model.
        """
        import neva_tl as nv
        from neva_tl.study import build_edit
        from neva_tl.study.run.stages import limit_rows

        pairs = limit_rows(self.pairs, self.rows)
        say(f"collecting statistics on {pairs.name}")
        stats = nv.collect(loaded, pairs, samples=True, progress=True)
        say_note("prompts", pairs.note)
        return build_edit(
            loaded, stats, self.value, method=self.method, dose=self.dose, scope=self.scope, k=self.k, seed=self.seed
        )


def _answers(model: str, scores: Any) -> tuple[dict[str, Any], list[str]]:
    """Describe the answers to the questionnaire.

    Args:
        model: Name of the model.
        scores: The value profile.

    Returns:
        The report as plain data, and its lines of text.
    """
    report: dict[str, Any] = {
        "model": model,
        "judge": scores.judge,
        "unit": scores.unit,
        "profile": scores.df.to_dict("records"),
        "order": float(scores.before.extra["order"][0].mean()),
        "mass": float(scores.before.extra["mass"][0].mean()),
    }
    lines = [
        str(scores),
        f"late against early letters {report['order']:+.2f} of the scale (cancelled by asking both ways); probability on the "
        f"letters {report['mass']:.2f}",
    ]
    return report, lines


def _sharing(loaded: Any, edits: Any, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Measure how the model shares points, before and after the edit.

    Args:
        loaded: The loaded model.
        edits: The edit; None measures the unedited model only.
        seed: Seed of the games.

    Returns:
        The report as plain data, and its lines of text.
    """
    from neva_tl.evaluation.profiles.svo import svo

    before = svo(loaded, seed=seed, progress=True)
    report, lines = {"before": _orientation(before)}, [str(before)]
    if edits is not None:
        after = svo(loaded, edits, seed=seed, progress=True)
        change = before.to(after).change
        report |= {"after": _orientation(after), "change": change.to_json()}
        lines += [f"after the edit: {after}", f"turned by {change} degrees"]
    return report, lines


def _orientation(orientation: Any) -> dict[str, Any]:
    names = ("category", "soft_angle", "chance", "decided")
    return {"angle": orientation.angle.to_json()} | {name: getattr(orientation, name) for name in names}
