"""Steering methods, ours and published ones, with one `Edit` interface.

One file per method; its facts (family, gate, dose, label) are one record in `METHODS`. A builder takes the collected evidence
and returns an edit whose dose `calibrate` can set.
"""

from neva_tl.core.method_records import METHODS, Method, register
from neva_tl.methods.austeer import austeer
from neva_tl.methods.caa import caa, caa_projected
from neva_tl.methods.caa_layers import caa_layers, caa_layers_projected
from neva_tl.methods.caa_probe import caa_probe, caa_projected_probe
from neva_tl.methods.cna import cna
from neva_tl.methods.conva import conva
from neva_tl.methods.dpn_le import dpn_le
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.lape import lape
from neva_tl.methods.neva import neva, neva_shift
from neva_tl.methods.npti import npti
from neva_tl.methods.persona_vector import persona_vector
from neva_tl.methods.placebos import label_shuffled, random_neurons
from neva_tl.methods.registry import build, dose_unit, gate_name
from neva_tl.methods.role import role_prompt
from neva_tl.methods.role_few_shot import role_few_shot
from neva_tl.methods.rotated import rotated
from neva_tl.methods.sae import sae, sae_features
from neva_tl.methods.visa import visa

__all__ = [
    "METHODS",
    "Evidence",
    "Method",
    "austeer",
    "build",
    "caa",
    "caa_layers",
    "caa_layers_projected",
    "caa_probe",
    "caa_projected",
    "caa_projected_probe",
    "cna",
    "conva",
    "dose_unit",
    "dpn_le",
    "gate_name",
    "label_shuffled",
    "lape",
    "neva",
    "neva_shift",
    "npti",
    "persona_vector",
    "random_neurons",
    "register",
    "role_few_shot",
    "role_prompt",
    "rotated",
    "sae",
    "sae_features",
    "visa",
]
