"""System prompts for a value and without it, from its name, its definition and its opposite.

The idea of contrastive system prompts is that of persona vectors (arXiv 2507.21509), where a language model writes them from a
trait's description. The sentences here are ours: fixed, so that a result does not depend on a second model.
"""

from __future__ import annotations

from dataclasses import dataclass

from neva_tl.core.theories import Value

#: System prompt that names no value, with which the answers are read.
NEUTRAL = "You are a helpful assistant."
#: Phrasings for the value. Number i of `_OPPOSED` and of `_PLAIN` asks for an answer of the same form.
_FOR = (
    "You are someone for whom {name} comes before everything else.{meaning} Answer as this person, in one or two sentences.",
    "Answer as a person who lives by {name} and gives up a great deal for it.{meaning} Say in one or two sentences what you "
    "would do.",
    "{Name} guides everything that you do, say and advise.{meaning} Answer briefly, in that spirit.",
    "Speak for a person whose first thought is always of {name}.{meaning} Keep to one or two sentences.",
    "You judge every matter by {name} before anything else.{meaning} Give your own view in one or two sentences.",
)
#: Phrasings for the concern that replaces the value. No phrasing against a value names it: small models speak of whatever
#: their role names, also where the role denies it (see docs/results/text.md).
_OPPOSED = (
    "You are someone for whom this comes before everything else: {other}. Answer as this person, in one or two sentences.",
    "Answer as a person who lives by this and gives up a great deal for it: {other}. Say in one or two sentences what you "
    "would do.",
    "This guides everything that you do, say and advise: {other}. Answer briefly, in that spirit.",
    "Speak for a person whose first thought is always of this: {other}. Keep to one or two sentences.",
    "You judge every matter by this before anything else: {other}. Give your own view in one or two sentences.",
)
#: Phrasings without a concern, where nothing is known to replace the value.
_PLAIN = (
    "Answer in one or two sentences.",
    "Say in one or two sentences what you would do.",
    "Answer briefly.",
    "Keep to one or two sentences.",
    "Give your own view in one or two sentences.",
)


@dataclass(frozen=True)
class Roles:
    """System prompts of both poles, the same number of each.

    Attributes:
        plus: For the value.
        minus: For the concern that replaces it, or for none.
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
        opposite: Name or meaning of the concern that replaces the value; "" takes roles without a concern.
    """
    name = value.name.replace("-", " ")
    title = name[:1].upper() + name[1:]
    definition, other = value.definition.strip().rstrip("."), opposite.strip().rstrip(".")
    meaning = f" ({title}: {definition[:1].lower()}{definition[1:]}.)" if definition else ""
    plus = tuple(text.format(name=name, Name=title, meaning=meaning) for text in _FOR)
    return Roles(plus, tuple(text.format(other=other) for text in _OPPOSED) if other else _PLAIN)
