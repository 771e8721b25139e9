"""The set `schwartz`: our own contrastive texts in natural English, for chat and base models.

Each topic is a situation with two possible acts: one expresses the value, one withholds or opposes it. Each topic gives a
pair in four forms, so that selection can test whether an effect survives a change of person and of genre:

- `statement_1st`: "When my aunt falls ill, I would ..."
- `statement_3rd`: "When her aunt falls ill, Priya would ..." (the pronoun comes before the name: English allows it)
- `question_1st`: "What would you do when your aunt falls ill? I would ..."
- `question_3rd`: "What would Priya do when her aunt falls ill? She would ..."

The answer span of a question form is its answer; the full text of a statement counts. The cluster is value/topic.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ, value
from neva_tl.prompts import people, splits
from neva_tl.prompts.people import Person

FORMS = ("statement_1st", "statement_3rd", "question_1st", "question_3rd")
_MODALS = {"can", "could", "may", "might", "must", "shall", "should", "will", "would", "had", "was", "did"}
#: A subject with its verb, and an optional adverb between them.
_SUBJECT = re.compile(r"\{I\} (?:(?:always|never|still|often|just|also|already|[a-z]+ly) )?(?P<verb>[a-z]+)")
_IRREGULAR = {"have": "has", "am": "is", "are": "is", "do": "does", "go": "goes"}


@cache
def _data(name: str) -> dict[str, Any]:
    """Read a data file of the package."""
    file = resources.files("neva_tl.prompts") / "data" / "schwartz" / f"{name}.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def topics(name: str) -> list[dict[str, str]]:
    """Return the topics of a value, with placeholders: `topic`, `ask` (situation), `plus`, `minus` (verb phrases).

    Args:
        name: Name of a value.
    """
    return list(_data(value(name).name)["topics"])


def word_list(name: str) -> tuple[str, ...]:
    """Return the word list of a value, in lower case.

    Args:
        name: Name of a value.
    """
    return tuple(_data(value(name).name)["words"])


def _conjugate(verb: str, person: Person) -> str:
    """Inflect a verb (in the form after "I") for a person; modals and past forms stay."""
    if person is people.SECOND and verb == "am":
        return "are"
    if not person.third or verb in _MODALS or re.search(r"[^e]ed$", verb):
        return verb
    return _IRREGULAR.get(verb) or verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s")


def fill(template: str, person: Person) -> str:
    """Fill a template's placeholders with a person; verbs right after `{I}` agree.

    Args:
        template: Text with placeholders.
        person: Person to fill in.

    Raises:
        InputError: A placeholder other than {I} {me} {my} {mine} {myself}.
    """
    for match in reversed(list(_SUBJECT.finditer(template))):
        template = template[: match.start("verb")] + _conjugate(match["verb"], person) + template[match.end("verb") :]
    for name, word in person.words.items():
        template = template.replace(f"{{{name}}}", word)
    if placeholder := re.search(r"\{\w*\}", template):
        raise InputError(
            f"unknown placeholder {placeholder[0]} in {template!r}: use {{I}} {{me}} {{my}} {{mine}} {{myself}}"
        )
    return template


def sentence(text: str, end: str = ".") -> str:
    """Return the text with a capital first letter and one end mark.

    Args:
        text: Text with or without an end mark.
        end: End mark.
    """
    text = text.strip().rstrip(".?!")
    return text[:1].upper() + text[1:] + end


def render(topic: dict[str, str], pole: str, form: str, person: Person) -> tuple[str, str]:
    """Render one text of a topic as (question, answer); statements have an empty question.

    Args:
        topic: Templates `ask`, `plus`, `minus`.
        pole: `+` or `-`.
        form: One of `FORMS`.
        person: Subject of the third-person forms.
    """
    kind, _, grammatical_person = form.partition("_")
    act = topic["plus" if pole == "+" else "minus"]
    if kind == "statement":
        actor = people.FIRST if grammatical_person == "1st" else person
        return "", sentence(f"when {fill(topic['ask'], actor)}, {actor.subject} would {fill(act, actor)}")
    addressee, speaker = (people.SECOND, people.FIRST) if grammatical_person == "1st" else (person, person)
    question = sentence(f"what would {addressee.subject} do when {fill(topic['ask'], addressee)}", "?")
    return question, sentence(f"{speaker.words['I']} would {fill(act, speaker)}")


def contrast_rows() -> list[dict[str, Any]]:
    """Render every topic of every value in all forms and both poles, as rows for `ContrastSet`."""
    rows = []
    for name in SCHWARTZ.names:
        for topic in topics(name):
            cluster = f"{name}/{topic['topic']}"
            person = people.third_person(cluster)
            for form in FORMS:
                for pole in ("+", "-"):
                    question, answer = render(topic, pole, form, person)
                    text = f"{question} {answer}".strip()
                    rows.append(
                        {
                            "value": name,
                            "pair_id": f"{cluster}/{form}",
                            "pole": pole,
                            "text": text,
                            "answer_start": len(text) - len(answer) if question else None,
                            "answer_end": len(text) if question else None,
                            "cluster": cluster,
                            "source": "schwartz",
                            "form": form,
                        }
                    )
    return rows


def load_questions() -> pd.DataFrame:
    """Return open questions between two values: `value`, `against`, `first`, `text`, `topic`, `split`.

    `first` is the option that the question names first ("value" or "against"); splits are by hash rank of
    the topic within the value, 50/20/30.
    """
    tables = []
    for name in SCHWARTZ.names:
        table = pd.DataFrame(_data(name)["questions"]).assign(value=name)
        table["split"] = table["topic"].map(splits.by_rank(table["topic"].tolist()))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[["value", "against", "first", "text", "topic", "split"]]


def open_prompts() -> pd.DataFrame:
    """Return the fixed set of prompts that name no value: `text`, `topic`, `split`.

    Splits are by hash rank of the topic, 20/30/50 (ours).
    """
    table = pd.DataFrame(_data("open_prompts")["prompts"])
    table["split"] = table["topic"].map(splits.of_open_prompts(table["topic"].tolist()))
    return table[["text", "topic", "split"]]
