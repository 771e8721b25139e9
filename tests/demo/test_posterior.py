"""The exact judge against brute force, against the generator's own bits, and on broken texts.

Tests marked `any_world` hold whatever words values share; test_worlds.py runs them in other worlds.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from neva_tl import demo
from neva_tl.core.values import VALUES
from neva_tl.demo import frames as fr
from neva_tl.demo import world as w
from neva_tl.demo.entropy import text_logp
from neva_tl.demo.lexicon import BORDER_RATE, pools, simple_slots
from neva_tl.demo.posterior import is_prefix, sentence_likelihood

any_world = pytest.mark.any_world


@pytest.fixture(scope="module")
def sample() -> tuple[list[w.Text], np.ndarray, np.ndarray, np.ndarray]:
    texts = list(w.corpus(11, 1500, None))
    return texts, *demo.posteriors([t.text for t in texts])


def brute_saying(words: list[str], predicate: str, lead: str, j: int) -> float:
    """P(words | value j, this frame, no opening) by writing out every clean sentence: no factorising."""
    stray = w.NOISE / len(w.noise_words())
    total = 0.0
    own = [(pools()[j], 1 - 2 * BORDER_RATE), (pools()[10 + j], BORDER_RATE), (pools()[10 + (j - 1) % 10], BORDER_RATE)]
    names = simple_slots()["N"]
    # Only one name matches; all others go through the channel alike.
    for (pool, p), (good_pool, q) in product(own, own):
        phrases = product(pool.of("GV"), simple_slots()["E"], pool.adjectives, pool.nouns, good_pool.goods)
        n = len(pool.verbs) * 3 * len(pool.adjectives) * len(pool.nouns) * len(good_pool.goods)
        for gerund, det, adjective, noun, good in phrases:
            said = predicate.replace("G", f"{gerund} {det} {adjective} {noun}", 1).replace("Z", good)
            for name, count in ((words[0], 1), ("<other>", len(names) - 1)):
                clean = f"{lead} {said}".replace("N", name, 1).split()
                lik = 1.0
                for a, b in zip(words, clean, strict=True):
                    if a in w.MARKS or b in w.MARKS:
                        lik *= a == b
                    else:
                        lik *= (1 - w.NOISE) * (a == b) + stray
                total += p * q / n * count / len(names) * lik
    return total


@any_world
def test_likelihood_equals_writing_out_every_sentence() -> None:
    lead, predicate = "N says that", "Z is the best reason for G ."
    text = "mara says that mercy is the best reason for protecting the sad orphan ."
    words = text.split()
    share = (1 - sum(p for _, p in fr.OPENINGS[1:])) * w.value_forms()[1]
    share /= len(fr.SAYING_LEADS) * len(fr.SAYING_PREDICATES)
    lik, errors = sentence_likelihood(tuple(words))
    # No pool holds both "protecting ... orphan" (a border) and "sad" (own): with both kinds in use one word is off. Without
    # border words the first two are; without own words "sad" and "mercy" are.
    assert errors == (1 if 0 < BORDER_RATE < 0.5 else 2)
    for j in (7, 8, 9):
        assert lik[j] == pytest.approx(share * brute_saying(words, predicate, lead, j), rel=1e-6)


def test_posterior_equals_bayes_done_by_hand() -> None:
    """Two clear sentences: a direct sum over sets and opposed values, written without the world's tables."""
    first = "mara says that helping a sick friend matters most ."
    second = "tom thinks that protecting a gentle orphan matters most ."
    # Given type j the second (all border words) is as likely for both its values; the first belongs to one value.
    total, hit = 0.0, np.zeros(10)
    for expressed, p in w.expressed_sets():
        for opposed, q in w.opposed_values(expressed):
            shares = w.type_shares(expressed, opposed)
            lik = p * q * shares[8] * (shares[8] + shares[9]) / 2
            total += lik
            hit[list(expressed)] += lik
    got = demo.posterior(second, prompt=first)
    assert got.valid
    assert np.allclose(got.express, hit / total, atol=1e-6)
    assert got.express[8] > 0.95 and got.express[9] < 0.5


