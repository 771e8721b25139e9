"""The demo world: words, frames, splits, latents, and the freeze."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from neva_tl import demo
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.demo import frames as fr
from neva_tl.demo import world as w
from neva_tl.demo.frozen import frozen, recipe_hash, world_hash
from neva_tl.demo.lexicon import AMBIGUOUS, people, people_split, places, pools, simple_slots


def test_world_and_recipe_are_frozen() -> None:
    assert frozen() == {"world": world_hash(), "recipe": recipe_hash()}
    assert world_hash() == demo.WORLD_HASH


@pytest.mark.parametrize("name", VALUES)
def test_forty_words_each_and_halves_of_fifteen(name: str) -> None:
    a, b = set(demo.words(name, "A")), set(demo.words(name, "B"))
    assert len(demo.words(name)) >= 40
    assert a | b == set(demo.words(name)) and not a & b
    assert len(a) >= 15 and len(b) >= 15
    for base, gerund in pools()[VALUES.index(name)].verbs:
        assert (base in a) == (gerund in a)


def test_value_words_belong_to_one_pool_and_to_nothing_neutral() -> None:
    counts = Counter(word for pool in pools() for word in {x for stem in pool.stems for x in stem})
    assert max(counts.values()) == 1
    neutral = {x for slot in simple_slots().values() for x in slot} | set(fr.literal_words())
    assert neutral & set(counts) == AMBIGUOUS
    assert not AMBIGUOUS & {x for v in VALUES for x in demo.words(v)}


def test_every_value_has_frames_enough_in_every_split() -> None:
    splits = Counter(s for family in ("saying", "acting") for s in fr.frame_splits(family).values())
    assert splits["train"] >= 12 and splits["validation"] >= 5 and splits["test"] >= 8
    for positive, negative in (*fr.SAYING_PREDICATES, *fr.ACTING_PREDICATES):
        assert positive != negative
        slots = [sorted(f.kind for f in fr.template(t).slots) for t in (positive, negative)]
        assert slots[0] == slots[1], "poles have the same content slots"


def test_every_part_of_a_frame_is_seen_in_training() -> None:
    for family in ("saying", "acting"):
        leads, predicates = fr.frames(family)
        train = [c for c, s in fr.frame_splits(family).items() if s == "train"]
        assert {i for i, _ in train} == set(range(len(leads)))
        assert {k for _, k in train} == set(range(len(predicates)))


def test_splits_share_no_people_places_frames_or_dilemmas() -> None:
    for a, b in combinations(("train", "validation", "test"), 2):
        assert not set(people(a)) & set(people(b))
        assert not set(places(a)) & set(places(b))
    clusters = {s: {c for t in w.corpus(3, 1500, s) if not t.knowledge for c in t.clusters} for s in w.SPLITS}
    for a, b in combinations(w.SPLITS, 2):
        assert all(c.startswith("neutral-") for c in clusters[a] & clusters[b])


def test_training_knows_test_people_from_stories_only() -> None:
    hidden = {name for name, split in people_split().items() if split != "train"}
    stories = {x for t in w.corpus(4, 3000, "train") if t.knowledge for x in t.words}
    assert hidden <= stories
    # Sentences as made: the noise channel may put any word anywhere.
    rng = np.random.default_rng(0)
    made = {x for _ in range(4000) for x in w.make_sentence(rng, int(rng.integers(w.N_TYPES)), "train").words}
    assert not made & hidden


def test_latent_prior_sums_to_one_and_neighbours_go_together() -> None:
    table = w.latents()
    p = np.exp(table.logprior)
    assert p.sum() == pytest.approx(1)
    assert len({tuple(row) for row in table.express}) == 176
    assert not (table.express * table.oppose).any()
    assert np.allclose(table.types.sum(1), 1)
    joint = np.einsum("n,ni,nj->ij", p, table.express, table.express)
    assert joint[0, 1] > 1.5 * joint[0, 2] > 1.5 * joint[0, 5]
    crossed = np.einsum("n,ni,nj->ij", p, table.express, table.oppose)
    assert crossed[0, 5] > 2 * crossed[0, 3]
    sizes = np.bincount(table.express.sum(1).astype(int), weights=p)
    assert np.allclose(sizes, w.SET_SIZES)


def test_corpus_is_deterministic_and_its_words_are_known() -> None:
    first = [t.text for t in w.corpus(7, 50, "test")]
    assert first == [t.text for t in w.corpus(7, 50, "test")]
    assert first != [t.text for t in w.corpus(8, 50, "test")]
    assert {x for t in first for x in t.split()} <= set(demo.vocabulary())


def test_bad_names_get_one_clear_line() -> None:
    with pytest.raises(InputError, match="unknown split"):
        next(iter(demo.corpus(0, 1, "tset")))
    with pytest.raises(InputError, match="half"):
        demo.words("power", "C")
    with pytest.raises(InputError, match="unknown value"):
        demo.words("greed")
