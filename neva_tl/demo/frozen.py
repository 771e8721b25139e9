"""Hashes of world and recipe; `frozen.json` records those of the shipped model, and tests compare them."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from neva_tl.demo.lexicon import BORDER_RATE, FROZEN_BORDER_RATE, LEXICON_FILE, SPLITS, sha
from neva_tl.demo.recipe import RECIPE, Recipe
from neva_tl.demo.world import corpus, parameters

FROZEN_FILE = Path(__file__).with_name("frozen.json")
#: Texts per split in the world's hash, so that it changes with the code as well as with the numbers.
N_TEXTS = 200


@cache
def world_hash() -> str:
    """Compute the sha256 of lexicon, parameters, frames, first texts of each split, and a non-default border rate."""
    texts = {split: sha("\n".join(t.text for t in corpus(0, N_TEXTS, split))) for split in SPLITS}
    lexicon = json.loads(LEXICON_FILE.read_text(encoding="utf-8"))
    other = [] if BORDER_RATE == FROZEN_BORDER_RATE else [BORDER_RATE]
    return sha(json.dumps([lexicon, parameters(), texts, *other], sort_keys=True))


def recipe_hash(recipe: Recipe | None = None) -> str:
    """Compute the sha256 of a training recipe.

    Args:
        recipe: A recipe; None is `RECIPE`.
    """
    return sha(json.dumps(asdict(RECIPE if recipe is None else recipe), sort_keys=True))


def frozen() -> dict[str, str]:
    """Read the recorded hashes: {"world": ..., "recipe": ...}."""
    recorded: dict[str, str] = json.loads(FROZEN_FILE.read_text(encoding="utf-8"))
    return recorded