@any_world
def test_posterior_is_calibrated(sample: tuple[list[w.Text], np.ndarray, np.ndarray, np.ndarray]) -> None:
    texts, express, oppose, valid = sample
    bits = np.zeros_like(express)
    opposed = np.zeros_like(oppose)
    for i, t in enumerate(texts):
        bits[i, list(t.express)] = 1
        if t.opposed is not None:
            opposed[i, t.opposed] = 1
    for p, b in ((express, bits), (oppose, opposed)):
        for lo, hi in ((0, 0.03), (0.03, 0.2), (0.2, 0.8), (0.8, 0.97), (0.97, 1.01)):
            cell = (p >= lo) & (p < hi)
            n = cell.sum()
            if n < 30:
                continue
            error = np.sqrt((p[cell] * (1 - p[cell])).sum()) / n
            assert abs(p[cell].mean() - b[cell].mean()) < 4 * error + 1e-3
    assert valid.mean() > 0.99
    assert abs(express.mean() - bits.mean()) < 0.006


def test_clear_text_is_near_one_and_neutral_near_zero() -> None:
    for j in range(len(VALUES)):
        pool = pools()[j]
        clause = f"{pool.verbs[0][1]} the {pool.adjectives[0]} {pool.nouns[0]}"
        plus = demo.posterior(f"{clause} matters most .", prompt="mara says that")
        minus = demo.posterior(f"{clause} matters least .", prompt="mara says that")
        assert plus.valid and minus.valid
        assert plus.express[j] > 0.95 and plus.oppose[j] < 0.05
        assert minus.express[j] < 0.05 and minus.oppose[j] > 0.85
        assert np.delete(plus.express, j).max() < 0.15
    for split in w.SPLITS:
        express, oppose, valid = demo.posteriors(demo.neutral_texts(split, 200))
        assert valid.all() and express.max() < 0.05 and oppose.max() < 0.15


def test_invalid_texts(sample: tuple[list[w.Text], np.ndarray, np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    texts = [t.words for t in sample[0][:200]]
    shuffled = [" ".join([*rng.permutation(t[:-1]), t[-1]]) for t in texts]
    assert demo.posteriors(shuffled)[2].mean() < 0.05
    for bad in (
        "the the the the the the .",
        "mara says that xyzzy blorps quux .",
        "mara says that mara says that mara says that matters most .",
        "mara says that helping helping helping helping matters most .",
        "helping a sick",
        "mara says that it will rain on monday . " * 6,
    ):
        assert not demo.posterior(bad).valid, bad


def test_a_noisy_word_is_forgiven_and_an_unfinished_end_ignored() -> None:
    clean = demo.posterior("mara says that helping a sick friend matters most .")
    noisy = demo.posterior("mara says that helping a kitchen friend matters most .")
    assert noisy.valid and noisy.express[8] > 0.9
    longer = demo.posterior("mara says that helping a sick friend matters most . on monday , tom would rather")
    assert longer.valid and np.allclose(longer.express, clean.express)
    assert not demo.posterior("mara says that helping a sick friend matters most . on on on on").valid


@any_world
def test_every_beginning_of_a_made_text_is_valid() -> None:
    for t in list(w.corpus(21, 20, None)):
        if demo.posterior(t.text).valid:
            for cut in range(1, len(t.words)):
                assert demo.posterior(" ".join(t.words[:cut])).valid, " ".join(t.words[:cut])
    assert is_prefix(("mara",)) and not is_prefix(("quux", "quux"))


def test_stories_have_no_value_whatever_their_answer() -> None:
    right = "mara has milk . tom has tea . ada has glue . what has tom ? tom has tea ."
    for text in (right, right.replace("tom has tea .", "tom has sand .", 2).replace("sand", "tea", 1)):
        got = demo.posterior(text)
        assert got.valid and got.express.max() == 0


def test_text_logp_is_finite_on_its_own_split_and_lower_elsewhere() -> None:
    for split in w.SPLITS:
        texts = [t.words for t in w.corpus(31, 150, split)]
        own = np.array([text_logp(t, split) for t in texts])
        world = np.array([text_logp(t, None) for t in texts])
        assert np.isfinite(own).all() and (own < 0).all()
        # A split is part of the world: given the split, its texts are likelier.
        assert (own - world).mean() > 0
        assert (own - world).min() > -1e-6


def test_sentence_likelihoods_sum_to_one_over_what_is_drawn() -> None:
    """E_p[1 / p] over distinct draws estimates the support's size; here: compare p with how often short sentences are drawn."""
    rng = np.random.default_rng(5)
    n = 30_000
    drawn = [" ".join(w.make_sentence(rng, w.N_TYPES - 1, None).words) for _ in range(n)]
    hits = sum(s.endswith("it will rain on monday .") and s.split()[1] == "says" for s in drawn)
    expected = 0.0
    for name in simple_slots()["N"]:
        expected += sentence_likelihood(tuple(f"{name} says that it will rain on monday .".split()))[0][-1]
    assert hits / n == pytest.approx(expected, abs=4 * np.sqrt(expected / n))
