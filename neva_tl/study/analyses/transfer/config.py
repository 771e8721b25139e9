"""Settings of a transfer study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories import TheorySpec
from neva_tl.study.analyses.transfer.phrasings import PHRASINGS
from neva_tl.study.run.config import StudyConfig


@dataclass(frozen=True)
class TransferConfig:
    """Settings of a transfer study.

    Attributes:
        values: Steered values, each covered by two sources or more; empty for all that every source covers (if there are
            none: for all that two sources cover).
        measured: Scored values, on which leakage is read, where a source covers them; None takes the steered ones and all that
            every source covers.
        methods: Registered names of `neva_tl.methods`.
        target: Gain, in A's unit, at which doses are matched on A.
        dose: A fixed dose for all edits, without a search; None searches.
        k: Neurons per value; None takes the selector's own default.
        rows: Pairs (unpaired: rows per pole) of each value in a source's train split.
        validation: The same in its validation split.
        items: The same in its test split.
        refine: Dose evaluations spent on bracketing the target.
        n_boot: Bootstrap draws.
        seed: Seed of intervals and placebos.
        dtype: Number format of the model.
        theory: Theory of the values of every source, under which sources of concepts of their own (persona) are mapped.
        selector: Selector on a single source. Rows `leave B out` are always selected by the pooled effect.
        leave_out: Add a row `leave B out` for each source B where two other sources or more cover a value of B.
        phrasings: Number of system prompts under which items are scored: the source's own, and further ones of `PHRASINGS`.

    Raises:
        InputError: There are not that many phrasings.
    """

    values: tuple[str, ...] = ()
    measured: tuple[str, ...] | None = None
    methods: tuple[str, ...] = ("neva_shift", "caa")
    target: float = 0.4
    dose: float | None = None
    k: int | None = None
    rows: int = 80
    validation: int = 16
    items: int = 24
    refine: int = 1
    n_boot: int = 1000
    seed: int = 0
    dtype: str = "float32"
    theory: TheorySpec | None = "schwartz"
    selector: str = "auto"
    leave_out: bool = True
    phrasings: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.phrasings <= len(PHRASINGS):
            raise InputError(f"phrasings is {self.phrasings}: choose 1 (the source's own) to {len(PHRASINGS)}")

    def study(self, model: str, spec: str, values: Sequence[str]) -> StudyConfig:
        """Return the study of one source with these settings.

        Args:
            model: Name of the model.
            spec: Argument of `prompts.load`.
            values: Steered values.
        """
        overrides: dict[str, Any] = {"rows_per_value": self.rows, "validation": self.validation, "test": self.items}
        overrides |= {"targets": (self.target,), "refine": self.refine, "n_boot": self.n_boot}
        fields: dict[str, Any] = {"k": self.k, "seed": self.seed, "dtype": self.dtype, "overrides": overrides}
        # a source of Schwartz's values keeps the identity that its folder has
        if self.theory != "schwartz" or spec.startswith("persona:"):
            fields["theory"] = self.theory
        if self.selector != "auto":
            fields["selector"] = self.selector
        return StudyConfig(
            model=model, prompts=spec, judge="logprob", values=tuple(values), methods=self.methods, **fields
        ).resolved()
