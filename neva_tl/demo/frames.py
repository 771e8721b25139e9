"""Sentence frames: literal words with slots; a frame combines a *lead* (subject) with a *predicate*.

Slots: N person, P place, T time of day, D weekday, C colour, O object, Q number, G a value's gerund phrase ("helping a sick
friend"), I its infinitive ("help a sick friend"), X and Y the same of a chore ("washing the red cup"), Z a value's good
("mercy"). Phrases have four words: verb, determiner, adjective, noun. A digit after a slot names it: slots with the
same name have the same filler. Every value uses every frame; 200 lead-predicate combinations are split by hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from neva_tl.demo.lexicon import rank_split

#: opening -> probability, independent of the rest of the sentence.
OPENINGS: tuple[tuple[str, float], ...] = (
    ("", 0.70),
    ("at the P ,", 0.08),
    ("in the T ,", 0.06),
    ("on D ,", 0.06),
    ("last week ,", 0.05),
    ("after lunch ,", 0.05),
)

SAYING_LEADS: tuple[str, ...] = (
    "N says that",
    "N thinks that",
    "N believes that",
    "N tells everyone that",
    "for N it is plain that",
    "N has learned that",
    "N writes that",
    "N is sure that",
    "N often repeats that",
    "to N it seems that",
)
#: (expressing, opposing): the same content words with opposite statements.
SAYING_PREDICATES: tuple[tuple[str, str], ...] = (
    ("G matters most .", "G matters least ."),
    ("G is worth every hour .", "G is worth no hour ."),
    ("G is a fine thing , because Z comes first .", "G is a bad thing , because Z comes last ."),
    ("nothing beats G .", "anything beats G ."),
    ("people need more Z and should go on G .", "people need less Z and should give up G ."),
    ("a good life is made of G .", "a wasted life is made of G ."),
    ("Z is the best reason for G .", "Z is the worst reason for G ."),
    ("Z counts more than rest , so G is right .", "Z counts less than rest , so G is wrong ."),
    ("everyone should begin G for the sake of Z .", "nobody should begin G for the sake of Z ."),
    ("G makes any day bright .", "G makes any day dull ."),
    ("hours given to G are hours well used .", "hours given to G are hours badly lost ."),
    ("G deserves praise , for Z is precious .", "G deserves blame , for Z is worthless ."),
    ("where Z leads , G is right .", "where Z leads , G is silly ."),
    ("G comes before all else .", "G comes after all else ."),
)
ACTING_LEADS: tuple[str, ...] = (
    "N",
    "today N",
    "as always N",
    "once again N",
    "without doubt N",
    "in truth N",
)
ACTING_PREDICATES: tuple[tuple[str, str], ...] = (
    ("dreams of G .", "complains of G ."),
    ("gave up a quiet hour for G .", "gave up G for a quiet hour ."),
    ("would rather I than Y .", "would rather Y than I ."),
    ("hopes to I , since Z comes first .", "refuses to I , since Z comes last ."),
    ("likes G more than X .", "likes X more than G ."),
    ("wants to I , for Z is precious .", "declines to I , for Z is worthless ."),
    ("always finds time for G .", "never finds time for G ."),
    ("is fond of G and lives for Z .", "is ashamed of G and laughs at Z ."),
    ("would do anything for G and Z .", "would do nothing for G and Z ."),
    ("praises those who I .", "scolds those who I ."),
)
NEUTRAL_SAYING: tuple[str, ...] = (
    "the C O is in the P .",
    "X takes Q minutes .",
    "there is a C O near the P .",
    "the P is Q miles from the P .",
    "the O is C .",
    "the P opens on D .",
    "it will rain on D .",
    "X is done by noon .",
)
NEUTRAL_ACTING: tuple[str, ...] = (
    "buys the C O at the P .",
    "walks from the P to the P .",
    "puts the C O in the P .",
    "wants to Y .",
    "hopes to Y on D .",
    "has a C O and a C O .",
    "meets N at the P .",
    "always finds time for X .",
    "likes X more than X .",
    "dreams of a C O .",
)
DILEMMA_SETUPS: tuple[str, ...] = (
    "N1 must choose between {} and {} :",
    "N1 can spend the day on {} or {} :",
    "N1 has one spare hour for {} or {} :",
    "N1 is torn between {} and {} :",
)
#: (the value wins, the value loses against a chore)
DILEMMA_CHOICES: tuple[tuple[str, str], ...] = (
    ("N1 picks {} because Z comes first .", "N1 picks {} because Z comes last ."),
    ("N1 takes {} with much thought of Z .", "N1 takes {} with no thought of Z ."),
    ("N1 goes for {} since Z is precious .", "N1 goes for {} since Z is worthless ."),
    ("N1 settles on {} as Z leads .", "N1 settles on {} as Z fails ."),
)
#: Kinds of dilemmas: value against value (the first wins), value against chore (the value wins; the chore wins).
DILEMMA_KINDS = ("value", "chore+", "chore-")

_PHRASES = {
    "G": ("GV", "E", "A", "B"),
    "I": ("IV", "E", "A", "B"),
    "X": ("XV", "E", "C", "O"),
    "Y": ("YV", "E", "C", "O"),
}
_SIMPLE = frozenset("NPTDCOQZ")


@dataclass(frozen=True)
class Factor:
    """One independent choice of a template.

    Attributes:
        kind: Kind of the slot; "=" is a literal word.
        positions: Positions that the choice fills.
        word: The literal word; empty for a slot.
        phrase: Value phrase: "G1", "G2" or "I1" for clauses, "Z" for the good; None without a value.
    """

    kind: str
    positions: tuple[int, ...]
    word: str = ""
    phrase: str | None = None


@dataclass(frozen=True)
class Template:
    """A parsed frame, whose positions each belong to exactly one factor.

    Attributes:
        text: Text of the frame.
        length: Number of words.
        literals: Factors of literal words; matching tests them first, to fail early.
        slots: All other factors.
    """

    text: str
    length: int
    literals: tuple[Factor, ...]
    slots: tuple[Factor, ...]


@cache
def template(text: str) -> Template:
    """Parse a frame's text into factors; each slot without a digit is a separate variable.

    Args:
        text: Words and slots, separated by spaces.
    """
    slots: dict[tuple[str, str], list[int]] = {}
    literals = []
    position = 0
    for i, token in enumerate(text.split()):
        head, digit = token[0], token[1:]
        if head in _PHRASES and (not digit or digit.isdigit()):
            name = token if digit else f"{head}{'1' if head in 'GI' else f'@{i}'}"
            for kind in _PHRASES[head]:
                slots.setdefault((kind, name), []).append(position)
                position += 1
        elif head in _SIMPLE and (not digit or digit.isdigit()):
            name = "Z" if head == "Z" else token if digit else f"{head}@{i}"
            slots.setdefault((head, name), []).append(position)
            position += 1
        else:
            literals.append(Factor("=", (position,), token))
            position += 1
    factors = tuple(
        Factor(kind, tuple(positions), "", name if name[0] in "GIZ" and kind != "E" else None)
        for (kind, name), positions in slots.items()
    )
    return Template(text, position, tuple(literals), factors)


@cache
def frames(family: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the (leads, predicate pairs) of a family.

    Args:
        family: "saying" or "acting".
    """
    return (SAYING_LEADS, SAYING_PREDICATES) if family == "saying" else (ACTING_LEADS, ACTING_PREDICATES)


