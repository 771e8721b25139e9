"""The whole study as one object: config in, run folder out."""

from neva_tl.study.comparison import nlr_comparison
from neva_tl.study.config import METHODS, PROFILES, Profile, StudyConfig
from neva_tl.study.layers import layer_ablation, layer_study, layer_table
from neva_tl.study.study import Study, StudyResult
from neva_tl.study.tools import build_edit, compare

__all__ = [
    "METHODS",
    "PROFILES",
    "Profile",
    "Study",
    "StudyConfig",
    "StudyResult",
    "build_edit",
    "compare",
    "layer_ablation",
    "layer_study",
    "layer_table",
    "nlr_comparison",
]
