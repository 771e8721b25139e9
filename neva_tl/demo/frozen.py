"""The hashes that freeze world and recipe: recorded in `frozen.json` when the shipped model was trained, and tested."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from neva_tl.demo.lexicon import LEXICON_FILE, SPLITS, sha
from neva_tl.demo.world import corpus, parameters

FROZEN_FILE = Path(__file__).with_name("frozen.json")
#: Texts per split that enter the world's hash, so that a change of code shows as well as a change of numbers.
N_TEXTS = 200


@cache
def world_hash() -> str:
    """sha256 of the world as it is: lexicon, parameters, frames, and the first texts of each split."""
    texts = {split: sha("\n".join(t.text for t in corpus(0, N_TEXTS, split))) for split in SPLITS}
    lexicon = json.loads(LEXICON_FILE.read_text(encoding="utf-8"))
    return sha(json.dumps([lexicon, parameters(), texts], sort_keys=True))


@cache
def recipe_hash() -> str:
    """sha256 of the training recipe as it is."""
    from neva_tl.demo.recipe import RECIPE

    return sha(json.dumps(asdict(RECIPE), sort_keys=True))


def frozen() -> dict[str, str]:
    """The recorded hashes: {"world": ..., "recipe": ...}."""
    recorded: dict[str, str] = json.loads(FROZEN_FILE.read_text(encoding="utf-8"))
    return recorded
