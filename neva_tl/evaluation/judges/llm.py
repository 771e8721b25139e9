"""The judge of a local instruct model: whether a writer is for a value, and against it.

The model reads a text once and answers two Yes/No questions per value (`endorsement.py`). P comes from the log-odds of Yes over
No by a calibration per value and direction (`calibration.py`): fitted on held-out labels, or the answer to texts without
content. Log-odds are cached by content (model, question, text), so that no text is read twice and a killed run goes on where it
stopped. The judge's model is unedited: an instance of its own, or a loaded model without hooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neva_tl import models
from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueTheory
from neva_tl.evaluation.judges import calibration as calibrating
from neva_tl.evaluation.judges.base import legible
from neva_tl.evaluation.judges.calibration import Calibration
from neva_tl.evaluation.judges.endorsement import DIRECTIONS, Direction, questions
from neva_tl.evaluation.judges.local_answers import LocalAnswers, same_weights
from neva_tl.evaluation.judges.spec_options import read_options, yes_or_no
from neva_tl.evaluation.judges.stored_answers import StoredAnswers
from neva_tl.evaluation.labels.labelled import LabelledTexts

#: Texts without content; their mean answer is the threshold where no labels are given.
EMPTY_TEXTS = ("N/A", "[text]", "...")


@dataclass(frozen=True, eq=False)
class LlmJudge:
    """A TextJudge by a local instruct model; `from_spec` creates it from `llm:MODEL`.

    Attributes:
        model: Argument of `neva_tl.load`, or a loaded TransformerLens model without edits.
        theory: Theory of the values.
        labels: Labelled texts, or their location, on whose training split the calibration is fitted at first use; None for none.
        n_labels: Number of texts per value and label that the calibration reads (see `calibration_texts`).
        fitted: A calibration that was fitted before; it takes the place of `labels`.
        cache: Cache of log-odds: a file, a `JsonCache`, or None for the user's cache folder.
        dtype: Number format of a model that is loaded here.
        token_budget: Number of cached tokens of a forward batch (see `inference.branches`).
        opposes: Ask whether texts go against the values as well, which doubles the work.
        allow_own: Allow the edited model's own unedited weights, where another judge scores the same texts too.
        progress: Show a progress bar on stderr.

    Example:
        >>> judge = load_judge("llm:qwen.gguf#labels=persona:data/persona")  # doctest: +SKIP
        >>> judge.score(["Old customs guide all I do."])[0, SCHWARTZ.index("tradition")]  # doctest: +SKIP
        0.97
    """

    model: Any
    theory: ValueTheory = SCHWARTZ
    labels: LabelledTexts | str | Path | None = field(default=None, repr=False)
    n_labels: int = 24
    fitted: Calibration | None = field(default=None, repr=False)
    cache: JsonCache | str | Path | None = field(default=None, repr=False)
    dtype: str = "auto"
    token_budget: int = 8192
    opposes: bool = True
    allow_own: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) and not models.is_model(self.model):
            raise InputError("the llm judge needs a model: its name, or one that neva_tl.load returned")
        if self.n_labels < 1 or self.token_budget < 1:
            raise InputError("the llm judge needs n_labels >= 1 and token_budget >= 1")
        if self.fitted is not None and self.fitted.values != self.theory.names:
            raise InputError(
                f"the calibration has the values {', '.join(self.fitted.values)}, not those of {self.theory.name}: fit it again"
            )

    @cached_property
    def answers(self) -> LocalAnswers:
        """The local model, loaded when it is first needed."""
        return LocalAnswers(self.model, dtype=self.dtype, token_budget=self.token_budget)

    @cached_property
    def stored(self) -> StoredAnswers:
        """The log-odds of the local model with their cache."""
        return StoredAnswers(self.answers, self.theory, self.cache, progress=self.progress)

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"llm:{self.answers.label}"

    @property
    def values(self) -> tuple[str, ...]:
        """Scored values."""
        return self.theory.names

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions of the questions that it asks."""
        return DIRECTIONS if self.opposes else DIRECTIONS[:1]

    @property
    def unit(self) -> str:
        """Meaning of a score of 1."""
        calibrated = self.labels is not None or (self.fitted is not None and self.fitted.fitted)
        return "P(expresses)" if calibrated else "P(expresses), not calibrated"

    @property
    def question(self) -> str:
        """Wording of all questions; printed with results."""
        return questions(self.theory)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model, the questions and the calibration."""
        return content_key("llm judge", self.answers.identity, self.question, self.calibration.to_json())

    @property
    def pairs_per_second(self) -> float:
        """Text-value pairs per second that the model answered so far; NaN where all were cached."""
        return self.stored.pairs_per_second

    def check(self) -> None:
        """Check that the model and the labels exist, before minutes of work for texts that the judge cannot read.

        Raises:
            InputError: The model or the labels cannot be found.
        """
        self.answers.check()
        _ = self._labelled

    def check_source(self, edited: str) -> None:
        """Check as `check_model` does, by the names of the two models, before either is loaded.

        Args:
            edited: Name of the model whose texts are scored, as `neva_tl.load` takes it.

        Raises:
            InputError: See `check_model`.
        """
        if not self.allow_own and self.answers.is_source(edited):
            raise self._own_judge()

    def check_model(self, edited: models.Model) -> None:
        """Check that this judge may be the only judge of an edited model.

        Args:
            edited: The model whose texts are scored.

        Raises:
            InputError: The judge has the weights of that model, and `allow_own` is False.
        """
        if not self.allow_own and same_weights(self.answers.model, edited):
            raise self._own_judge()

    def _own_judge(self) -> InputError:
        return InputError(
            f"the judge {self.name} is the edited model itself, and a model is never its own only judge: name another "
            "model, or add #own=yes where another judge scores the same texts too"
        )

    @cached_property
    def calibration(self) -> Calibration:
        """Slope and threshold per value and direction; fitted at first use, from cached log-odds where they exist."""
        identity = content_key(self.answers.identity, self.question)
        if self.fitted is not None:
            if self.fitted.judge not in ("", identity):
                raise InputError(
                    f"the calibration by {self.fitted.source} was fitted for another model, number format or wording than "
                    f"{self.name}'s: fit it again (labels=...)"
                )
            return self.fitted
        empty = self.log_odds(EMPTY_TEXTS).mean(axis=0)
        labelled = self._labelled
        if labelled is None:
            return calibrating.without_labels(self.values, empty, identity)
        texts = calibrating.calibration_texts(labelled, self.n_labels)
        labels = calibrating.label_cube(texts)[:, [SCHWARTZ.index(name) for name in self.values]]
        odds = self.log_odds(texts.texts, mask=~np.isnan(labels).all(axis=2), directions=self.directions)
        return calibrating.fit(
            self.values, odds, labels, empty, source=labelled.name, judge=identity, texts=texts.texts
        )

    def only(self, values: Sequence[str]) -> LlmJudge:
        """Return this judge for some of its values, with the same model, cache and calibration.

        Args:
            values: Names of values.

        Raises:
            InputError: A name is not a value of the theory.
        """
        theory = self.theory.subset(values)
        if theory == self.theory:
            return self
        view = replace(self, theory=theory, labels=None, fitted=self.calibration.only(theory.names))
        object.__setattr__(view, "answers", self.answers)
        return view

    @cached_property
    def _labelled(self) -> LabelledTexts | None:
        if self.labels is None or self.fitted is not None:
            return None
        if any(name not in SCHWARTZ for name in self.values) or self.theory != SCHWARTZ.subset(self.values):
            raise InputError(
                f"labelled texts are of Schwartz's ten values, not of {self.theory.name}: use the llm judge without labels"
            )
        return self.labels if isinstance(self.labels, LabelledTexts) else LabelledTexts.load(self.labels)

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Return P(expresses) of each value; 0 for texts that are not legible.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text, which the judge reads before the text.

        Raises:
            InputError: The calibration was fitted on one of these texts, or the judge's model carries hooks.
        """
        return self.score_pairs(texts, prompts)

    def score_pairs(
        self, texts: Sequence[str], prompts: Sequence[str] | None = None, mask: Bool[np.ndarray, "n v"] | None = None
    ) -> Float[np.ndarray, "n v"]:
        """Return P(expresses) of some text-value pairs; NaN for the others.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.
            mask: The pairs to score; None for all.

        Raises:
            InputError: See `score`.
        """
        return self._probabilities(texts, prompts, mask, "express")

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"] | None:
        """Return P(opposes) of each value; 0 for texts that are not legible; None where `opposes` is False.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.

        Raises:
            InputError: See `score`.
        """
        return self._probabilities(texts, prompts, None, "oppose") if self.opposes else None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return which texts are legible; see `base.legible`."""
        del prompts  # only the text is checked
        return legible(texts)

    def log_odds(
        self,
        texts: Sequence[str],
        prompts: Sequence[str] | None = None,
        mask: Bool[np.ndarray, "n v"] | None = None,
        directions: Sequence[Direction] = DIRECTIONS,
    ) -> Float[np.ndarray, "n v 2"]:
        """Return the log-odds of Yes over No per text, value and direction, before calibration.

        Args:
            texts: The texts to read, legible or not.
            prompts: The prompt of each text.
            mask: The text-value pairs to ask about; None for all. The others are NaN.
            directions: The directions to ask for. The others are NaN.

        Raises:
            InputError: The judge's model carries hooks, or its tokenizer spells no answer.
        """
        return self.stored.log_odds(texts, prompts, mask, directions)

    def _probabilities(
        self, texts: Sequence[str], prompts: Sequence[str] | None, mask: np.ndarray | None, direction: Direction
    ) -> Float[np.ndarray, "n v"]:
        texts = list(texts)
        readable = legible(texts)
        mask = np.ones((len(texts), len(self.theory)), dtype=bool) if mask is None else mask
        out = np.where(mask, 0.0, np.nan)
        rows = np.flatnonzero(readable & mask.any(axis=1)).tolist()
        if not rows:
            return out
        some = [texts[i] for i in rows]
        common = self.calibration.overlap(some)
        if common:
            raise InputError(
                f"the calibration of {self.name} was fitted on {common} of these texts ({self.calibration.source}): score "
                "others, for example their test split"
            )
        asked = None if prompts is None else [prompts[i] for i in rows]
        # both directions at once, so that a text runs once; the other one then comes from the cache
        odds = self.log_odds(some, asked, mask[rows], self.directions)
        out[rows] = self.calibration.apply(odds)[:, :, DIRECTIONS.index(direction)]
        return out

    def _repr_html_(self) -> str:
        facts = {"calibration": self.calibration.source, "pairs per second": self.pairs_per_second}
        return card(self.name, facts, self.calibration.df, rows=40, note=f"The questions: {self.question}")

    def show(self) -> Any:
        """Plot the thresholds of the calibration as a matplotlib figure."""
        return self.calibration.show()


def from_spec(spec: str, theory: ValueTheory = SCHWARTZ) -> LlmJudge:
    """Create the judge of `llm:MODEL`; `#option=value&...` may follow.

    Options: `labels` (labelled texts such as persona:DIR, on whose training split the calibration is fitted), `n` (texts per
    value and label), `calibration` (a file of `Calibration.save`), `cache` (a file), `dtype`, `values` (names with commas
    between them: the others are not asked about), `oppose` (`no`: see `opposes`), `own` (`yes`: `allow_own`).

    Args:
        spec: The spec without `llm:`.
        theory: Theory of the values.

    Raises:
        InputError: An option is unknown or malformed, or a file is missing.
    """
    model, _, options = spec.partition("#")
    if not model:
        raise InputError("the llm judge needs a model: write llm:MODEL")
    arguments = read_options(options, _OPTIONS, "llm")
    if "fitted" in arguments:
        arguments["fitted"] = Calibration.load(arguments["fitted"])
    if "theory" in arguments:
        theory = theory.subset(arguments.pop("theory"))
    return LlmJudge(model, theory, **arguments)


#: Option of a spec -> (attribute, parser of its text).
_OPTIONS: dict[str, tuple[str, Any]] = {
    "labels": ("labels", str),
    "n": ("n_labels", int),
    "calibration": ("fitted", str),
    "cache": ("cache", str),
    "dtype": ("dtype", str),
    "values": ("theory", lambda text: tuple(name.strip() for name in text.split(","))),
    "oppose": ("opposes", yes_or_no),
    "own": ("allow_own", yes_or_no),
}
