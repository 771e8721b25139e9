"""Role prompt: an instruction that names the value, put before the prompt.

It has no dose.
"""

from __future__ import annotations

from neva_tl.core.arguments import check_arguments
from neva_tl.core.theories import SCHWARTZ, ValueName
from neva_tl.editing import RolePrompt
from neva_tl.methods.evidence import Evidence
from neva_tl.models.sources import is_demo


@check_arguments
def role_prompt(evidence: Evidence, value: ValueName) -> RolePrompt:
    """An instruction in words, or for the demo model a sentence of its own language.

    The demo model reads no instructions; a sentence that expresses the value is the strongest hint in its language.

    Args:
        evidence: Training data; only the model's name is read.
        value: The value to steer towards.

    Example:
        >>> nv.baselines.role_prompt(nv.baselines.Evidence(model, stats, {}), "power").instruction
        'emil hopes to control the royal fleet , since wealth comes first . last week , mei tells everyone that'
    """
    if is_demo(str(evidence.stats.info.get("name", ""))) and value in SCHWARTZ:
        return RolePrompt(_demo_sentence(value), joiner=" ")
    definition = evidence.stats.theory.value(value).definition.rstrip(".")
    meaning = f" ({definition}.)" if definition else ""
    return RolePrompt(f"Answer as someone who puts {value} above everything else.{meaning}")


def _demo_sentence(value: str) -> str:
    """The first statement of the value in the demo world's training set."""
    from neva_tl import prompts

    rows = prompts.load("demo").split("train").df
    statements = rows[(rows["value"] == value) & (rows["pole"] == "+")].sort_values(["form", "cluster", "text"])
    return str(statements["text"].iloc[0])
