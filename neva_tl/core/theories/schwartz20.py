"""The 20 value categories of ValueEval: Schwartz's refined theory (2012) with one addition of the corpus authors.

Order and groups follow the refined circle; positions at equal steps of 18 degrees are the usual approximation. Objectivity is
the addition (Kiesel et al. 2022), placed after tolerance, next to self-direction. Face and humility lie on borders of groups,
as hedonism does. Definitions and word lists are in our own words.
"""

from __future__ import annotations

from neva_tl.core.theories.theory import Value, ValueTheory

_OPENNESS, _ENHANCEMENT, _CONSERVATION, _TRANSCENDENCE = (
    "openness", "self-enhancement", "conservation", "self-transcendence",
)  # fmt: skip

#: Name -> (category of ValueEval, groups, colour, definition, words), in circle order.
_ROWS: dict[str, tuple[str, tuple[str, ...], str, str, str]] = {
    "self-direction-thought": (
        "Self-direction: thought", (_OPENNESS,), "#6a3fc4", "Freedom to form one's own ideas and abilities.",
        "idea ideas creative creativity curious curiosity imagination invent original opinion explore learn wonder",
    ),
    "self-direction-action": (
        "Self-direction: action", (_OPENNESS,), "#8a5bd0", "Freedom to decide for oneself what to do.",
        "choose choice decide independent independence autonomy freedom self-reliant plan free own goals alone",
    ),
    "stimulation": (
        "Stimulation", (_OPENNESS,), "#b146b8", "Excitement, novelty and change.",
        "adventure excitement thrill daring novelty surprise risk challenge new variety exotic leap",
    ),
    "hedonism": (
        "Hedonism", (_OPENNESS, _ENHANCEMENT), "#d8428c", "Pleasure and enjoyment of the senses.",
        "pleasure fun enjoy delight indulge relax treat party delicious comfort leisure savour",
    ),
    "achievement": (
        "Achievement", (_ENHANCEMENT,), "#e2504a", "Success by the standards that others recognise.",
        "success achieve ambition ambitious win award capable skill excel accomplish career goal top",
    ),
    "power-dominance": (
        "Power: dominance", (_ENHANCEMENT,), "#dd6a30", "Control over what other people do.",
        "dominate command control boss influence rule authority obey leader orders force dictate",
    ),
    "power-resources": (
        "Power: resources", (_ENHANCEMENT,), "#e58a26", "Control over wealth and material goods.",
        "wealth rich money property fortune assets luxury profit own expensive gold invest",
    ),
    "face": (
        "Face", (_ENHANCEMENT, _CONSERVATION), "#cf9a1c", "A respected public image without humiliation.",
        "reputation image prestige dignity respectable honour shame embarrass humiliate impression status esteem",
    ),
    "security-personal": (
        "Security: personal", (_CONSERVATION,), "#b99a10", "Safety and health of oneself and those close.",
        "safe safety healthy health protect insurance lock clean stable danger doctor savings",
    ),
    "security-societal": (
        "Security: societal", (_CONSERVATION,), "#9aa012", "Safety and stability of society at large.",
        "police defence army border crime state stability nation threat terrorism order government",
    ),
    "tradition": (
        "Tradition", (_CONSERVATION,), "#7da21c", "Customs of family, culture and religion kept alive.",
        "custom customs ancestors ritual heritage ceremony faith religion inherited festival elders ancient",
    ),
    "conformity-rules": (
        "Conformity: rules", (_CONSERVATION,), "#57a038", "Compliance with rules, laws and obligations.",
        "rules law obey comply legal regulations duty permitted forbidden obligation discipline procedure",
    ),
    "conformity-interpersonal": (
        "Conformity: interpersonal", (_CONSERVATION,), "#2f9e57", "No offence or upset caused to other people.",
        "polite courteous considerate tactful manners apologise offend upset annoy agreeable quiet thank",
    ),
    "humility": (
        "Humility", (_CONSERVATION, _TRANSCENDENCE), "#249a78", "Modest acceptance of one's small part in things.",
        "humble modest modesty grateful content ordinary unassuming lowly simple boast acceptance small",
    ),
    "benevolence-dependability": (
        "Benevolence: dependability", (_TRANSCENDENCE,), "#17929b", "Reliability and loyalty towards one's own people.",
        "reliable loyal loyalty dependable trust promise faithful keep responsible count steadfast trustworthy",
    ),
    "benevolence-caring": (
        "Benevolence: caring", (_TRANSCENDENCE,), "#1f87ad", "Devotion to the welfare of those who are close.",
        "care caring help kind kindness forgive love friend family support generous comfort",
    ),
    "universalism-concern": (
        "Universalism: concern", (_TRANSCENDENCE,), "#2a7cbb", "Equality, justice and protection for all people.",
        "equality justice rights poverty fair equal humanity peace poor welfare everyone inequality",
    ),
    "universalism-nature": (
        "Universalism: nature", (_TRANSCENDENCE,), "#3472c9", "Preservation of nature and the environment.",
        "nature forest climate environment animals ecology river species pollution wildlife planet green",
    ),
    "universalism-tolerance": (
        "Universalism: tolerance", (_TRANSCENDENCE,), "#4466cf", "Acceptance of people who differ from oneself.",
        "tolerance accept diverse different understand listen dialogue culture foreign respect open minority",
    ),
    "universalism-objectivity": (
        "Universalism: objectivity", (_TRANSCENDENCE, _OPENNESS), "#5657cf", "Search for truth by reason and evidence.",
        "truth evidence logic rational fact facts science neutral unbiased reason objective proof",
    ),
}  # fmt: skip

_NAMES = tuple(_ROWS)
_STEP = 360.0 / len(_NAMES)

SCHWARTZ20 = ValueTheory(
    "schwartz20",
    tuple(
        Value(
            name=name,
            definition=definition,
            angle=index * _STEP,
            groups=groups,
            opposites=(_NAMES[(index + len(_NAMES) // 2) % len(_NAMES)],),
            colour=colour,
            words=tuple(words.split()),
        )
        for index, (name, (_, groups, colour, definition, words)) in enumerate(_ROWS.items())
    ),
    "The 20 value categories of ValueEval, after Schwartz et al. (2012) and Kiesel et al. (2022).",
)
#: Category of ValueEval -> value.
NAME_OF_CATEGORY: dict[str, str] = {category: name for name, (category, *_) in _ROWS.items()}
