"""Contrasts in a model's own words: its answers to open questions under roles, filtered by a judge."""

from neva_tl.study.own_words.result import OwnWords
from neva_tl.study.own_words.writing import from_model, write

__all__ = ["OwnWords", "from_model", "write"]
