"""Value-free knowledge that edits must not damage: short stories whose answers follow from their facts.

Five kinds, each with one right answer: counting (addition), places (current location), colours, possessions over several
sentences, and family (grandmother, grandfather, aunt, uncle). The noise channel does not change knowledge texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from neva_tl.demo.lexicon import data, simple_slots

KINDS: tuple[str, ...] = ("counting", "places", "colours", "having", "family")
#: Numbers added in counting stories.
ADDENDS = (2, 3, 4, 5, 6)
#: Largest number of substitutions of a valid knowledge story (a wrong answer is wrong, not invalid).
TOLERANCE = 1

#: kind -> variants. Slots: N person, O object, W town, C colour, S stuff, Q addend; "=x" follows from the others.
_STORIES: dict[str, tuple[str, ...]] = {
    "counting": (
        "N1 has Q1 coins . N1 gets Q2 more . now N1 has =sum .",
        "N1 has Q1 apples . N1 gets Q2 more . now N1 has =sum .",
    ),
    "places": (
        "N1 visits W1 . N2 visits W2 . where is N1 ? N1 visits =W1 .",
        "N1 visits W1 . N2 visits W2 . where is N2 ? N2 visits =W2 .",
        "N1 visits W1 . N2 visits W2 . N3 visits W3 . where is N1 ? N1 visits =W1 .",
        "N1 visits W1 . N2 visits W2 . N3 visits W3 . where is N2 ? N2 visits =W2 .",
    ),
    "colours": (
        "the O1 is C1 . the O2 is C2 . what colour is the O1 ? the O1 is =C1 .",
        "the O1 is C1 . the O2 is C2 . what colour is the O2 ? the O2 is =C2 .",
        "the O1 is C1 . the O2 is C2 . the O3 is C3 . what colour is the O1 ? the O1 is =C1 .",
        "the O1 is C1 . the O2 is C2 . the O3 is C3 . what colour is the O2 ? the O2 is =C2 .",
    ),
    "having": (
        "N1 has S1 . N2 has S2 . N3 has S3 . what has N1 ? N1 has =S1 .",
        "N1 has S1 . N2 has S2 . N3 has S3 . what has N2 ? N2 has =S2 .",
        "N1 has S1 . N2 has S2 . N3 has S3 . what has N3 ? N3 has =S3 .",
        "N1 has S1 . N2 has S2 . N1 gives S1 to N3 . now N3 has =S1 .",
    ),
    "family": (
        "N1 is the =parent1 of N2 . N2 is the =parent2 of N3 . so N1 is the =grand of N3 .",
        "N1 is the =sibling1 of N2 . N2 is the =parent2 of N3 . so N1 is the =aunt of N3 .",
    ),
}
FAMILY_ANSWERS = ("grandmother", "grandfather", "aunt", "uncle")
_GENDERED = {
    "=parent1": ("N1", "mother", "father"),
    "=parent2": ("N2", "mother", "father"),
    "=sibling1": ("N1", "sister", "brother"),
    "=grand": ("N1", "grandmother", "grandfather"),
    "=aunt": ("N1", "aunt", "uncle"),
}


@cache
def _women() -> frozenset[str]:
    return frozenset(data()["women"])


@cache
def stories() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (kind, tokens) of every story form."""
    return tuple((kind, tuple(text.split())) for kind in KINDS for text in _STORIES[kind])


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    slots = simple_slots()
    numbers = slots["Q"]
    return {key: slots[key] for key in "NOWCS"} | {"Q": tuple(numbers[a - 1] for a in ADDENDS)}


def _is_slot(token: str) -> bool:
    return len(token) == 2 and token[0] in "NOWCSQ" and token[1].isdigit()


def _derived(token: str, bound: dict[str, str]) -> str | None:
    """Return the word of a "=" token, or None until all slots that it depends on are bound."""
    if token in _GENDERED:
        who, female, male = _GENDERED[token]
        return None if who not in bound else female if bound[who] in _women() else male
    if token == "=sum":
        numbers = simple_slots()["Q"]
        if not (bound.get("Q1") in numbers and bound.get("Q2") in numbers):
            return None
        total = numbers.index(bound["Q1"]) + numbers.index(bound["Q2"]) + 2
        return numbers[total - 1] if total <= len(numbers) else None
    return bound.get(token[1:])


def make_story(rng: np.random.Generator, kind: str | None = None) -> tuple[str, list[str]]:
    """Draw a story: kinds are uniform, then forms, then fillers (distinct within a slot kind, except addends).

    Args:
        rng: Random generator.
        kind: One of `KINDS`; None draws one.

    Returns:
        (kind, words).
    """
    kind = KINDS[int(rng.integers(len(KINDS)))] if kind is None else kind
    forms = _STORIES[kind]
    tokens = forms[int(rng.integers(len(forms)))].split()
    bound: dict[str, str] = {}
    words = []
    for token in tokens:
        if _is_slot(token):
            if token not in bound:
                used = {bound[k] for k in bound if k[0] == token[0]} if token[0] != "Q" else set()
                free = [w for w in _choices()[token[0]] if w not in used]
                bound[token] = free[int(rng.integers(len(free)))]
            words.append(bound[token])
        elif token.startswith("="):
            word = _derived(token, bound)
            assert word is not None
            words.append(word)
        else:
            words.append(token)
    return kind, words


