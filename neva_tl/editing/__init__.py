"""Edits of a model's activations at inference, through hook points; see base.py for what an edit is."""

from neva_tl._identity import identity
from neva_tl.editing.ablate import Ablate
from neva_tl.editing.base import SCOPES, Change, Edit, NeuronEdit, Scope, as_edits, rewrite
from neva_tl.editing.calibrate import Calibration, DosePoint, calibrate, calibrate_many
from neva_tl.editing.clamp import Clamp
from neva_tl.editing.context import ContextAware, LayerProbe, fit_context
from neva_tl.editing.gate import RelevanceGate, fit_relevance
from neva_tl.editing.prompt import RolePrompt
from neva_tl.editing.scale import Scale
from neva_tl.editing.session import EditSession, edit, edit_rows
from neva_tl.editing.shift import Amplify, Shift
from neva_tl.editing.touched import touched_tokens
from neva_tl.editing.vector import AddVector

__all__ = [
    "SCOPES",
    "Ablate",
    "AddVector",
    "Amplify",
    "Calibration",
    "Change",
    "Clamp",
    "ContextAware",
    "DosePoint",
    "Edit",
    "EditSession",
    "LayerProbe",
    "NeuronEdit",
    "RelevanceGate",
    "RolePrompt",
    "Scale",
    "Scope",
    "Shift",
    "as_edits",
    "calibrate",
    "calibrate_many",
    "edit",
    "edit_rows",
    "fit_context",
    "fit_relevance",
    "identity",
    "rewrite",
    "touched_tokens",
]
