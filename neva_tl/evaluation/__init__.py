"""Evaluation: judges, alignment (CSR), value leakage, dose-response, fluency, capability.

`leakage` and `capability` here are the functions; the modules of the same names hold the pure measures and the parts.
"""

from neva_tl.evaluation.alignment import (
    Decoding,
    Observed,
    assemble,
    csr,
    leakage,
    observe,
    score_texts,
    text_responses,
)
from neva_tl.evaluation.capability import (
    Reference,
    capability,
    multiple_choice,
    neutral_table,
    neutral_texts,
    reference,
)
from neva_tl.evaluation.dose import dose_metric, dose_response
from neva_tl.evaluation.estimate import Estimate
from neva_tl.evaluation.fluency import admissible, fluency
from neva_tl.evaluation.judges import (
    ExactJudge,
    ItemScores,
    LogProbJudge,
    ModelJudge,
    TextJudge,
    WordListJudge,
    load_judge,
)
from neva_tl.evaluation.kl import kl_metric
from neva_tl.evaluation.labelled import LabelledTexts
from neva_tl.evaluation.leakage import LeakageResult, NlrComparison, compare_nlr, measure
from neva_tl.evaluation.responses import Responses

__all__ = [
    "Decoding",
    "Estimate",
    "ExactJudge",
    "ItemScores",
    "LabelledTexts",
    "LeakageResult",
    "LogProbJudge",
    "ModelJudge",
    "NlrComparison",
    "Observed",
    "Reference",
    "Responses",
    "TextJudge",
    "WordListJudge",
    "admissible",
    "assemble",
    "capability",
    "compare_nlr",
    "csr",
    "dose_metric",
    "dose_response",
    "fluency",
    "kl_metric",
    "leakage",
    "load_judge",
    "measure",
    "multiple_choice",
    "neutral_table",
    "neutral_texts",
    "observe",
    "reference",
    "score_texts",
    "text_responses",
]