@dataclass(frozen=True)
class StoryMatch:
    """Fit of words to a story form.

    Attributes:
        substitutions: Number of substituted words.
        used: Number of words that belong to the story.
        complete: Whether the story is finished.
        logp: Log-probability of the story in nats; -inf with substitutions.
    """

    substitutions: int
    used: int
    complete: bool
    logp: float


def _match(form: tuple[str, ...], words: Sequence[str]) -> StoryMatch:
    bound: dict[str, str] = {}
    errors = 0
    logp = 0.0
    n = min(len(form), len(words))
    for token, word in zip(form[:n], words[:n], strict=True):
        if _is_slot(token):
            if token in bound:
                errors += bound[token] != word
                continue
            used = {bound[k] for k in bound if k[0] == token[0]} if token[0] != "Q" else set()
            options = _choices()[token[0]]
            bound[token] = word
            errors += word not in options or word in used
            logp -= math.log(len(options) - len(used))
        elif token.startswith("="):
            errors += _derived(token, bound) != word
        else:
            errors += token != word
    return StoryMatch(errors, n, n == len(form), logp if errors == 0 else -math.inf)


def parse_knowledge(words: Sequence[str]) -> tuple[bool, float, bool]:
    """Parse words as a text of one or two stories, of which the last may be unfinished.

    Args:
        words: Words of a text.

    Returns:
        (valid, logp, complete): whether the generator can make the text with at most `TOLERANCE` substitutions per story;
        the log-probability of the stories (nats, without their number and the end; -inf with substitutions or unfinished);
        whether the last story is finished.
    """
    start, logp = 0, 0.0
    for _ in range(2):
        rest = words[start:]
        matches = [(m, kind) for kind, form in stories() for m in (_match(form, rest),) if m.substitutions <= TOLERANCE]
        matches = [(m, kind) for m, kind in matches if m.used > 0 and (m.complete or m.used == len(rest))]
        if not matches:
            return False, -math.inf, False
        best, kind = min(matches, key=lambda pair: (pair[0].substitutions, -pair[0].used))
        logp += best.logp - math.log(len(KINDS) * len(_STORIES[kind]))
        start += best.used
        if start == len(words):
            return True, logp if best.complete else -math.inf, best.complete
    return False, -math.inf, False


def answer_index(kind: str) -> int:
    """Return the index of a story's answer, counted from its end ("... so N1 is the aunt of N3 .").

    Args:
        kind: One of `KINDS`.
    """
    return -4 if kind == "family" else -2


def answer_options(kind: str, words: Sequence[str], rng: np.random.Generator, n: int = 4) -> list[str]:
    """Draw options for a story's answer: the right one, distractors from the story, then random words.

    Args:
        kind: One of `KINDS`.
        words: Words of the story.
        rng: Random generator.
        n: Number of options.
    """
    right = words[answer_index(kind)]
    slot = {"counting": "Q", "places": "W", "colours": "C", "having": "S"}.get(kind)
    pool = list(FAMILY_ANSWERS) if slot is None else list(simple_slots()[slot])
    distractors = [w for w in dict.fromkeys(words[: answer_index(kind)]) if w in pool and w != right]
    others = [w for w in pool if w != right and w not in distractors]
    rng.shuffle(others)
    options = [right, *distractors, *others][:n]
    rng.shuffle(options)
    return options


@cache
def story_words() -> tuple[str, ...]:
    """Return the literal and derived words of the stories, sorted."""
    words = {t for _, form in stories() for t in form if not _is_slot(t) and not t.startswith("=")}
    words |= {w for _, *pair in _GENDERED.values() for w in pair}
    return tuple(sorted(words))


def make_drill(rng: np.random.Generator, n_words: int = 30) -> list[str]:
    """Draw a drill for the first part of training: facts (or a list of words) repeated in random order.

    Drills are not texts of the world and are never judged: they give dense practice in the lookups that stories need.

    Args:
        rng: Random generator.
        n_words: Smallest number of words.
    """
    slots = simple_slots()
    if rng.random() < 0.4:
        pool = np.array([w for kind in "NWSCO" for w in slots[kind]])
        cycle = rng.choice(pool, int(rng.integers(3, 8)), replace=False).tolist()
        return (cycle * n_words)[:n_words]
    count = int(rng.integers(2, 5))
    keys, frame, answers = (("N", "{} has {} .", "S"), ("N", "{} visits {} .", "W"), ("O", "the {} is {} .", "C"))[
        int(rng.integers(3))
    ]
    pairs = zip(
        rng.choice(np.array(slots[keys]), count, replace=False),
        rng.choice(np.array(slots[answers]), count, replace=False),
        strict=True,
    )
    facts = [frame.format(key, answer).split() for key, answer in pairs]
    words: list[str] = [w for fact in facts for w in fact]
    while len(words) < n_words:
        words += [w for i in rng.permutation(count) for w in facts[i]]
    return words
