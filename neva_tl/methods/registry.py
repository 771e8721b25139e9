"""Build a method's edit by name.

The table of methods is `neva_tl.core.method_records`.
"""

from __future__ import annotations

from neva_tl.core.arguments import check_arguments
from neva_tl.core.auto import DoseUnit
from neva_tl.core.method_records import find_method
from neva_tl.core.theories import ValueName
from neva_tl.editing import Edit
from neva_tl.methods.evidence import Evidence


@check_arguments
def build(method: str, evidence: Evidence, value: ValueName) -> Edit:
    """The edit of a method for a value, at dose 1, with the evidence's relevance gate.

    Args:
        method: A registered name.
        evidence: Training data that the edit is built from.
        value: The value to steer towards.

    Raises:
        InputError: The method is unknown, or the evidence lacks something that it needs.
    """
    record = find_method(method)
    edit: Edit = record.builder()(evidence, value)
    if evidence.gate is None or record.relevance == "no":
        return edit
    return edit.with_gate(evidence.gate.per_query() if record.relevance == "query" else evidence.gate)


@check_arguments
def gate_name(method: str, relevance: bool) -> str:
    """The gate of a condition in tables: the method's own, and `relevance` if used.

    Args:
        method: A registered name.
        relevance: Whether the study puts the relevance gate on its edits.

    Raises:
        InputError: The method is unknown.
    """
    record = find_method(method)
    if not relevance or record.relevance == "no":
        return record.gate
    return "relevance" if record.gate == "none" else f"{record.gate}+relevance"


@check_arguments
def dose_unit(method: str) -> DoseUnit:
    """The unit of a method's dose (see `Method.dose`).

    Args:
        method: A registered name.

    Raises:
        InputError: The method is unknown.
    """
    return find_method(method).dose
