"""What people would otherwise use, behind the same `Edit` interface; one file per method, one line each in `METHODS`.

A builder takes the collected evidence and returns an edit whose dose `calibrate` can set.
"""

from neva_tl.baselines.caa import caa, caa_projected
from neva_tl.baselines.neva import neva, neva_shift
from neva_tl.baselines.random import label_shuffled, random_neurons
from neva_tl.baselines.registry import GATES, METHODS, Evidence, build, gate_name
from neva_tl.baselines.role import role_prompt

__all__ = [
    "GATES",
    "METHODS",
    "Evidence",
    "build",
    "caa",
    "caa_projected",
    "gate_name",
    "label_shuffled",
    "neva",
    "neva_shift",
    "random_neurons",
    "role_prompt",
]
