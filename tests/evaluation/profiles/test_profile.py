"""Value profiles on planted scores: means, paired changes, the tax, and what couples them."""

import numpy as np
import pytest

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.editing import AddVector
from neva_tl.evaluation import SurveyJudge, ValueProfile, couple, value_profile
from neva_tl.evaluation.judges.base import ItemScores

NAMES = ("stimulation", "power", "tradition")


def items(scores, names=NAMES):
    clusters = tuple(np.array([f"{name}{k}" for k in range(len(x))]) for name, x in zip(names, scores, strict=True))
    return ItemScores(names, tuple(np.array(x, float) for x in scores), clusters, bounds=(0.0, 1.0))


def noisy(rng, shift, n=60):
    base = [rng.uniform(0.2, 0.6, n) for _ in NAMES]
    return items(base), items([b + d + rng.normal(0, 0.02, n) for b, d in zip(base, shift, strict=True)])


def test_means_and_paired_changes_by_hand():
    before = items([[0.1, 0.3], [0.5, 0.7], [0.2, 0.4]])
    after = items([[0.2, 0.2], [0.9, 0.7], [np.nan, 0.6]])
    found = ValueProfile(before, after, "survey", "u", n_boot=20).df.set_index("value")
    assert found["before"].tolist() == pytest.approx([0.2, 0.6, 0.3])
    assert found.loc["tradition", "after"] == pytest.approx(0.6)
    # the item that lost its score has no change: .6 - .4, not .6 - .3
    assert found["change"].tolist() == pytest.approx([0.0, 0.2, 0.2])
    assert found["n"].tolist() == [2, 2, 1] and found["missing"].tolist() == [0, 0, 1]
    assert found.loc["power", "change_lo"] == pytest.approx(0.0) and found.loc["power", "change_hi"] == pytest.approx(
        0.4
    )
    assert np.isnan(found.loc["tradition", "change_lo"])


def test_pairing_narrows_the_interval_of_the_change():
    rng = np.random.default_rng(0)
    found = ValueProfile(*noisy(rng, (0.1, 0.0, -0.1))).df
    width = found["change_hi"] - found["change_lo"]
    assert (width < 0.3 * (found["before_hi"] - found["before_lo"])).all()
    covered = (found["change_lo"] <= [0.1, 0.0, -0.1]) & (found["change_hi"] >= [0.1, 0.0, -0.1])
    assert covered.all()


def test_the_tax_is_off_target_change_per_unit_of_gain():
    rng = np.random.default_rng(1)
    profile = ValueProfile(*noisy(rng, (0.10, 0.40, -0.20)))
    # (|.10| + |-.20|) / 2 / .40
    assert profile.tax("power").est == pytest.approx(0.375, abs=0.03)
    assert profile.tax("tradition").est is None  # it fell: there is no gain to divide by
    with pytest.raises(InputError, match="not measured"):
        profile.tax("hedonism")


def test_coupling_over_conditions_is_that_of_leakage():
    rng = np.random.default_rng(2)
    before, up = noisy(rng, (0.2, 0.4, -0.2))
    shifted = [b + d for b, d in zip(before.scores, (-0.05, -0.1, 0.2), strict=True)]
    profiles = {
        "power": ValueProfile(before, up, "survey", "u"),
        "tradition": ValueProfile(before, items(shifted), "survey", "u"),
    }
    found = couple(profiles)
    matrix = found.coupling_matrix()
    assert matrix.loc["power"].tolist() == pytest.approx([0.5, 1.0, -0.5], abs=0.03)
    assert matrix.loc["tradition"].tolist() == pytest.approx([-0.25, -0.5, 1.0], abs=1e-6)
    assert found.change_correlation().loc["power", "tradition"] == pytest.approx(-1.0)
    assert found.responses.judge == "survey"


def test_profiles_that_do_not_belong_together_are_refused():
    rng = np.random.default_rng(3)
    a, b = ValueProfile(*noisy(rng, (0, 0, 0))), ValueProfile(*noisy(rng, (0, 0, 0)))
    with pytest.raises(InputError, match="another unedited model"):
        couple({"power": a, "tradition": b})
    with pytest.raises(InputError, match="no edited side"):
        couple({"power": ValueProfile(a.before)})
    with pytest.raises(InputError, match="at least one"):
        couple({})
    with pytest.raises(InputError, match="no edited side"):
        ValueProfile(a.before).means(edited=True)


def test_a_model_before_and_after_an_edit(tiny):
    judge = SurveyJudge.load()
    plain = value_profile(tiny, judge, n_boot=50)
    assert plain.values == VALUES and list(plain.df) == ["value", "before", "before_lo", "before_hi", "n", "missing"]
    edited = value_profile(tiny, judge, AddVector({1: np.full(32, 2.0)}), before=plain.before, n_boot=50)
    direct = [b.mean() - a.mean() for a, b in zip(edited.before.scores, edited.after.scores, strict=True)]
    np.testing.assert_allclose(edited.df["change"], direct, atol=1e-12)
    assert np.abs(direct).max() > 1e-3
    nothing = value_profile(tiny, judge, AddVector({1: np.zeros(32)}), n_boot=50)
    np.testing.assert_allclose(nothing.df["change"], 0, atol=1e-6)
    assert "<table" in edited._repr_html_() and "survey" in str(edited)
    with pytest.raises(InputError, match="other items"):
        value_profile(tiny, judge, AddVector({1: np.zeros(32)}), before=items([[0.1]] * 3), n_boot=50)


def test_the_figure_shows_both_sides_and_every_value(tiny):
    rng = np.random.default_rng(4)
    figure = ValueProfile(*noisy(rng, (0.1, 0.2, -0.1)), "survey", "share").show()
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(NAMES)
    assert len(ax.get_legend_handles_labels()[0]) == 2
    low, high = ax.get_ylim()
    assert low < 0.3 and high > 0.6
