"""The demo world: what a text's latent is, how likely each is, and how sentences are made from it.

A text is a *knowledge* text (one or two stories of `neutral.py`, no value) or a *life* text: one to five sentences drawn
independently given the latent. The latent is a set of expressed values (none to three of ten) and at most one opposed value.
A sentence expresses an expressed value, opposes the opposed one, or is neutral; with the rate SLIP it is about any value and
either pole instead. Each word of a life text that is no mark is replaced by a uniformly random word with the rate NOISE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from neva_tl.core.values import N_VALUES
from neva_tl.demo import frames as fr
from neva_tl.demo.lexicon import MARKS, SPLITS, check_split, mixture, own_words, pools, rank_split, sha, simple_slots
from neva_tl.demo.neutral import make_story, story_words

#: Share of knowledge texts, and probabilities of one or two stories in them.
KNOWLEDGE_RATE = 0.25
STORY_COUNTS = (0.6, 0.4)
#: Probabilities of 1 to 5 sentences in a life text: most texts go on, so that what was expressed matters for what follows.
SENTENCE_COUNTS = (0.10, 0.20, 0.30, 0.25, 0.15)
#: Probabilities of 0, 1, 2, 3 expressed values in a life text.
SET_SIZES = (0.30, 0.50, 0.17, 0.03)
#: Relative weight of two values being expressed together, by their distance on the circle in steps (1 to 5).
TOGETHER = (0.0, 4.0, 2.0, 1.0, 1.0, 1.0)
#: Probability that a value is opposed, and the relative weight of the circle-opposite of an expressed value (others: 1).
OPPOSE_RATE = 0.30
OPPOSE_OPPOSITE = 3.0
#: (express, oppose, neutral) shares of sentences, by whether the text expresses and whether it opposes a value.
SENTENCE_SHARES: dict[tuple[bool, bool], tuple[float, float, float]] = {
    (True, False): (0.92, 0.0, 0.08),
    (True, True): (0.74, 0.18, 0.08),
    (False, True): (0.0, 0.60, 0.40),
    (False, False): (0.0, 0.0, 1.0),
}
#: Rate of sentences about any of the ten values, either pole, whatever the latent.
SLIP = 0.02
#: Rate at which a word is replaced by a uniformly random one.
NOISE = 0.01
#: Forms of value sentences (dilemma, saying, acting) and of neutral ones (saying, acting).
VALUE_FORMS = (0.15, 0.50, 0.35)
NEUTRAL_FORMS = (0.5, 0.5)
#: Of the dilemmas that express a value, the share set against another value (else against a chore).
AGAINST_VALUE = 0.6
#: Relative weight of the value that loses a dilemma, by its distance from the winner in steps.
LOSER = (0.0, 1.0, 1.0, 1.0, 2.0, 3.0)

#: Types of sentences: 0-9 expresses value j, 10-19 opposes value j, 20 is neutral.
N_TYPES = 2 * N_VALUES + 1


def steps(i: int, j: int) -> int:
    """Distance of two values on the circle in steps of 36 degrees (0 to 5)."""
    d = abs(i - j) % N_VALUES
    return min(d, N_VALUES - d)


def value_forms() -> tuple[float, ...]:
    """Probabilities of a value sentence's forms (dilemma, saying, acting) in this world.

    Dilemmas are told in own words: a world whose values have none has no dilemmas, and the other forms fill their share.
    """
    if own_words():
        return VALUE_FORMS
    _, *told = VALUE_FORMS
    return (0.0, *(share / sum(told) for share in told))


@dataclass(frozen=True)
class Latents:
    """All latents of a life text.

    Attributes:
        express: [n, 10] bits. oppose: [n, 10] bits, at most one per row. logprior: [n] nats.
        types: [n, 21] probability of each sentence type.
    """

    express: np.ndarray
    oppose: np.ndarray
    logprior: np.ndarray
    types: np.ndarray


def expressed_sets() -> list[tuple[tuple[int, ...], float]]:
    """The 176 sets of expressed values with their prior probability."""
    out: list[tuple[tuple[int, ...], float]] = []
    for size, share in enumerate(SET_SIZES):
        sets = list(combinations(range(N_VALUES), size))
        weights = np.array([np.prod([TOGETHER[steps(a, b)] for a, b in combinations(s, 2)]) for s in sets])
        out += list(zip(sets, share * weights / weights.sum(), strict=True))
    return out


def opposed_values(expressed: tuple[int, ...]) -> list[tuple[int | None, float]]:
    """The opposed value (or none) with its probability, given the expressed ones; never one of them."""
    free = [j for j in range(N_VALUES) if j not in expressed]
    weights = np.array([OPPOSE_OPPOSITE if any(steps(i, j) == 5 for i in expressed) else 1.0 for j in free])
    weights = OPPOSE_RATE * weights / weights.sum()
    return [(None, 1 - OPPOSE_RATE), *zip(free, weights, strict=True)]


def type_shares(expressed: tuple[int, ...], opposed: int | None) -> np.ndarray:
    """[21] probability of each sentence type given the latent, slips included."""
    express, oppose, neutral = SENTENCE_SHARES[bool(expressed), opposed is not None]
    shares = np.zeros(N_TYPES)
    for j in expressed:
        shares[j] = express / len(expressed)
    if opposed is not None:
        shares[N_VALUES + opposed] = oppose
    shares[-1] = neutral
    shares *= 1 - SLIP
    shares[:-1] += SLIP / (N_TYPES - 1)
    return shares


@cache
def latents() -> Latents:
    """Enumerate every latent of a life text (176 sets, each with none or one opposed value)."""
    rows = [(e, o, p * q) for e, p in expressed_sets() for o, q in opposed_values(e)]
    express = np.zeros((len(rows), N_VALUES))
    oppose = np.zeros((len(rows), N_VALUES))
    for i, (e, o, _) in enumerate(rows):
        express[i, list(e)] = 1
        if o is not None:
            oppose[i, o] = 1
    types = np.array([type_shares(e, o) for e, o, _ in rows])
    return Latents(express, oppose, np.log([p for _, _, p in rows]), types)


@cache
def losers() -> np.ndarray:
    """[10, 10] probability of each losing value given the winner of a dilemma."""
    weights = np.array([[LOSER[steps(i, j)] for j in range(N_VALUES)] for i in range(N_VALUES)])
    return weights / weights.sum(1, keepdims=True)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of the world, marks included, sorted."""
    found = {w for pool in pools() for stem in pool.stems for w in stem}
    found |= {w for slot in simple_slots().values() for w in slot}
    return tuple(sorted(found | set(fr.literal_words()) | set(story_words()) | MARKS))


