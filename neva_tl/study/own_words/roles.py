"""System prompts for and against a value, from its name, its definition and its opposite.

The idea of contrastive system prompts is that of persona vectors (arXiv 2507.21509), where a language model writes them from a
trait's description. The sentences here are ours: fixed, so that a result does not depend on a second model.
"""

from __future__ import annotations

from dataclasses import dataclass

from neva_tl.core.theories import Value

#: System prompt that names no value, with which the answers are read.
NEUTRAL = "You are a helpful assistant."
#: Phrasings for the value. Number i of `_AGAINST` says the contrary in the same form.
_FOR = (
    "You are someone for whom {name} comes before everything else.{meaning} Answer as this person, in one or two sentences.",
    "Answer as a person who lives by {name} and gives up a great deal for it.{meaning} Say in one or two sentences what you "
    "would do.",
    "{Name} guides everything that you do, say and advise.{meaning} Answer briefly, in that spirit.",
    "Speak for a person whose first thought is always of {name}.{meaning} Keep to one or two sentences.",
    "You judge every matter by {name} before anything else.{meaning} Give your own view in one or two sentences.",
)
_AGAINST = (
    "You are someone for whom {name} does not count at all.{meaning}{instead} Answer as this person, in one or two sentences.",
    "Answer as a person who gives up nothing for {name}.{meaning}{instead} Say in one or two sentences what you would do.",
    "{Name} plays no part in anything that you do, say or advise.{meaning}{instead} Answer briefly, in that spirit.",
    "Speak for a person who never gives {name} a thought.{meaning}{instead} Keep to one or two sentences.",
    "You judge every matter without regard to {name}, or against it.{meaning}{instead} Give your own view in one or two "
    "sentences.",
)


@dataclass(frozen=True)
class Roles:
    """System prompts of both poles, the same number of each.

    Attributes:
        plus: For the value.
        minus: Against it, or without it.
    """

    plus: tuple[str, ...]
    minus: tuple[str, ...]

    def of(self, pole: str, number: int) -> str:
        """Return one of a pole's prompts; both poles have the same phrasing under one number.

        Args:
            pole: `+` or `-`.
            number: Number of the phrasing; counts on from the first after the last.
        """
        prompts = self.plus if pole == "+" else self.minus
        return prompts[number % len(prompts)]


def roles_of(value: Value, opposite: str = "") -> Roles:
    """Return the system prompts of a value.

    Args:
        value: The value; its definition is part of every prompt.
        opposite: Name or meaning of the concern that replaces the value; "" leaves that open.
    """
    name = value.name.replace("-", " ")
    title = name[:1].upper() + name[1:]
    definition, other = value.definition.strip().rstrip("."), opposite.strip().rstrip(".")
    fields = {
        "name": name,
        "Name": title,
        "meaning": f" ({title}: {definition[:1].lower()}{definition[1:]}.)" if definition else "",
        "instead": f" What comes first for you is this: {other}." if other else "",
    }
    return Roles(*(tuple(text.format_map(fields) for text in group) for group in (_FOR, _AGAINST)))
