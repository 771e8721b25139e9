"""Full studies of a model, and analyses of finished runs."""

from neva_tl.study import own_words
from neva_tl.study.analyses.layers import layer_ablation, layer_study, layer_table
from neva_tl.study.analyses.tools import build_edit, compare
from neva_tl.study.paper import write_paper
from neva_tl.study.run.comparison import nlr_comparison
from neva_tl.study.run.config import METHODS, PROFILES, Profile, StudyConfig
from neva_tl.study.run.study import Study, StudyResult

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
    "own_words",
    "write_paper",
]