@cache
def noise_words() -> tuple[str, ...]:
    """The words the noise channel draws from: all but the marks."""
    return tuple(w for w in vocabulary() if w not in MARKS)


@cache
def dilemma_splits(a: str, b: str) -> dict[tuple[str, str], str]:
    """(gerund of pool a, gerund of pool b) -> split, hash-ranked within the pair; `b` may be "chore"."""
    by_name = {pool.name: pool.of("GV") for pool in pools()[:N_VALUES]} | {"chore": simple_slots()["XV"]}
    names = {f"{x}|{y}": (x, y) for x in by_name[a] for y in by_name[b]}
    return {names[n]: s for n, s in rank_split(tuple(names), f"dilemma|{a}|{b}").items()}


def dilemma_split(i: int, j: int | None, verb: str, other: str) -> str:
    """The split of a dilemma: value i with gerund `verb` against value j (None: a chore) with gerund `other`."""
    own = pools()
    if j is None:
        return dilemma_splits(own[i].name, "chore")[verb, other]
    if j < i:
        i, j, verb, other = j, i, other, verb
    return dilemma_splits(own[i].name, own[j].name)[verb, other]


@dataclass(frozen=True)
class Sentence:
    """One sentence as made: its words, its type (see N_TYPES) and its cluster (frame or dilemma)."""

    words: tuple[str, ...]
    type: int
    cluster: str


@dataclass(frozen=True)
class Text:
    """A text with the latent that made it."""

    words: tuple[str, ...]
    express: tuple[int, ...]
    opposed: int | None
    knowledge: bool
    clusters: tuple[str, ...]

    @property
    def text(self) -> str:
        """The words joined by blanks."""
        return " ".join(self.words)


def _pick(rng: np.random.Generator, probabilities: np.ndarray | tuple[float, ...]) -> int:
    return int(np.searchsorted(np.cumsum(probabilities), rng.random() * np.sum(probabilities), side="right"))


