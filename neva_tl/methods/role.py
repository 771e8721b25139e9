"""Role prompt: an instruction that names the value, put before the prompt. No dose; shown at its own gain."""

from __future__ import annotations

from neva_tl.core.values import value as lookup
from neva_tl.editing import RolePrompt
from neva_tl.methods.evidence import Evidence
from neva_tl.models.sources import is_demo


def role_prompt(evidence: Evidence, value: str) -> RolePrompt:
    """For chat models an instruction in words; for the demo model, which reads no instructions, a sentence of its own
    language that expresses the value (the strongest hint its world knows).
    """
    if is_demo(str(evidence.stats.info.get("name", ""))):
        return RolePrompt(_demo_sentence(value), joiner=" ")
    meaning = lookup(value).definition.rstrip(".")
    return RolePrompt(f"Answer as someone who puts {value} above everything else. ({meaning}.)")


def _demo_sentence(value: str) -> str:
    """A training sentence of the demo world that expresses the value: the first statement of its contrast set."""
    from neva_tl import prompts

    rows = prompts.load("demo").split("train").df
    chosen = rows[(rows["value"] == value) & (rows["pole"] == "+")].sort_values(["form", "cluster", "text"])
    return str(chosen["text"].iloc[0])
