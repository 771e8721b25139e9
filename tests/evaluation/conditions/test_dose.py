"""Responses to doses, and the metric that calibration uses."""

from __future__ import annotations

import pytest

from helpers.letter_judge import PROMPTS, SHORT, LetterJudge, push
from neva_tl.core.errors import InputError
from neva_tl.editing import calibrate
from neva_tl.evaluation import dose_metric, dose_response


def test_dose_response_starts_at_nothing_and_marks_admissible_doses(stories260k):
    table = dose_response(
        stories260k, push(), PROMPTS, LetterJudge(), value="power", doses=(1e-6, 1.0, 60.0),
        texts=["Once upon a time there was a dog.", "The sun was in the sky."], decoding=SHORT, n_boot=50, progress=False,
    )  # fmt: skip
    assert table["gain"].iloc[0] == pytest.approx(0.0, abs=1e-9)
    assert table["kl"].is_monotonic_increasing and table["kl"].iloc[0] < 1e-4
    assert table["admissible"].iloc[0]
    assert {"gain_lo", "gain_hi", "leakage", "ppl"} <= set(table.columns)
    with pytest.raises(InputError, match="does not name the value"):
        dose_response(stories260k, push(), PROMPTS, LetterJudge(), progress=False)


def test_dose_metric_serves_calibrate(stories260k):
    metric = dose_metric(stories260k, PROMPTS, LetterJudge(), value="power", decoding=SHORT)
    found = calibrate(push(), metric, 0.5, grid=(0.5, 1.0), refine=0)
    assert found.status(0.5) == "unreached" and len(found.table) == 2
