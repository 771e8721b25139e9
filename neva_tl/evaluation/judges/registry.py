"""Registry of judges by name; a new judge is one file and one line here.

The factory of `NAME:REST` takes REST (no argument without one) and returns the judge, or raises an InputError that names the
missing input. A model judge that must be fitted to a model has its own constructor (`logprob`: `LogProbJudge.fit`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.names import did_you_mean, spelling
from neva_tl.core.theories import SCHWARTZ, ValueTheory
from neva_tl.evaluation.judges.base import Judge, TextJudge, reads_texts

#: name -> (module:attribute of the factory, description of REST; empty without one). Imported on first use.
JUDGES: dict[str, tuple[str, str]] = {
    "classifier": ("neva_tl.evaluation.judges.classifier:load", "PATH"),
    "exact": ("neva_tl.evaluation.judges.exact:ExactJudge", ""),
    "chat": ("neva_tl.evaluation.judges.chat:from_spec", "MODEL@BASE_URL"),
    "llm": ("neva_tl.evaluation.judges.llm:from_spec", "MODEL"),
    "hf": ("neva_tl.evaluation.judges.huggingface:load", "NAME_OR_FOLDER"),
    "wordlist": ("neva_tl.evaluation.judges.wordlist:WordListJudge", ""),
}


def known_judges() -> str:
    """List all accepted forms, for help texts and errors."""
    return ", ".join(f"{name}:{rest}" if rest else name for name, (_, rest) in JUDGES.items())


#: Judges that score the values of any theory.
_OF_THEORY = ("chat", "llm", "wordlist")


@check_arguments
def load_judge(spec: str, theory: ValueTheory | None = None) -> Judge:
    """Load the judge of a spec such as `wordlist` or `classifier:PATH`.

    Args:
        spec: `NAME` or `NAME:REST`; see `JUDGES`.
        theory: Theory of the values to score; None is Schwartz's.

    Raises:
        InputError: The judge scores Schwartz's values only, the name is unknown, REST is missing or unexpected, or the
            factory cannot use it.

    Example:
        >>> nv.evaluation.load_judge("wordlist").name
        'wordlist'
    """
    written, _, rest = spec.partition(":")
    name = spelling(written, JUDGES)
    if name is None:
        if spelling(written, ["logprob", "survey"]):
            raise InputError(
                f"the judge {written!r} is made from prompts, not from its name: nv.evaluation.LogProbJudge.fit(model, pairs) "
                "or nv.evaluation.SurveyJudge(...)"
            )
        raise InputError(f"unknown judge {spec!r}: {did_you_mean(written, JUDGES)}choose {known_judges()}")
    where, needed = JUDGES[name]
    if needed and not rest:
        raise InputError(f"the judge {name!r} needs {needed}: write {name}:{needed}")
    if rest and not needed:
        raise InputError(f"the judge {name!r} takes nothing after a colon (got {rest!r})")
    if theory is not None and theory != SCHWARTZ:
        return _of_theory(name, rest, theory)
    module, _, attribute = where.partition(":")
    factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return factory(rest) if needed else factory()  # type: ignore[no-any-return]


def _of_theory(name: str, rest: str, theory: ValueTheory) -> Judge:
    if name not in _OF_THEORY:
        raise InputError(
            f"the judge {name!r} scores Schwartz's ten values, not those of {theory.name}: choose logprob, "
            f"{', '.join(_OF_THEORY[:-1])} or {_OF_THEORY[-1]}"
        )
    if name == "chat":
        from neva_tl.evaluation.judges.chat import from_spec as chat_judge

        return chat_judge(rest, theory)
    if name == "llm":
        from neva_tl.evaluation.judges.llm import from_spec as llm_judge

        return llm_judge(rest, theory)
    from neva_tl.evaluation.judges.wordlist import WordListJudge

    return WordListJudge.of_theory(theory)


def as_judge(judge: Judge | str) -> Judge:
    """Return a judge, or the judge of a name.

    Args:
        judge: A judge, or a spec of `load_judge`.

    Raises:
        InputError: The name is unknown or lacks something.
    """
    return load_judge(judge) if isinstance(judge, str) else judge


def as_text_judge(judge: TextJudge | str) -> TextJudge:
    """Return a judge of texts, or the one of a name.

    Args:
        judge: A judge of texts, or a spec of `load_judge`.

    Raises:
        InputError: The name is unknown or lacks something, or the judge reads no texts.
    """
    text_judge = as_judge(judge)
    if not reads_texts(text_judge):
        raise InputError(f"the judge {text_judge.name!r} reads no texts: give one that does, such as 'wordlist'")
    return text_judge
