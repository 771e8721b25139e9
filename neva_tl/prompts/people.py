"""People for the third-person forms: given names from many places, with the pronoun each is used with here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Person:
    """How one person is spoken of: the forms that fill a text's placeholders.

    Attributes:
        subject: a name for the first mention as subject, or "I", "you".
        words: placeholder -> word, for `I`, `me`, `my`, `mine`, `myself`.
        third: whether present-tense verbs after `{I}` take the third person's ending.
    """

    subject: str
    words: dict[str, str]
    third: bool = False


def _load() -> dict[str, list[str]]:
    """Pronoun -> names, from the package's data."""
    file = resources.files("neva_tl.prompts") / "data" / "people.json"
    names: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return names


def _forms(*words: str) -> dict[str, str]:
    return dict(zip(("I", "me", "my", "mine", "myself"), words, strict=True))


FIRST = Person("I", _forms("I", "me", "my", "mine", "myself"))
SECOND = Person("you", _forms("you", "you", "your", "yours", "yourself"))
NAMES: tuple[tuple[str, str], ...] = tuple((name, pronoun) for pronoun, names in _load().items() for name in names)
_PRONOUNS = {"she": _forms("she", "her", "her", "hers", "herself"), "he": _forms("he", "him", "his", "his", "himself")}


def third(key: str) -> Person:
    """The person that a key (value/topic) always gets: by hash, so that both poles and all forms share it."""
    name, pronoun = NAMES[int(hashlib.sha256(f"person {key}".encode()).hexdigest(), 16) % len(NAMES)]
    return Person(name, _PRONOUNS[pronoun], third=True)
