"""`schwartz`: our own contrastive texts in natural English, for real chat and base models.

Each topic is a situation with two things one might do in it: one by the value, one that withholds it or goes against
it. It is rendered as a pair in four forms, so that selection can ask whether an effect survives a change of person
and of genre:

- `statement_1st`: "When my aunt falls ill, I would ..."
- `statement_3rd`: "When her aunt falls ill, Priya would ..." (the pronoun comes before the name: English allows it)
- `question_1st`: "What would you do when your aunt falls ill? I would ..."
- `question_3rd`: "What would Priya do when her aunt falls ill? She would ..."

The answer span of a question form is its answer; a statement counts whole. The cluster is value/topic.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES, value
from neva_tl.prompts import people, splits
from neva_tl.prompts.people import Person

FORMS = ("statement_1st", "statement_3rd", "question_1st", "question_3rd")
#: Open prompts are never selected on: most go to the test. Train is there for fitting gates, validation for doses.
_OPEN_SHARES = (0.2, 0.3)
_MODALS = {"can", "could", "may", "might", "must", "shall", "should", "will", "would", "had", "was", "did"}
#: A subject with its verb, and an adverb that may stand between them.
_SUBJECT = re.compile(r"\{I\} (?:(?:always|never|still|often|just|also|already|[a-z]+ly) )?(?P<verb>[a-z]+)")
_IRREGULAR = {"have": "has", "am": "is", "are": "is", "do": "does", "go": "goes"}


@cache
def _data(name: str) -> dict[str, Any]:
    """One data file of the package, parsed."""
    file = resources.files("neva_tl.prompts") / "data" / "schwartz" / f"{name}.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def topics(name: str) -> list[dict[str, str]]:
    """The topics of a value as written: `topic`, `ask` (situation), `plus`, `minus` (verb phrases), with

    placeholders."""
    return list(_data(value(name).name)["topics"])


def word_list(name: str) -> tuple[str, ...]:
    """The words of a value as written, lower case."""
    return tuple(_data(value(name).name)["words"])


def _conjugate(verb: str, person: Person) -> str:
    """The form of a verb (written for "I") after the person's pronoun; modals and past forms stay."""
    if person is people.SECOND and verb == "am":
        return "are"
    if not person.third or verb in _MODALS or re.search(r"[^e]ed$", verb):
        return verb
    return _IRREGULAR.get(verb) or verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s")


def fill(template: str, person: Person) -> str:
    """Put a person into a template's placeholders; verbs right after `{I}` agree.

    Raises:
        InputError: a placeholder that is not one of {I} {me} {my} {mine} {myself}.
    """
    for found in reversed(list(_SUBJECT.finditer(template))):
        template = template[: found.start("verb")] + _conjugate(found["verb"], person) + template[found.end("verb") :]
    for name, word in person.words.items():
        template = template.replace(f"{{{name}}}", word)
    if left := re.search(r"\{\w*\}", template):
        raise InputError(f"unknown placeholder {left[0]} in {template!r}: use {{I}} {{me}} {{my}} {{mine}} {{myself}}")
    return template


def sentence(text: str, end: str = ".") -> str:
    """The text with a capital first letter and one end mark."""
    text = text.strip().rstrip(".?!")
    return text[:1].upper() + text[1:] + end


def render(topic: dict[str, str], pole: str, form: str, person: Person) -> tuple[str, str]:
    """One text of a topic as (question, answer); statements have an empty question.

    Args:
        topic: `ask`, `plus`, `minus` templates.
        pole: `+` or `-`.
        form: one of `FORMS`.
        person: who is spoken of in the third-person forms.
    """
    kind, _, who = form.partition("_")
    deed = topic["plus" if pole == "+" else "minus"]
    if kind == "statement":
        actor = people.FIRST if who == "1st" else person
        return "", sentence(f"when {fill(topic['ask'], actor)}, {actor.subject} would {fill(deed, actor)}")
    asked, answering = (people.SECOND, people.FIRST) if who == "1st" else (person, person)
    question = sentence(f"what would {asked.subject} do when {fill(topic['ask'], asked)}", "?")
    return question, sentence(f"{answering.words['I']} would {fill(deed, answering)}")


def contrast_rows() -> list[dict[str, Any]]:
    """Every topic of every value in all forms and both poles, as rows for `ContrastSet`."""
    rows = []
    for name in VALUES:
        for topic in topics(name):
            cluster = f"{name}/{topic['topic']}"
            person = people.third(cluster)
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
    """Open questions that set a value against another: `value`, `against`, `first`, `text`, `topic`, `split`.

    `first` says which of the two options the question names first ("value" or "against"); splits are by hash rank of
    the topic within the value, 50/20/30.
    """
    parts = []
    for name in VALUES:
        part = pd.DataFrame(_data(name)["questions"]).assign(value=name)
        part["split"] = part["topic"].map(splits.by_rank(part["topic"].tolist()))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)[["value", "against", "first", "text", "topic", "split"]]


def open_prompts() -> pd.DataFrame:
    """The fixed set of prompts that name no value: `text`, `topic`, `split` (20/30/50 by hash rank of the topic,

    ours)."""
    table = pd.DataFrame(_data("open_prompts")["prompts"])
    ranked = sorted(set(table["topic"]), key=splits.hash_key)
    train = round(_OPEN_SHARES[0] * len(ranked))
    validation = round(_OPEN_SHARES[1] * len(ranked))
    names = ["train"] * train + ["validation"] * validation + ["test"] * (len(ranked) - train - validation)
    table["split"] = table["topic"].map(dict(zip(ranked, names, strict=True)))
    return table[["text", "topic", "split"]]
