"""VISA-like rewriting (arXiv 2603.04822): the model answers, then rewrites its own answer towards the value.

The paper's parts are a detector, a translator and a rewriter. Ours, since its prompts are not public: the detector is always on
(the judge that scores must not select), the translator writes the instruction from the value's name and definition, and the
rewriter is the model itself. It has no dose and is shown at its own gain.
"""

from __future__ import annotations

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueName
from neva_tl.editing import RewriteAnswer
from neva_tl.methods.evidence import Evidence


@check_arguments
def visa(evidence: Evidence, value: ValueName) -> RewriteAnswer:
    """Rewrite each answer under an instruction that names and defines the value.

    Args:
        evidence: Training data; only the model and the theory are read.
        value: The value to steer towards.

    Raises:
        InputError: The model has no chat template: it follows no instructions.

    Example:
        >>> from neva_tl.methods.visa import instruction  # the demo model follows none, so that `visa` refuses it
        >>> instruction(nv.baselines.Evidence(model, stats, {}), "power").partition(" (")[0]
        'The new answer shows that power'
    """
    info = models.info(evidence.model)
    if not evidence.chat or not info.chat:
        raise InputError(f"{info.name} is not used as a chat model: rewriting needs a model that follows instructions")
    return RewriteAnswer(instruction(evidence, value))


def instruction(evidence: Evidence, value: str) -> str:
    """Translate a value into an instruction on an answer.

    Args:
        evidence: Training data; the theory of its statistics is read.
        value: The value.
    """
    definition = evidence.stats.theory.value(value).definition.strip().rstrip(".")
    meaning = f" ({definition})" if definition else ""
    return f"The new answer shows that {value}{meaning} comes before everything else."
