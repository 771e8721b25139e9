"""Demo models of other seeds and other worlds, to repeat a result on them.

    python analyses/demo_models.py --out runs/science/models
    NEVA_DEMO_BORDER_RATE=0.25 neva-tl run --model demo:runs/science/models/shared25 --out runs/shared25

`seed1`, `seed2`: the shipped model's recipe from random weights with other seeds (half an hour each on two cores). `shared0`,
`shared25`, `shared50`: the shipped model, trained further in worlds whose neighbouring values share no words, half of them,
and all of them (border rates 0, .25 and .5; about ten minutes each): in the last no word belongs to a single value, which
favours directions over single neurons. A process of its own trains each model into a temporary folder, which it renames at
the end; an existing model is not trained again. Writes models.csv and models.parquet next to them, from the models' cards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from neva_tl.core.errors import InputError, NevaError, WorkError

#: Seed of the texts of further training; no model was trained on it from random weights.
WORLD_SEED = 3
#: Training steps in a world, from the shipped model's weights.
WORLD_STEPS = 800


class Training(NamedTuple):
    """Recipe of a model.

    Attributes:
        seed: seed of the training.
        rate: border rate of its world, to which the shipped model is trained further; None trains in the frozen world from
            random weights.
    """

    seed: int
    rate: float | None = None

    def options(self, steps: int) -> list[str]:
        """Return the options of `neva-tl train-demo`."""
        further = [] if self.rate is None else ["--start", "shipped", "--steps", str(steps)]
        return ["--seed", str(self.seed), *further]

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the process, the world's included."""
        from neva_tl.demo.lexicon import BORDER_RATE_VARIABLE

        others = {name: text for name, text in os.environ.items() if name != BORDER_RATE_VARIABLE}
        return others if self.rate is None else others | {BORDER_RATE_VARIABLE: f"{self.rate:g}"}


MODELS: dict[str, Training] = {
    "seed1": Training(1),
    "seed2": Training(2),
    "shared0": Training(WORLD_SEED, 0.0),
    "shared25": Training(WORLD_SEED, 0.25),
    "shared50": Training(WORLD_SEED, 0.5),
}


def main() -> int:
    """Train missing models and print the table; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/science/models"))
    parser.add_argument("--model", action="append", help=f"only this one (repeatable): {', '.join(MODELS)}")
    parser.add_argument("--steps", type=int, default=WORLD_STEPS, help="steps of each world")
    parser.add_argument("--threads", type=int, help="processor threads (default: the recipe's two)")
    args = parser.parse_args()
    try:
        names = args.model or list(MODELS)
        if unknown := [name for name in names if name not in MODELS]:
            raise InputError(f"unknown model {unknown[0]!r}: choose from {', '.join(MODELS)}")
        for name in names:
            make(args.out, name, args.steps, args.threads)
        show(args.out)
    except NevaError as error:
        print(f"demo_models: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo_models: stopped; the same command resumes with the interrupted model", file=sys.stderr)
        return 130
    return 0


def is_finished(folder: Path) -> bool:
    """Whether a folder has a finished model."""
    return (folder / "model.safetensors").is_file() and (folder / "card.json").is_file()


def make(out: Path, name: str, steps: int, threads: int | None) -> None:
    """Train one model unless it exists.

    Args:
        out: folder of the models.
        name: a key of `MODELS`.
        steps: training steps in a world.
        threads: processor threads; None takes the recipe's two.

    Raises:
        InputError: The model's folder has other files.
        WorkError: The training failed.
    """
    folder, temporary = out / name, out / f".{name}.tmp"
    if is_finished(folder):
        return
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(
            f"{folder} exists but holds no finished model: remove it, or wait for the process that writes it"
        )
    training = MODELS[name]
    shutil.rmtree(temporary, ignore_errors=True)  # the folder of an interrupted run
    temporary.parent.mkdir(parents=True, exist_ok=True)
    print(f"training {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "neva_tl", "train-demo", "--out", str(temporary), *training.options(steps)]
    command += [] if threads is None else ["--threads", str(threads)]
    process = subprocess.run(command, env=training.environment(), stdout=subprocess.DEVNULL, check=False)
    if process.returncode or not is_finished(temporary):
        raise WorkError(f"training {name} failed (exit status {process.returncode}): see the lines above")
    os.replace(temporary, folder)


def show(out: Path) -> None:
    """Write and print the table of all finished models, the shipped one first."""
    from neva_tl import demo
    from neva_tl.study.run.run_folder import RunFolder

    folders = {"shipped": demo.path()} | {name: out / name for name in MODELS if is_finished(out / name)}
    table = pd.DataFrame([row(name, json.loads((f / "card.json").read_text())) for name, f in folders.items()])
    RunFolder(out).write_table("models", table)
    with pd.option_context("display.width", 200, "display.max_columns", 30):
        print(table.round(3).to_string(index=False))


def row(name: str, card: dict[str, Any]) -> dict[str, Any]:
    """Return a model's row from its card.

    Args:
        name: name of the model.
        card: content of its card.json.

    Returns:
        Loss and entropy of its world (nats per token), and value scores of its unedited texts.
    """
    from neva_tl.demo.lexicon import FROZEN_BORDER_RATE

    columns: dict[str, Any] = {"model": name, "border_rate": card.get("border_rate", FROZEN_BORDER_RATE)}
    columns |= {key: card.get(key) for key in ("seed", "steps", "train_seconds")}
    for split in ("train", "test"):
        losses = card["losses"][split]
        columns |= {f"loss_{split}": losses["loss"], f"entropy_{split}": losses["entropy"]}
    for decoding, scores in (("sampled", card["unedited"]), ("greedy", card["unedited_greedy"])):
        csr = list(scores["csr"].values())
        columns |= {f"csr_{decoding}": sum(csr) / len(csr), f"csr_{decoding}_max": max(csr)}
        columns |= {f"invalid_{decoding}": scores["invalid"]}
    return columns | {"accuracy": card["accuracy"]["all"]}


if __name__ == "__main__":
    sys.exit(main())
