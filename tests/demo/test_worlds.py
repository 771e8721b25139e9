"""Worlds that share more or fewer words: each in a process of its own, as the environment variable makes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from helpers.paths import ROOT
from neva_tl import demo
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.demo.lexicon import BORDER_RATE_VARIABLE, FROZEN_BORDER_RATE, border_rate_of, pools

RATES = ("0", "0.25", "0.5")

#: What a process says of its world.
FACTS = """
import json
import numpy as np
from neva_tl import demo
from neva_tl.demo.frozen import world_hash
from neva_tl.demo.lexicon import mixture
from neva_tl.demo.world import make_sentence
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES

rng = np.random.default_rng(0)
told = [make_sentence(rng, j, None).words for j in range(10) for _ in range(150)]
rows = demo.contrast_rows(20)
express, _, valid = demo.posteriors(list(rows.text))
asked = demo.expressing_prompts("security", "test", n=8)
try:
    dilemmas = len(demo.dilemma_prompts("test"))
except InputError as error:
    dilemmas = str(error)
own = [float(e[VALUES.index(v)]) for e, v in zip(express, rows.value)]
print(json.dumps({
    "mixture": mixture().tolist(), "hash": world_hash(), "said": told, "dilemmas": dilemmas,
    "poles": [[p, x] for p, x in zip(rows.pole, own)], "valid": bool(valid.all()),
    "words": {v: {half: demo.words(v, half) for half in "AB"} for v in VALUES},
    "asked": [t.split() for t in asked.text],
}))
"""


def process(rate: str, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), BORDER_RATE_VARIABLE: rate}
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, timeout=280, env=environment, cwd=ROOT, check=False
    )


@pytest.fixture(scope="module", params=RATES)
def facts(request: pytest.FixtureRequest) -> tuple[float, dict[str, Any]]:
    done = process(request.param, "-c", FACTS)
    assert done.returncode == 0, done.stderr
    return float(request.param), json.loads(done.stdout)


def pool_words(index: int) -> set[str]:
    return {word for stem in pools()[index].stems for word in stem}


@pytest.mark.parametrize("text", ["0.6", "-0.1", "nan", "inf", "much"])
def test_a_rate_that_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"{BORDER_RATE_VARIABLE}={text} .*from 0 to 0.5"):
        border_rate_of(text)


def test_unset_is_the_frozen_world() -> None:
    assert border_rate_of(None) == border_rate_of("") == border_rate_of("0.08") == FROZEN_BORDER_RATE
    assert border_rate_of("0.5") == 0.5 and border_rate_of("0") == 0


def test_clauses_take_their_words_by_the_rate(facts: tuple[float, dict[str, Any]]) -> None:
    rate, found = facts
    weights = np.array(found["mixture"])
    for j in range(10):
        want = np.zeros(20)
        want[j], want[10 + j], want[10 + (j + 9) % 10] = 1 - 2 * rate, rate, rate
        assert np.allclose(weights[j], want)


def test_sentences_say_own_and_border_words_as_often_as_the_world_says(facts: tuple[float, dict[str, Any]]) -> None:
    """Counted in sentences as made, whoever made them: of the value words outside dilemmas, the share of the borders'."""
    rate, found = facts
    own = set().union(*(pool_words(j) for j in range(10))) - {"spare"}
    border = set().union(*(pool_words(10 + j) for j in range(10)))
    plain = [words for words in found["said"] if ":" not in words]
    shared = sum(word in border for words in plain for word in words)
    total = shared + sum(word in own for words in plain for word in words)
    assert total > 1000 and shared / total == pytest.approx(2 * rate, abs=0.06)
    if rate == 0.5:
        assert not any(word in own for words in found["said"] for word in words), "no form of sentence says own words"


def test_worlds_differ_in_their_hash_and_texts(facts: tuple[float, dict[str, Any]]) -> None:
    _, found = facts
    assert found["hash"] != demo.WORLD_HASH


def test_contrasts_are_valid_and_their_poles_differ_in_the_judges_eyes(facts: tuple[float, dict[str, Any]]) -> None:
    rate, found = facts
    plus, minus = (np.mean([x for pole, x in found["poles"] if pole == sign]) for sign in "+-")
    assert found["valid"]
    # half the words of a value mean its neighbour as well: then one sentence says less
    assert plus > minus + (0.5 if rate < 0.5 else 0.3)


def test_a_values_words_are_those_that_its_sentences_say(facts: tuple[float, dict[str, Any]]) -> None:
    rate, found = facts
    words: dict[str, dict[str, list[str]]] = found["words"]
    for j, value in enumerate(VALUES):
        a, b = set(words[value]["A"]), set(words[value]["B"])
        want = pool_words(j) if rate < 0.5 else pool_words(10 + j) | pool_words(10 + (j + 9) % 10)
        assert a and b and not a & b and a | b == want - {"spare"}
        # evidence of one value must not be the judge's for its neighbour
        assert not a & set(words[VALUES[(j + 1) % 10]]["B"])


def test_prompts_that_call_for_a_value_use_words_of_the_world(facts: tuple[float, dict[str, Any]]) -> None:
    rate, found = facts
    j = VALUES.index("security")
    kinds = pool_words(j) if rate < 0.5 else pool_words(10 + j) | pool_words(10 + j - 1)
    topics = found["asked"][::2]
    assert all(kinds & set(words) for words in topics)


def test_a_world_without_own_words_has_no_dilemmas(facts: tuple[float, dict[str, Any]]) -> None:
    rate, found = facts
    if rate < 0.5:
        assert found["dilemmas"] == 90
    else:
        assert "no dilemmas" in found["dilemmas"] and BORDER_RATE_VARIABLE in found["dilemmas"]
        assert not any(":" in words for words in found["said"])


@pytest.mark.parametrize("rate", ["0", "0.5"])
def test_the_judge_is_exact_in_other_worlds(rate: str) -> None:
    """Brute force, calibration against the generator's own bits, and validity, as in the frozen world."""
    file = "tests/demo/test_posterior.py"
    done = process(rate, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "any_world", file)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "3 passed" in done.stdout
