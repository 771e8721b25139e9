"""What a judge is.

Two small protocols, the item scores that pass between judges and measures, and the legibility rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.core.cards import card
from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.core.values import VALUES
from neva_tl.models import Model

#: Maps a user prompt to what the model is shown (role prompts change it; see `editing.rewrite`).
Rewrite = Callable[[str], str]
#: A text is invalid when more than this share of its 4-grams are repeats.
MAX_REPEATED = 0.5


@dataclass(frozen=True, eq=False)
class ItemScores:
    """Scores of one condition, per measured value j: `scores[j][k]` of item k, with its topic in `clusters[j][k]`.

    Attributes:
        values: measured values in circle order.
        scores: one float64 array per value; NaN = missing.
        clusters: one array of topic names per value.
        shared: the items are the same for every value.
        bounds: smallest and largest possible score, None = unbounded.
        extra: further columns, name -> (scores, clusters), such as "affirmation"; never part of the leakage matrix.
    """

    values: tuple[str, ...]
    scores: tuple[Float[np.ndarray, " _"], ...]
    clusters: tuple[np.ndarray, ...]
    shared: bool = False
    bounds: tuple[float, float] | None = None
    extra: dict[str, tuple[Float[np.ndarray, " _"], np.ndarray]] = field(default_factory=dict)

    def table(self, *, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
        """Mean score per measured value: label (its name), est, lo, hi (95 % cluster bootstrap by topic; NaN with fewer than
        two topics), n (items scored), missing (items without a score)."""
        rows = []
        for name, scores, clusters in zip(self.values, self.scores, self.clusters, strict=True):
            there = np.isfinite(scores)
            row = {
                "label": name,
                "est": float(scores[there].mean()) if there.any() else np.nan,
                "lo": np.nan,
                "hi": np.nan,
            }
            if len(set(clusters[there].tolist())) > 1:
                rng = np.random.default_rng(seed)
                found = cluster_bootstrap(scores[there], clusters[there], np.mean, n=n_boot, rng=rng)
                row |= {"lo": float(found.lo), "hi": float(found.hi)}
            rows.append(row | {"n": int(there.sum()), "missing": int((~there).sum())})
        return pd.DataFrame(rows, columns=["label", "est", "lo", "hi", "n", "missing"])

    def _repr_html_(self) -> str:
        facts = {"values": len(self.values), "items": sum(len(x) for x in self.scores), "same items": self.shared}
        return card("Item scores", facts, self.table())

    def show(self) -> Any:
        """Mean score per measured value with intervals as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        return interval_plot(self.table(), title="Mean score of each value", axis="score")


@runtime_checkable
class TextJudge(Protocol):
    """Reads texts; scores each of the ten values in [0, 1], NaN where it failed.

    Expresses nothing = 0, balanced or undecided = .5, invalid text = 0.
    """

    @property
    def name(self) -> str:
        """What tables call the judge."""
        ...

    @property
    def unit(self) -> str:
        """What a score of 1 means."""
        ...

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"]:
        """How strongly each text (the continuation of its prompt) expresses each value."""
        ...

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"] | None:
        """How strongly each text opposes each value; None where the judge knows no opposition."""
        ...

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Which texts are language at all."""
        ...


@runtime_checkable
class ModelJudge(Protocol):
    """Asks the model itself, without generation, under whatever edits are in force."""

    @property
    def name(self) -> str:
        """What tables call the judge."""
        ...

    @property
    def unit(self) -> str:
        """What a score of 1 means."""
        ...

    def measure(self, model: Model, session: Any | None = None, rewrite: Rewrite | None = None) -> ItemScores:
        """Score the judge's own items on the model.

        Args:
            model: a TransformerLens model.
            session: the `EditSession` in force, None when unedited.
            rewrite: changes the prompts before the model sees them (role prompts).
        """
        ...


Judge = TextJudge | ModelJudge


def reads_texts(judge: Judge) -> TypeGuard[TextJudge]:
    """Whether a judge reads texts (both kinds have `score`; only a text judge says which texts are valid)."""
    return hasattr(judge, "valid")


def repeated_share(text: str, n: int = 4) -> float:
    """Share of a text's word n-grams that occurred before in it: `1 - distinct / all`.

    0 for texts shorter than n words.
    """
    words = text.lower().split()
    grams = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def legible(texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Not empty, holds a letter, and at most half of its 4-grams are repeats.

    Validity where no generator defines it.
    """
    good = [any(c.isalpha() for c in text) and repeated_share(text) <= MAX_REPEATED for text in texts]
    return np.array(good, dtype=bool)


def check_scores(scores: np.ndarray, n: int) -> None:
    """A judge that returns another shape would misalign values in silence: fail instead."""
    if scores.shape != (n, len(VALUES)):
        raise ValueError(f"a text judge must return shape ({n}, {len(VALUES)}), got {scores.shape}")
