"""People for the third-person forms: given names from many countries, each with one pronoun."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Person:
    """Grammatical forms of one person, which fill a text's placeholders.

    Attributes:
        subject: Name for the first mention as subject, or "I", "you".
        words: Placeholder -> word, for `I`, `me`, `my`, `mine`, `myself`.
        third: Whether present-tense verbs after `{I}` take the ending of the third person.
    """

    subject: str
    words: dict[str, str]
    third: bool = False


def _load() -> dict[str, list[str]]:
    """Read pronoun -> names from the package's data."""
    file = resources.files("neva_tl.prompts") / "data" / "people.json"
    names: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return names


def _forms(*words: str) -> dict[str, str]:
    return dict(zip(("I", "me", "my", "mine", "myself"), words, strict=True))


FIRST = Person("I", _forms("I", "me", "my", "mine", "myself"))
SECOND = Person("you", _forms("you", "you", "your", "yours", "yourself"))
NAMES: tuple[tuple[str, str], ...] = tuple((name, pronoun) for pronoun, names in _load().items() for name in names)
_PRONOUNS = {"she": _forms("she", "her", "her", "hers", "herself"), "he": _forms("he", "him", "his", "his", "himself")}


def third_person(key: str) -> Person:
    """Return the person of a key by hash, so that both poles and all forms of a topic share the person.

    Args:
        key: `value/topic`.
    """
    name, pronoun = NAMES[int(hashlib.sha256(f"person {key}".encode()).hexdigest(), 16) % len(NAMES)]
    return Person(name, _PRONOUNS[pronoun], third=True)
