"""Transfer: neurons and doses from one source of prompts, scored on another.

For each source A the stages of a study collect on A's train split, select neurons, build the edits and calibrate their doses
on A's validation items; every edit is then measured on B's test items by B's log-probability judge, whose unit is frozen
on B's validation items. Where A is B, this is the study's own measure. Gains on different B are in different units (SDs
of B's own items): compare down a column of scored sources, not along a row.

With three sources or more, a row `leave B out` is selected on all sources but B at once (effects pooled as a random effect)
and scored on B. With further phrasings, every edit is also scored on the same items under other system prompts.
"""

from neva_tl.study.analyses.transfer.config import TransferConfig
from neva_tl.study.analyses.transfer.coverage import covered, limited
from neva_tl.study.analyses.transfer.phrasings import PHRASINGS, phrased
from neva_tl.study.analyses.transfer.result import ALL, TransferResult
from neva_tl.study.analyses.transfer.run import transfer
from neva_tl.study.analyses.transfer.tables import shared_neurons

__all__ = [
    "ALL",
    "PHRASINGS",
    "TransferConfig",
    "TransferResult",
    "covered",
    "limited",
    "phrased",
    "shared_neurons",
    "transfer",
]
