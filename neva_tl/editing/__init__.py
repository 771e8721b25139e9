"""Edits of a model's activations at inference, through hook points; base.py defines them."""

from neva_tl.core.content_hash import content_hash
from neva_tl.editing.attach import EditHandle, attach, attached
from neva_tl.editing.base import (
    SCOPES,
    AutoScope,
    Change,
    Edit,
    NeuronEdit,
    PromptContext,
    Scope,
    as_edits,
    decided_scope,
    rewrite,
)
from neva_tl.editing.calibrate import Calibration, DosePoint, calibrate, calibrate_many
from neva_tl.editing.edits.ablate import Ablate
from neva_tl.editing.edits.clamp import Clamp
from neva_tl.editing.edits.compose import Composed, compose
from neva_tl.editing.edits.context import ContextAware, fit_context
from neva_tl.editing.edits.gate_shift import GateShift
from neva_tl.editing.edits.paced import Paced, paced
from neva_tl.editing.edits.probe import LayerProbe
from neva_tl.editing.edits.prompt import RolePrompt
from neva_tl.editing.edits.prompt_shift import PromptShift
from neva_tl.editing.edits.rescale import Rescale
from neva_tl.editing.edits.rewriting import RewriteAnswer
from neva_tl.editing.edits.scale import Scale
from neva_tl.editing.edits.shift import Amplify, Shift
from neva_tl.editing.edits.vector import AddVector, ProbedVector, fit_vector_probes
from neva_tl.editing.export import export_edit
from neva_tl.editing.gate import RelevanceGate, auto_gate, fit_relevance
from neva_tl.editing.hf import edit_hf
from neva_tl.editing.hooking import edit, edit_rows
from neva_tl.editing.session import EditSession
from neva_tl.editing.touched import touched_tokens

#: The name that version 0.1.0 gave to `content_hash`.
identity = content_hash

__all__ = [
    "SCOPES",
    "Ablate",
    "AddVector",
    "Amplify",
    "AutoScope",
    "Calibration",
    "Change",
    "Clamp",
    "Composed",
    "ContextAware",
    "DosePoint",
    "Edit",
    "EditHandle",
    "EditSession",
    "GateShift",
    "LayerProbe",
    "NeuronEdit",
    "Paced",
    "ProbedVector",
    "PromptContext",
    "PromptShift",
    "RelevanceGate",
    "Rescale",
    "RewriteAnswer",
    "RolePrompt",
    "Scale",
    "Scope",
    "Shift",
    "as_edits",
    "attach",
    "attached",
    "auto_gate",
    "calibrate",
    "calibrate_many",
    "compose",
    "content_hash",
    "decided_scope",
    "edit",
    "edit_hf",
    "edit_rows",
    "export_edit",
    "fit_context",
    "fit_relevance",
    "fit_vector_probes",
    "identity",
    "paced",
    "rewrite",
    "touched_tokens",
]
