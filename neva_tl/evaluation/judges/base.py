"""Protocols of judges, item scores, and the legibility rule.

`ItemScores` is the data that judges pass to measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.statistics import cluster_bootstrap
from neva_tl.core.theories import SCHWARTZ, ValueTheory, resolve_theory
from neva_tl.models import Model
from neva_tl.models.inference.session import TokenSession

#: Maps a user prompt to the model's prompt (role prompts change it; see `editing.rewrite`).
Rewrite = Callable[[str], str]
#: Largest share of repeated 4-grams in a valid text.
MAX_REPEATED = 0.5


@dataclass(frozen=True, eq=False)
class ItemScores:
    """Item scores of one condition for each measured value.

    `scores[j][k]` is the score of item k of value j, and `clusters[j][k]` its topic.

    Attributes:
        values: Measured values in the order of their theory.
        scores: One float64 array per value; NaN = missing.
        clusters: One array of topic names per value.
        shared: Whether the items are the same for every value.
        bounds: Smallest and largest possible score; None = unbounded.
        extra: Further columns, name -> (scores, clusters), such as "affirmation". Never part of the leakage matrix.
        theory: Theory of the values; None for the one that their names imply.

    Example:
        >>> items = nv.evaluation.observe(model, None, prompts, judge).items
        >>> items.table(n_boot=20).columns.tolist()
        ['label', 'est', 'lo', 'hi', 'n', 'missing']
    """

    values: tuple[str, ...]
    scores: tuple[Float[np.ndarray, " _"], ...]
    clusters: tuple[np.ndarray, ...]
    shared: bool = False
    bounds: tuple[float, float] | None = None
    extra: dict[str, tuple[Float[np.ndarray, " _"], np.ndarray]] = field(default_factory=dict)
    theory: ValueTheory | None = None

    __repr__ = brief

    def table(self, *, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
        """Compute the mean score of each measured value.

        Args:
            n_boot: Number of bootstrap draws.
            seed: Seed of the bootstrap.

        Returns:
            One row per value: label (its name), est, lo, hi (95 % cluster bootstrap by topic; NaN with fewer than two topics),
            n (items with a score), missing (items without a score).
        """
        rows = []
        for name, scores, clusters in zip(self.values, self.scores, self.clusters, strict=True):
            defined = np.isfinite(scores)
            row = {
                "label": name,
                "est": float(scores[defined].mean()) if defined.any() else np.nan,
                "lo": np.nan,
                "hi": np.nan,
            }
            if len(set(clusters[defined].tolist())) > 1:
                rng = np.random.default_rng(seed)
                interval = cluster_bootstrap(scores[defined], clusters[defined], np.mean, n=n_boot, rng=rng)
                row |= {"lo": float(interval.lo), "hi": float(interval.hi)}
            rows.append(row | {"n": int(defined.sum()), "missing": int((~defined).sum())})
        return pd.DataFrame(rows, columns=["label", "est", "lo", "hi", "n", "missing"])

    def _repr_html_(self) -> str:
        facts = {"values": len(self.values), "items": sum(len(x) for x in self.scores), "same items": self.shared}
        return card("Item scores", facts, self.table())

    def show(self) -> Any:
        """Plot the mean score of each value with intervals as a matplotlib figure."""
        from neva_tl.plots import interval_plot
        from neva_tl.plots.value_names import using_theory

        with using_theory(resolve_theory(self.theory, self.values)):
            return interval_plot(self.table(), title="Mean score of each value", axis="score")


@runtime_checkable
class TextJudge(Protocol):
    """Reads texts and scores each value in [0, 1].

    The values are those of its attribute `values` (see `judge_values`), by default Schwartz's ten. 0 = not expressed or an
    invalid text, .5 = balanced or undecided, NaN = the judge failed.

    Example:
        >>> judge = nv.evaluation.WordListJudge()
        >>> isinstance(judge, nv.evaluation.TextJudge)
        True
        >>> judge.score(["He rules the whole town."]).shape  # texts by values, each in [0, 1]
        (1, 10)
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    @property
    def unit(self) -> str:
        """Meaning of a score of 1."""
        ...

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Score how strongly each text expresses each value.

        Args:
            texts: The texts to score, each the continuation of its prompt.
            prompts: The prompt of each text.
        """
        ...

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"] | None:
        """Score how strongly each text opposes each value.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.

        Returns:
            The scores, or None for a judge that does not measure opposition.
        """
        ...

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return which texts are legible language.

        Args:
            texts: The texts to check.
            prompts: The prompt of each text.
        """
        ...


@runtime_checkable
class ModelJudge(Protocol):
    """Queries the model itself, without generation, under the active edits.

    Example:
        >>> judge = nv.evaluation.SurveyJudge.load()
        >>> isinstance(judge, nv.evaluation.ModelJudge)
        True
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    @property
    def unit(self) -> str:
        """Meaning of a score of 1."""
        ...

    def measure(self, model: Model, session: TokenSession | None = None, rewrite: Rewrite | None = None) -> ItemScores:
        """Score the judge's items on the model.

        Args:
            model: A TransformerLens model.
            session: The active `EditSession`; None for the unedited model.
            rewrite: Function that changes the prompts before they are encoded (role prompts).
        """
        ...


Judge = TextJudge | ModelJudge


def reads_texts(judge: Judge) -> TypeGuard[TextJudge]:
    """Whether a judge reads texts, that is, has `valid`, which model judges lack.

    Args:
        judge: The judge.
    """
    return hasattr(judge, "valid")


def judge_values(judge: Any) -> tuple[str, ...]:
    """Return the values that a judge scores, in its order: its attribute `values`, else Schwartz's ten.

    Args:
        judge: The judge.
    """
    return tuple(getattr(judge, "values", None) or SCHWARTZ.names)


def judge_theory(judge: Any) -> ValueTheory:
    """Return the theory of a judge's values: its attribute `theory`, else the one that the names imply.

    Args:
        judge: The judge.
    """
    return resolve_theory(getattr(judge, "theory", None), judge_values(judge))


def refuse_own_judge(judge: Any, edited: Model) -> None:
    """Refuse a judge that is the edited model itself: a model is never its own only judge.

    Args:
        judge: The judge; one that is a language model has `check_model`.
        edited: The model whose texts are scored.

    Raises:
        InputError: The judge is this model, and the user named no other judge beside it.
    """
    check = getattr(judge, "check_model", None)
    if check is not None:
        check(edited)


def repeated_share(text: str, n: int = 4) -> float:
    """Compute the share of repeated word n-grams in a text: `1 - distinct / all`.

    Args:
        text: The text.
        n: Number of words in an n-gram.

    Returns:
        The share; 0 for texts shorter than n words.
    """
    words = text.lower().split()
    grams = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def legible(texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Return which texts contain a letter and repeat at most half of their 4-grams.

    This rule defines validity for all texts without a known generator.

    Args:
        texts: The texts.
    """
    good = [any(c.isalpha() for c in text) and repeated_share(text) <= MAX_REPEATED for text in texts]
    return np.array(good, dtype=bool)


def check_scores(scores: np.ndarray, n: int, n_values: int = len(SCHWARTZ)) -> None:
    """Check the shape of a text judge's scores.

    Another shape would misalign values without an error.

    Args:
        scores: The judge's scores.
        n: Number of texts.
        n_values: Number of values that the judge scores.

    Raises:
        ValueError: The shape is not n x n_values.
    """
    if scores.shape != (n, n_values):
        raise ValueError(f"a text judge must return shape ({n}, {n_values}), got {scores.shape}")
