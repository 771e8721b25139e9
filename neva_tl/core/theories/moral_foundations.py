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
        "care caring kind kindness gentle protect shelter comfort heal nurse soothe rescue feed compassion sympathy tender "
        "mercy suffering hurt wound harm cruelty victim relief",
    ),
    "fairness": (
        "individualising", "#3472c9", "Equal treatment, honest exchange and reward in proportion; cheating is wrong.",
        "fair fairness equal equality justice just impartial balance share deserve honest proportion rights referee unbiased "
        "merit cheat fraud bias swindle discrimination refund turns evenly",
    ),
    "loyalty": (
        "binding", "#e07b26", "Faith kept with one's group, team, family or nation; betrayal is wrong.",
        "loyal loyalty team comrade ally together united homeland nation flag pledge devoted solidarity allegiance patriot "
        "clan side member betray traitor desert treason abandon faithful",
    ),
    "authority": (
        "binding", "#7b4fc9", "Respect for rank, office and rightful order; subversion is wrong.",
        "authority obey obedience respect rank command leader order law duty elder superior hierarchy honour chief officer "
        "permission discipline rebel defy disobey mutiny subversion insubordination",
    ),
    "sanctity": (
        "binding", "#2f9e57", "Purity of body and mind and respect for what is holy; degradation is wrong.",
        "sacred holy pure purity clean chaste blessed prayer temple modest wholesome temperance sanctity saint reverence "
        "innocent filth disgust profane sin pollute indecent taint degrade",
    ),
    "liberty": (
        "liberty", "#d8428c", "Freedom from coercion and from those who dominate; oppression is wrong.",
        "liberty free freedom choice independent autonomy consent voluntary release escape unbound self-rule emancipate "
        "resist tyrant bully oppress oppression coercion force chains censor domination slavery",
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
