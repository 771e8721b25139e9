"""The demo world: latents of texts, their prior, and the generator of sentences.

A text is a *knowledge* text (one or two stories of `neutral.py`, no value) or a *life* text: one to five sentences, independent
given the latent. The latent is a set of expressed values (none to three of ten) and at most one opposed value.
A sentence expresses an expressed value, opposes the opposed one, or is neutral; at the rate SLIP it is about any value and
either pole instead. At the rate NOISE each word of a life text, except marks, is replaced by a uniformly random word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from neva_tl.core.brief import brief
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.demo import frames as fr
from neva_tl.demo.lexicon import MARKS, SPLITS, check_split, mixture, own_words, pools, rank_split, sha, simple_slots
from neva_tl.demo.neutral import make_story, story_words

#: Share of knowledge texts, and probabilities of one or two stories in them.
KNOWLEDGE_RATE = 0.25
STORY_COUNTS = (0.6, 0.4)
#: Probabilities of 1 to 5 sentences in a life text: most texts continue, so that earlier sentences help to predict later ones.
SENTENCE_COUNTS = (0.10, 0.20, 0.30, 0.25, 0.15)
#: Probabilities of 0, 1, 2, 3 expressed values in a life text.
SET_SIZES = (0.30, 0.50, 0.17, 0.03)
#: Relative weight of expressing two values together, by their distance on the circle in steps (1 to 5).
TOGETHER = (0.0, 4.0, 2.0, 1.0, 1.0, 1.0)
#: Probability that a text opposes a value, and the relative weight of the opposite of an expressed value (others: 1).
OPPOSE_RATE = 0.30
OPPOSE_OPPOSITE = 3.0
#: (expresses a value, opposes a value) of a text -> (express, oppose, neutral) shares of its sentences.
SENTENCE_SHARES: dict[tuple[bool, bool], tuple[float, float, float]] = {
    (True, False): (0.92, 0.0, 0.08),
    (True, True): (0.74, 0.18, 0.08),
    (False, True): (0.0, 0.60, 0.40),
    (False, False): (0.0, 0.0, 1.0),
}
#: Rate of sentences about any of the ten values, at either pole, independent of the latent.
SLIP = 0.02
#: Rate of words replaced by a uniformly random one.
NOISE = 0.01
#: Forms of value sentences (dilemma, saying, acting) and of neutral ones (saying, acting).
VALUE_FORMS = (0.15, 0.50, 0.35)
NEUTRAL_FORMS = (0.5, 0.5)
#: Share of dilemmas against another value (else against a chore) among those that express a value.
AGAINST_VALUE = 0.6
#: Relative weight of the value that loses a dilemma, by its distance from the winner in steps.
LOSER = (0.0, 1.0, 1.0, 1.0, 2.0, 3.0)

#: Types of sentences: 0-9 expresses value j, 10-19 opposes value j, 20 is neutral.
N_TYPES = 2 * len(SCHWARTZ) + 1


def steps(i: int, j: int) -> int:
    """Compute the distance of two values on the circle in steps of 36 degrees (0 to 5).

    Args:
        i: Index of a value.
        j: Index of another.
    """
    d = abs(i - j) % len(SCHWARTZ)
    return min(d, len(SCHWARTZ) - d)


def value_forms() -> tuple[float, ...]:
    """Return the probabilities of a value sentence's forms (dilemma, saying, acting) in this world.

    Dilemmas use own words: a world whose values have none has no dilemmas, and the other forms divide their share.
    """
    if own_words():
        return VALUE_FORMS
    _, *shares = VALUE_FORMS
    return (0.0, *(share / sum(shares) for share in shares))


@dataclass(frozen=True)
class Latents:
    """All latents of a life text.

    Attributes:
        express: Bits [n, 10] of expressed values.
        oppose: Bits [n, 10] of opposed values, at most one per row.
        logprior: Log prior [n] in nats.
        types: Probability [n, 21] of each sentence type.
    """

    express: np.ndarray
    oppose: np.ndarray
    logprior: np.ndarray
    types: np.ndarray


def expressed_sets() -> list[tuple[tuple[int, ...], float]]:
    """Enumerate the 176 sets of expressed values with their prior probability."""
    out: list[tuple[tuple[int, ...], float]] = []
    for size, share in enumerate(SET_SIZES):
        sets = list(combinations(range(len(SCHWARTZ)), size))
        weights = np.array([np.prod([TOGETHER[steps(a, b)] for a, b in combinations(s, 2)]) for s in sets])
        out += list(zip(sets, share * weights / weights.sum(), strict=True))
    return out


def opposed_values(expressed: tuple[int, ...]) -> list[tuple[int | None, float]]:
    """Enumerate the opposed value (or None) with its probability given the expressed values.

    Args:
        expressed: Indices of the expressed values, which are never opposed.
    """
    free = [j for j in range(len(SCHWARTZ)) if j not in expressed]
    weights = np.array([OPPOSE_OPPOSITE if any(steps(i, j) == 5 for i in expressed) else 1.0 for j in free])
    weights = OPPOSE_RATE * weights / weights.sum()
    return [(None, 1 - OPPOSE_RATE), *zip(free, weights, strict=True)]


def type_shares(expressed: tuple[int, ...], opposed: int | None) -> np.ndarray:
    """Compute the probability [21] of each sentence type given the latent, including slips.

    Args:
        expressed: Indices of the expressed values.
        opposed: Index of the opposed value, or None.
    """
    express, oppose, neutral = SENTENCE_SHARES[bool(expressed), opposed is not None]
    shares = np.zeros(N_TYPES)
    for j in expressed:
        shares[j] = express / len(expressed)
    if opposed is not None:
        shares[len(SCHWARTZ) + opposed] = oppose
    shares[-1] = neutral
    shares *= 1 - SLIP
    shares[:-1] += SLIP / (N_TYPES - 1)
    return shares


@cache
def latents() -> Latents:
    """Enumerate every latent of a life text (176 sets, each with none or one opposed value)."""
    rows = [(e, o, p * q) for e, p in expressed_sets() for o, q in opposed_values(e)]
    express = np.zeros((len(rows), len(SCHWARTZ)))
    oppose = np.zeros((len(rows), len(SCHWARTZ)))
    for i, (e, o, _) in enumerate(rows):
        express[i, list(e)] = 1
        if o is not None:
            oppose[i, o] = 1
    types = np.array([type_shares(e, o) for e, o, _ in rows])
    return Latents(express, oppose, np.log([p for _, _, p in rows]), types)


@cache
def losers() -> np.ndarray:
    """Return the probability [10, 10] of each losing value given the winner of a dilemma."""
    weights = np.array([[LOSER[steps(i, j)] for j in range(len(SCHWARTZ))] for i in range(len(SCHWARTZ))])
    return weights / weights.sum(1, keepdims=True)


@cache
def vocabulary() -> tuple[str, ...]:
    """Return every word of the world, including marks, sorted.

    Example:
        >>> len(nv.demo.vocabulary()), nv.demo.vocabulary()[-1]
        (997, 'zoe')
    """
    words = {w for pool in pools() for stem in pool.stems for w in stem}
    words |= {w for slot in simple_slots().values() for w in slot}
    return tuple(sorted(words | set(fr.literal_words()) | set(story_words()) | MARKS))


@cache
def noise_words() -> tuple[str, ...]:
    """Return the words that the noise channel draws: all except marks."""
    return tuple(w for w in vocabulary() if w not in MARKS)


@cache
def dilemma_splits(a: str, b: str) -> dict[tuple[str, str], str]:
    """Assign a split to each (gerund of a, gerund of b), by hash rank within the pair of pools.

    Args:
        a: Name of a value's pool.
        b: Name of another, or "chore".
    """
    by_name = {pool.name: pool.of("GV") for pool in pools()[: len(SCHWARTZ)]} | {"chore": simple_slots()["XV"]}
    names = {f"{x}|{y}": (x, y) for x in by_name[a] for y in by_name[b]}
    return {names[n]: s for n, s in rank_split(tuple(names), f"dilemma|{a}|{b}").items()}


def dilemma_split(i: int, j: int | None, verb: str, other: str) -> str:
    """Return the split of a dilemma.

    Args:
        i: Index of a value.
        j: Index of the other value; None for a chore.
        verb: Gerund of value i.
        other: Gerund of value j or of the chore.
    """
    all_pools = pools()
    if j is None:
        return dilemma_splits(all_pools[i].name, "chore")[verb, other]
    if j < i:
        i, j, verb, other = j, i, other, verb
    return dilemma_splits(all_pools[i].name, all_pools[j].name)[verb, other]


@dataclass(frozen=True)
class Sentence:
    """A sentence without noise.

    Attributes:
        words: Words of the sentence, marks included.
        type: Type of the sentence (see `N_TYPES`).
        cluster: Name of the frame or dilemma.
    """

    words: tuple[str, ...]
    type: int
    cluster: str


@dataclass(frozen=True)
class Text:
    """A text with its latent.

    Attributes:
        words: Words of the text.
        express: Indices of the expressed values.
        opposed: Index of the opposed value, or None.
        knowledge: Whether it is a knowledge text.
        clusters: Cluster of each sentence or story.

    Example:
        >>> text = next(nv.demo.corpus(0, 1))
        >>> text.words[:3], text.text.count(" ") == len(text.words) - 1
        (('in', 'the', 'afternoon'), True)
        >>> text.express, nv.theories.SCHWARTZ.names[text.opposed]
        ((), 'conformity')
    """

    words: tuple[str, ...]
    express: tuple[int, ...]
    opposed: int | None
    knowledge: bool
    clusters: tuple[str, ...]

    __repr__ = brief

    @property
    def text(self) -> str:
        """The words joined by spaces."""
        return " ".join(self.words)


def draw_index(rng: np.random.Generator, probabilities: np.ndarray | tuple[float, ...]) -> int:
    """Draw an index.

    Args:
        rng: Random generator.
        probabilities: Weights of the indices, up to a factor.
    """
    return int(np.searchsorted(np.cumsum(probabilities), rng.random() * np.sum(probabilities), side="right"))


def draw_item(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    """Draw an item uniformly.

    Args:
        rng: Random generator.
        items: Items to draw from.
    """
    return items[int(rng.integers(len(items)))]


def fill(
    rng: np.random.Generator, template: fr.Template, pool_of: dict[str, int], split: str | None, fixed: dict[str, str]
) -> list[str]:
    """Fill a template.

    Args:
        rng: Random generator.
        template: Template to fill.
        pool_of: Value phrase -> index of the pool of its words.
        split: Split that restricts people and places; None is the full world.
        fixed: Words that are not drawn, by slot kind ("N") or kind and phrase ("GV:G1").
    """
    simple = simple_slots(split)
    words = [""] * template.length
    for factor in template.literals:
        words[factor.positions[0]] = factor.word
    for factor in template.slots:
        if factor.phrase is None:
            word = fixed.get(factor.kind) or draw_item(rng, simple[factor.kind])
        else:
            word = fixed.get(f"{factor.kind}:{factor.phrase}") or draw_item(
                rng, pools()[pool_of[factor.phrase]].of(factor.kind)
            )
        for position in factor.positions:
            words[position] = word
    return words


def opening(rng: np.random.Generator, split: str | None) -> list[str]:
    """Draw the opening of a sentence (often empty).

    Args:
        rng: Random generator.
        split: Split that restricts places; None is the full world.
    """
    text = fr.OPENINGS[draw_index(rng, tuple(p for _, p in fr.OPENINGS))][0]
    return fill(rng, fr.template(text), {}, split, {}) if text else []


def draw_frame(rng: np.random.Generator, family: str, split: str | None) -> tuple[int, int]:
    """Draw (lead, predicate) uniformly from the combinations of a split.

    Args:
        rng: Random generator.
        family: "saying" or "acting".
        split: Name of a split; None is the full world.
    """
    combos = [c for c, s in fr.frame_splits(family).items() if split in (None, s)]
    return combos[int(rng.integers(len(combos)))]


def make_statement(
    rng: np.random.Generator, j: int, positive: bool, family: str, frame: tuple[int, int], split: str | None
) -> list[str]:
    """Draw a saying or acting sentence about a value, without opening.

    Args:
        rng: Random generator.
        j: Index of the value.
        positive: Whether the sentence expresses the value (else opposes it).
        family: "saying" or "acting".
        frame: (lead, predicate).
        split: Split that restricts people and places; None is the full world.
    """
    leads, predicates = fr.frames(family)
    template = fr.template(f"{leads[frame[0]]} {predicates[frame[1]][0 if positive else 1]}")
    weights = mixture()[j]
    pool_of = {phrase: draw_index(rng, weights) for phrase in ("G1", "I1", "Z")}
    return fill(rng, template, pool_of, split, {})


def make_dilemma(
    rng: np.random.Generator, j: int, kind: str, k: int | None, split: str | None
) -> tuple[list[str], str]:
    """Draw a dilemma sentence.

    Args:
        rng: Random generator.
        j: Index of the value.
        kind: One of `DILEMMA_KINDS`.
        k: Index of the other value; None for a chore.
        split: Split of the dilemma; None is the full world.

    Returns:
        (words, cluster).
    """
    while True:
        verb = draw_item(rng, pools()[j].of("GV"))
        other = draw_item(rng, simple_slots()["XV"] if k is None else pools()[k].of("GV"))
        if split is None or dilemma_split(j, k, verb, other) == split:
            break
    template = fr.dilemma_template(
        kind, int(rng.integers(len(fr.DILEMMA_SETUPS))), int(rng.integers(len(fr.DILEMMA_CHOICES))), rng.random() < 0.5
    )
    fixed = {"GV:G1": verb} | ({"XV": other} if k is None else {"GV:G2": other})
    words = fill(rng, template, {"G1": j, "Z": j} | ({} if k is None else {"G2": k}), split, fixed)
    return words, "dilemma-" + "-".join(sorted((verb, other)))


def make_sentence(rng: np.random.Generator, kind: int, split: str | None) -> Sentence:
    """Draw a sentence without noise.

    Args:
        rng: Random generator.
        kind: Type of the sentence: 0-9 expresses, 10-19 opposes, 20 is neutral.
        split: Name of a split; None is the full world.
    """
    start = opening(rng, split)
    if kind == N_TYPES - 1:
        family = ("saying", "acting")[draw_index(rng, NEUTRAL_FORMS)]
        predicates = fr.NEUTRAL_SAYING if family == "saying" else fr.NEUTRAL_ACTING
        text = f"{draw_item(rng, fr.frames(family)[0])} {draw_item(rng, predicates)}"
        return Sentence((*start, *fill(rng, fr.template(text), {}, split, {})), kind, f"neutral-{family}")
    j, positive = kind % len(SCHWARTZ), kind < len(SCHWARTZ)
    form = ("dilemma", "saying", "acting")[draw_index(rng, value_forms())]
    if form == "dilemma":
        against = positive and rng.random() < AGAINST_VALUE
        k = draw_index(rng, losers()[j]) if against else None
        words, cluster = make_dilemma(rng, j, "value" if against else "chore+" if positive else "chore-", k, split)
        return Sentence((*start, *words), kind, cluster)
    frame = draw_frame(rng, form, split)
    words = make_statement(rng, j, positive, form, frame, split)
    return Sentence((*start, *words), kind, fr.frame_id(form, *frame))


def add_noise(rng: np.random.Generator, words: tuple[str, ...]) -> tuple[str, ...]:
    """Apply the noise channel to words.

    Args:
        rng: Random generator.
        words: Words of a sentence.
    """
    hit = rng.random(len(words)) < NOISE
    if not hit.any():
        return words
    return tuple(draw_item(rng, noise_words()) if h and w not in MARKS else w for w, h in zip(words, hit, strict=True))


def make_text(rng: np.random.Generator, split: str | None) -> Text:
    """Draw a text of the world.

    Args:
        rng: Random generator.
        split: Split that restricts people, places, frames and dilemmas of life texts; None is the full world.
    """
    if rng.random() < KNOWLEDGE_RATE:
        stories = [make_story(rng) for _ in range(1 + draw_index(rng, STORY_COUNTS))]
        return Text(
            tuple(w for _, s in stories for w in s), (), None, True, tuple(f"story-{kind}" for kind, _ in stories)
        )
    table = latents()
    row = draw_index(rng, np.exp(table.logprior))
    count = 1 + draw_index(rng, SENTENCE_COUNTS)
    sentences = [make_sentence(rng, draw_index(rng, table.types[row]), split) for _ in range(count)]
    words = tuple(w for s in sentences for w in add_noise(rng, s.words))
    opposed = np.flatnonzero(table.oppose[row])
    return Text(
        words,
        tuple(int(j) for j in np.flatnonzero(table.express[row])),
        int(opposed[0]) if len(opposed) else None,
        False,
        tuple(s.cluster for s in sentences),
    )


def corpus(seed: int, n: int, split: str | None = "train") -> Iterator[Text]:
    """Yield texts of a split, the same for the same seed.

    Args:
        seed: Seed of the random generator.
        n: Number of texts.
        split: Name of a split; None is the full world.

    Example:
        >>> [text.words[:3] for text in nv.demo.corpus(0, 2)]
        [('in', 'the', 'afternoon'), ('on', 'sunday', ',')]
    """
    check_split(split)
    rng = np.random.default_rng([seed, 3 if split is None else SPLITS.index(split)])
    for _ in range(n):
        yield make_text(rng, split)


def parameters() -> dict[str, object]:
    """Collect every number and frame that defines the world: with the lexicon file, the input of the world's hash."""
    names = [n for n in globals() if n.isupper() and n not in {"MARKS", "SPLITS", "SCHWARTZ"}]
    out: dict[str, object] = {n: repr(globals()[n]) for n in sorted(names)}
    out["frames"] = {n: repr(getattr(fr, n)) for n in sorted(dir(fr)) if n.isupper() and not n.startswith("_")}
    out["vocabulary"] = sha(" ".join(vocabulary()))
    return out
