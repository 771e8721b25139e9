"""Moral foundations: six intuitions on which moral judgements rest.

The five foundations of Haidt and Graham (2007) and liberty, which Iyer et al. (2012) add. The theory has groups
(individualising, binding; liberty is a group of its own) but neither a circle nor opposed foundations. Definitions and word
lists are in our own words.
"""

from __future__ import annotations

from neva_tl.core.theories.theory import Value, ValueTheory

#: Name -> (group, colour, definition, words).
_ROWS: dict[str, tuple[str, str, str, str]] = {
    "care": (
        "individualising", "#17929b", "Kindness and protection for those who suffer; harm to others is wrong.",
        "care cares caring kind kindly kindness gentle gently comfort comforting soothe soothing heal healing nurse "
        "tender tenderness mercy merciful pity hurt suffer suffering cruel cruelty harm harmful wounded rescue rescued",
    ),
    "fairness": (
        "individualising", "#3472c9", "Equal treatment, honest exchange and reward in proportion; cheating is wrong.",
        "fair fairly fairness unfair equal equally equality justice unjust impartial bias biased deserve deserved share "
        "shared evenly proportionate cheat cheated fraud swindle rigged refund reciprocal balanced",
    ),
    "loyalty": (
        "binding", "#e07b26", "Faith kept with one's group, team, family or nation; betrayal is wrong.",
        "loyal loyally loyalty disloyal betray betrayal betrayed traitor allegiance ally allies solidarity unity united "
        "teammate pledge pledged homeland patriot patriotic clan treason abandon abandoned devoted devotion steadfast "
        "belong turncoat",
    ),
    "authority": (
        "binding", "#7b4fc9", "Respect for rank, office and rightful order; subversion is wrong.",
        "authority authorities obey obedience obedient superior superiors hierarchy rank subordinate mutiny rebel "
        "rebellious defy defiant deference dutiful duty chief elder permission decree rules lawful insubordinate "
        "seniority edict governor salute",
    ),
    "sanctity": (
        "binding", "#2f9e57", "Purity of body and mind and respect for what is holy; degradation is wrong.",
        "sanctity sacred sacrilege holy holiness pure purify purity chaste chastity blessed blessing shrine hallowed "
        "filth filthy disgust disgusting unclean cleanse tainted sinful saint saintly pious piety reverence wholesome "
        "altar",
    ),
    "liberty": (
        "liberty", "#d8428c", "Freedom from coercion and from those who dominate; oppression is wrong.",
        "liberty liberate liberation free freely freedom independent independence consent consenting coerce coercion "
        "oppress oppression oppressive tyrant tyranny dominate domineering voluntary voluntarily emancipate choose "
        "choosing dictator bullying censorship meddling overbearing",
    ),
}  # fmt: skip

MORAL_FOUNDATIONS = ValueTheory(
    "moral-foundations",
    tuple(
        Value(name=name, definition=definition, groups=(group,), colour=colour, words=tuple(words.split()))
        for name, (group, colour, definition, words) in _ROWS.items()
    ),
    "Moral foundations (Haidt and Graham 2007; liberty: Iyer et al. 2012), in our own words.",
)
