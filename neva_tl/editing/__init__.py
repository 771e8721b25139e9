"""Edits of a model's activations at inference, through hook points; see base.py for what an edit is."""

from neva_tl._identity import identity
from neva_tl.editing.ablate import Ablate
from neva_tl.editing.base import SCOPES, Change, Edit, Here, NeuronEdit, Scope, as_edits, rewrite
from neva_tl.editing.calibrate import Calibration, DosePoint, calibrate, calibrate_many
from neva_tl.editing.clamp import Clamp
from neva_tl.editing.compose import Composed, compose
from neva_tl.editing.context import ContextAware, fit_context
from neva_tl.editing.gate import RelevanceGate, fit_relevance
from neva_tl.editing.gate_shift import GateShift
from neva_tl.editing.hf import edit_hf
from neva_tl.editing.hooking import edit, edit_rows
from neva_tl.editing.probe import LayerProbe
from neva_tl.editing.prompt import RolePrompt
from neva_tl.editing.prompt_shift import PromptShift
from neva_tl.editing.scale import Scale
from neva_tl.editing.session import EditSession
from neva_tl.editing.shift import Amplify, Shift
from neva_tl.editing.touched import touched_tokens
from neva_tl.editing.vector import AddVector, ProbedVector, fit_vector_probes

__all__ = [
    "SCOPES",
    "Ablate",
    "AddVector",
    "Amplify",
    "Calibration",
    "Change",
    "Clamp",
    "Composed",
    "ContextAware",
    "DosePoint",
    "Edit",
    "EditSession",
    "GateShift",
    "Here",
    "LayerProbe",
    "NeuronEdit",
    "ProbedVector",
    "PromptShift",
    "RelevanceGate",
    "RolePrompt",
    "Scale",
    "Scope",
    "Shift",
    "as_edits",
    "calibrate",
    "calibrate_many",
    "compose",
    "edit",
    "edit_hf",
    "edit_rows",
    "fit_context",
    "fit_relevance",
    "fit_vector_probes",
    "identity",
    "rewrite",
    "touched_tokens",
]
