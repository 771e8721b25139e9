"""What people would otherwise use, behind the same `Edit` interface; one file per method, one line each in `METHODS`.

A builder takes the collected evidence and returns an edit whose dose `calibrate` can set.
"""

from neva_tl.baselines.caa import caa, caa_projected
from neva_tl.baselines.caa_layers import caa_layers, caa_layers_projected
from neva_tl.baselines.caa_probe import caa_probe, caa_projected_probe
from neva_tl.baselines.conva import conva
from neva_tl.baselines.dpn_le import dpn_le
from neva_tl.baselines.lape import lape
from neva_tl.baselines.neva import neva, neva_shift
from neva_tl.baselines.npti import npti
from neva_tl.baselines.random import label_shuffled, random_neurons
from neva_tl.baselines.registry import DOSES, FAMILIES, GATES, METHODS, Evidence, build, dose_unit, gate_name
from neva_tl.baselines.role import role_prompt
from neva_tl.baselines.rotated import rotated

__all__ = [
    "DOSES",
    "FAMILIES",
    "GATES",
    "METHODS",
    "Evidence",
    "build",
    "caa",
    "caa_layers",
    "caa_layers_projected",
    "caa_probe",
    "caa_projected",
    "caa_projected_probe",
    "conva",
    "dose_unit",
    "dpn_le",
    "gate_name",
    "label_shuffled",
    "lape",
    "neva",
    "neva_shift",
    "npti",
    "random_neurons",
    "role_prompt",
    "rotated",
]