def _one(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def fill(
    rng: np.random.Generator, made: fr.Template, pool_of: dict[str, int], split: str | None, fixed: dict[str, str]
) -> list[str]:
    """Fill a template.

    Args:
        rng: draws the words. made: the template. pool_of: value phrase -> index of the pool its words come from.
        split: whose people and places. fixed: words already chosen, by slot kind ("N") or kind and phrase ("GV:G1").
    """
    simple = simple_slots(split)
    words = [""] * made.length
    for factor in made.literals:
        words[factor.positions[0]] = factor.word
    for factor in made.slots:
        if factor.phrase is None:
            word = fixed.get(factor.kind) or _one(rng, simple[factor.kind])
        else:
            word = fixed.get(f"{factor.kind}:{factor.phrase}") or _one(
                rng, pools()[pool_of[factor.phrase]].of(factor.kind)
            )
        for position in factor.positions:
            words[position] = word
    return words


def opening(rng: np.random.Generator, split: str | None) -> list[str]:
    """Draw the opening of a sentence (often empty)."""
    text = fr.OPENINGS[_pick(rng, tuple(p for _, p in fr.OPENINGS))][0]
    return fill(rng, fr.template(text), {}, split, {}) if text else []


def draw_frame(rng: np.random.Generator, family: str, split: str | None) -> tuple[int, int]:
    """Draw (lead, predicate) uniformly among the combinations of a split."""
    combos = [c for c, s in fr.frame_splits(family).items() if split in (None, s)]
    return combos[int(rng.integers(len(combos)))]


def make_statement(
    rng: np.random.Generator, j: int, positive: bool, family: str, frame: tuple[int, int], split: str | None
) -> list[str]:
    """A saying or acting sentence about value j (without opening)."""
    leads, predicates = fr.frames(family)
    made = fr.template(f"{leads[frame[0]]} {predicates[frame[1]][0 if positive else 1]}")
    weights = mixture()[j]
    pool_of = {phrase: _pick(rng, weights) for phrase in ("G1", "I1", "Z")}
    return fill(rng, made, pool_of, split, {})


def make_dilemma(
    rng: np.random.Generator, j: int, kind: str, k: int | None, split: str | None
) -> tuple[list[str], str]:
    """A dilemma sentence of a kind (see DILEMMA_KINDS) about value j, against value k or a chore: (words, cluster)."""
    while True:
        verb = _one(rng, pools()[j].of("GV"))
        other = _one(rng, simple_slots()["XV"] if k is None else pools()[k].of("GV"))
        if split is None or dilemma_split(j, k, verb, other) == split:
            break
    made = fr.dilemma_template(
        kind, int(rng.integers(len(fr.DILEMMA_SETUPS))), int(rng.integers(len(fr.DILEMMA_CHOICES))), rng.random() < 0.5
    )
    fixed = {"GV:G1": verb} | ({"XV": other} if k is None else {"GV:G2": other})
    words = fill(rng, made, {"G1": j, "Z": j} | ({} if k is None else {"G2": k}), split, fixed)
    return words, "dilemma-" + "-".join(sorted((verb, other)))


def make_sentence(rng: np.random.Generator, kind: int, split: str | None) -> Sentence:
    """Draw a clean sentence of a type (0-9 expresses, 10-19 opposes, 20 neutral)."""
    start = opening(rng, split)
    if kind == N_TYPES - 1:
        family = ("saying", "acting")[_pick(rng, NEUTRAL_FORMS)]
        said = fr.NEUTRAL_SAYING if family == "saying" else fr.NEUTRAL_ACTING
        text = f"{_one(rng, fr.frames(family)[0])} {_one(rng, said)}"
        return Sentence((*start, *fill(rng, fr.template(text), {}, split, {})), kind, f"neutral-{family}")
    j, positive = kind % N_VALUES, kind < N_VALUES
    form = ("dilemma", "saying", "acting")[_pick(rng, value_forms())]
    if form == "dilemma":
        against = positive and rng.random() < AGAINST_VALUE
        k = _pick(rng, losers()[j]) if against else None
        words, cluster = make_dilemma(rng, j, "value" if against else "chore+" if positive else "chore-", k, split)
        return Sentence((*start, *words), kind, cluster)
    frame = draw_frame(rng, form, split)
    words = make_statement(rng, j, positive, form, frame, split)
    return Sentence((*start, *words), kind, fr.frame_id(form, *frame))


def add_noise(rng: np.random.Generator, words: tuple[str, ...]) -> tuple[str, ...]:
    """Send words through the noise channel."""
    hit = rng.random(len(words)) < NOISE
    if not hit.any():
        return words
    return tuple(_one(rng, noise_words()) if h and w not in MARKS else w for w, h in zip(words, hit, strict=True))


def make_text(rng: np.random.Generator, split: str | None) -> Text:
    """Draw a text of the world. With a split: only its people, places, frames and dilemmas (stories: everyone)."""
    if rng.random() < KNOWLEDGE_RATE:
        stories = [make_story(rng) for _ in range(1 + _pick(rng, STORY_COUNTS))]
        return Text(
            tuple(w for _, s in stories for w in s), (), None, True, tuple(f"story-{kind}" for kind, _ in stories)
        )
    table = latents()
    row = _pick(rng, np.exp(table.logprior))
    count = 1 + _pick(rng, SENTENCE_COUNTS)
    made = [make_sentence(rng, _pick(rng, table.types[row]), split) for _ in range(count)]
    words = tuple(w for s in made for w in add_noise(rng, s.words))
    opposed = np.flatnonzero(table.oppose[row])
    return Text(
        words,
        tuple(int(j) for j in np.flatnonzero(table.express[row])),
        int(opposed[0]) if len(opposed) else None,
        False,
        tuple(s.cluster for s in made),
    )


def corpus(seed: int, n: int, split: str | None = "train") -> Iterator[Text]:
    """Yield n texts of a split (None: the whole world), the same for the same seed."""
    check_split(split)
    rng = np.random.default_rng([seed, 3 if split is None else SPLITS.index(split)])
    for _ in range(n):
        yield make_text(rng, split)


def parameters() -> dict[str, object]:
    """Every number and frame that defines the world (with the lexicon file): what the world's hash is taken over."""
    names = [n for n in globals() if n.isupper() and n not in {"MARKS", "SPLITS", "N_VALUES"}]
    out: dict[str, object] = {n: repr(globals()[n]) for n in sorted(names)}
    out["frames"] = {n: repr(getattr(fr, n)) for n in sorted(dir(fr)) if n.isupper() and not n.startswith("_")}
    out["vocabulary"] = sha(" ".join(vocabulary()))
    return out