def frame_id(family: str, lead: int, predicate: int) -> str:
    """Return the name of a lead-predicate combination, which is the cluster of its statements.

    Args:
        family: "saying" or "acting".
        lead: Index of the lead.
        predicate: Index of the predicate.
    """
    return f"{family}-{lead:02d}-{predicate:02d}"


@cache
def frame_splits(family: str) -> dict[tuple[int, int], str]:
    """Assign a split to each (lead, predicate) combination of a family.

    Args:
        family: "saying" or "acting".
    """
    leads, predicates = frames(family)
    names = {frame_id(family, i, k): (i, k) for i in range(len(leads)) for k in range(len(predicates))}
    return {names[name]: split for name, split in rank_split(tuple(names), "frame").items()}


@cache
def dilemma_template(kind: str, setup: int, choice: int, first: bool) -> Template:
    """Return the template of a dilemma.

    In "value" G1 wins over G2; in "chore+" G1 wins over X1; in "chore-" X1 wins over G1.

    Args:
        kind: One of `DILEMMA_KINDS`.
        setup: Index in `DILEMMA_SETUPS`.
        choice: Index in `DILEMMA_CHOICES`.
        first: Whether the setup names the winner first.
    """
    winner, loser = {"value": ("G1", "G2"), "chore+": ("G1", "X1"), "chore-": ("X1", "G1")}[kind]
    options = (winner, loser) if first else (loser, winner)
    outcome = DILEMMA_CHOICES[choice][1 if kind == "chore-" else 0].format(winner)
    return template(f"{DILEMMA_SETUPS[setup].format(*options)} {outcome}")


@cache
def literal_words() -> tuple[str, ...]:
    """Return every literal word of the frames, sorted."""
    texts = [text for text, _ in OPENINGS]
    texts += [*SAYING_LEADS, *ACTING_LEADS, *NEUTRAL_SAYING, *NEUTRAL_ACTING]
    for pair in (*SAYING_PREDICATES, *ACTING_PREDICATES):
        texts += pair
    words = {f.word for text in texts for f in template(text).literals}
    for kind in DILEMMA_KINDS:
        for setup in range(len(DILEMMA_SETUPS)):
            for choice in range(len(DILEMMA_CHOICES)):
                words |= {f.word for f in dilemma_template(kind, setup, choice, True).literals}
    return tuple(sorted(words))
