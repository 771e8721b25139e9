"""The hashes that freeze world and recipe: recorded in `frozen.json` when the shipped model was trained, and tested."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from neva_tl.demo.lexicon import BORDER_RATE, FROZEN_BORDER_RATE, LEXICON_FILE, SPLITS, sha
from neva_tl.demo.recipe import RECIPE, Recipe
from neva_tl.demo.world import corpus, parameters

FROZEN_FILE = Path(__file__).with_name("frozen.json")
#: Texts per split that enter the world's hash, so that a change of code shows as well as a change of numbers.
N_TEXTS = 200


@cache
def world_hash() -> str:
    """sha256 of the world as it is: lexicon, parameters, frames, the first texts of each split, and another border rate."""
    texts = {split: sha("\n".join(t.text for t in corpus(0, N_TEXTS, split))) for split in SPLITS}
    lexicon = json.loads(LEXICON_FILE.read_text(encoding="utf-8"))
    other = [] if BORDER_RATE == FROZEN_BORDER_RATE else [BORDER_RATE]
    return sha(json.dumps([lexicon, parameters(), texts, *other], sort_keys=True))


def recipe_hash(recipe: Recipe | None = None) -> str:
    """sha256 of a training recipe (None: the frozen one as it is)."""
    return sha(json.dumps(asdict(RECIPE if recipe is None else recipe), sort_keys=True))


def frozen() -> dict[str, str]:
    """The recorded hashes: {"world": ..., "recipe": ...}."""
    recorded: dict[str, str] = json.loads(FROZEN_FILE.read_text(encoding="utf-8"))
    return recorded
