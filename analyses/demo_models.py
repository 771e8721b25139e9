"""Demo models of other seeds and other worlds, for studies of whether a result hangs on one training run or one world.

    python analyses/demo_models.py --out runs/science/models
    NEVA_DEMO_BORDER_RATE=0.25 neva-tl run --model demo:runs/science/models/shared25 --out runs/shared25

`seed1`, `seed2`: the shipped model's recipe from nothing with other seeds (half an hour each on two cores). `shared0`,
`shared25`, `shared50`: the shipped model trained on, in worlds whose neighbouring values share no words, half of them, and
all of them (border rates 0, .25 and .5; about ten minutes each): in the last no word is one value's alone, which favours
directions over single neurons. Each is trained in a process of its own, into a temporary folder that is renamed when it is
whole; what is there is not trained again. Writes models.csv and models.parquet beside them, from the models' cards.
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

#: Texts that worlds go on with: a seed that no model was trained on from nothing.
WORLD_SEED = 3
#: Steps by which a world's words are learned from the shipped model's weights.
WORLD_STEPS = 800


class Training(NamedTuple):
    """How a model is made: border rate of its world (None: the frozen one), seed, and whether the shipped one goes on."""

    seed: int
    rate: float | None = None

    def options(self, steps: int) -> list[str]:
        """Options of `neva-tl train-demo`."""
        more = [] if self.rate is None else ["--start", "shipped", "--steps", str(steps)]
        return ["--seed", str(self.seed), *more]

    def environment(self) -> dict[str, str]:
        """The process's variables, with the world's."""
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
    """Train what is missing and print the table; one clear line where something is wrong."""
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
        print("demo_models: stopped; the same command goes on with the model it was at", file=sys.stderr)
        return 130
    return 0


def whole(folder: Path) -> bool:
    """Whether a folder holds a finished model."""
    return (folder / "model.safetensors").is_file() and (folder / "card.json").is_file()


def make(out: Path, name: str, steps: int, threads: int | None) -> None:
    """Train one model unless it is there."""
    folder, beside = out / name, out / f".{name}.tmp"
    if whole(folder):
        return
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is there but holds no finished model: remove it, or wait for who is writing it")
    training = MODELS[name]
    shutil.rmtree(beside, ignore_errors=True)  # what a killed run was writing
    beside.parent.mkdir(parents=True, exist_ok=True)
    print(f"training {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "neva_tl", "train-demo", "--out", str(beside), *training.options(steps)]
    command += [] if threads is None else ["--threads", str(threads)]
    done = subprocess.run(command, env=training.environment(), stdout=subprocess.DEVNULL, check=False)
    if done.returncode or not whole(beside):
        raise WorkError(f"training {name} failed (exit status {done.returncode}): see the lines above")
    os.replace(beside, folder)


def show(out: Path) -> None:
    """The table of all finished models in the folder, the shipped one first."""
    from neva_tl import demo
    from neva_tl.study.run.run_folder import RunFolder

    folders = {"shipped": demo.path()} | {name: out / name for name in MODELS if whole(out / name)}
    table = pd.DataFrame([row(name, json.loads((f / "card.json").read_text())) for name, f in folders.items()])
    RunFolder(out).write_table("models", table)
    with pd.option_context("display.width", 200, "display.max_columns", 30):
        print(table.round(3).to_string(index=False))


def row(name: str, card: dict[str, Any]) -> dict[str, Any]:
    """What a model's card says: loss beside its world's entropy (nats per token), and what it writes unedited."""
    from neva_tl.demo.lexicon import FROZEN_BORDER_RATE

    found: dict[str, Any] = {"model": name, "border_rate": card.get("border_rate", FROZEN_BORDER_RATE)}
    found |= {key: card.get(key) for key in ("seed", "steps", "train_seconds")}
    for split in ("train", "test"):
        held = card["losses"][split]
        found |= {f"loss_{split}": held["loss"], f"entropy_{split}": held["entropy"]}
    for what, part in (("sampled", card["unedited"]), ("greedy", card["unedited_greedy"])):
        csr = list(part["csr"].values())
        found |= {f"csr_{what}": sum(csr) / len(csr), f"csr_{what}_max": max(csr), f"invalid_{what}": part["invalid"]}
    return found | {"accuracy": card["accuracy"]["all"]}


if __name__ == "__main__":
    sys.exit(main())
