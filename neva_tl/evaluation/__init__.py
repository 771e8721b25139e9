"""Evaluation: judges, alignment (CSR), value leakage, dose-response, fluency, capability.

`leakage`, `capability`, `quality` and `agreement` are functions here; the modules of the same names are in the subpackages.
"""

from neva_tl.evaluation.benchmarks.harness import lm_eval_model
from neva_tl.evaluation.conditions.capability import (
    Reference,
    capability,
    multiple_choice,
    neutral_table,
    neutral_texts,
    reference,
)
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.dilemmas import YesNoJudge, on_dilemmas, without_opponents
from neva_tl.evaluation.conditions.dose import dose_metric, dose_response
from neva_tl.evaluation.conditions.fluency import admissible, fluency
from neva_tl.evaluation.conditions.kl import kl_metric
from neva_tl.evaluation.conditions.leakage import assemble, csr, leakage
from neva_tl.evaluation.conditions.observe import Observed, observe, score_texts, text_responses
from neva_tl.evaluation.conditions.reward import reward
from neva_tl.evaluation.judge_quality.agreement import Agreement, Confusion, agreement, confusion
from neva_tl.evaluation.judge_quality.corrected import CorrectedLeakage, correct
from neva_tl.evaluation.judge_quality.mixing import JudgedTexts, Mixing, judged, mixing, rogan_gladen
from neva_tl.evaluation.judge_quality.quality import QualityCard, quality
from neva_tl.evaluation.judges import (
    ExactJudge,
    ItemScores,
    LogProbJudge,
    ModelJudge,
    SurveyJudge,
    TextJudge,
    WordListJudge,
    load_judge,
)
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.evaluation.measures.responses import Responses
from neva_tl.evaluation.measures.result import LeakageResult, NlrComparison, compare_nlr, measure
from neva_tl.evaluation.profiles.profile import ValueProfile, couple, value_profile
from neva_tl.evaluation.profiles.svo import SvoChange, SvoResult, svo
from neva_tl.evaluation.profiles.value_graph import ValueGraph, item_rows, learn_value_graph, profile_rows

__all__ = [
    "Agreement",
    "Confusion",
    "CorrectedLeakage",
    "Decoding",
    "Estimate",
    "ExactJudge",
    "ItemScores",
    "JudgedTexts",
    "LabelledTexts",
    "LeakageResult",
    "LogProbJudge",
    "Mixing",
    "ModelJudge",
    "NlrComparison",
    "Observed",
    "QualityCard",
    "Reference",
    "Responses",
    "SurveyJudge",
    "SvoChange",
    "SvoResult",
    "TextJudge",
    "ValueGraph",
    "ValueProfile",
    "WordListJudge",
    "YesNoJudge",
    "admissible",
    "agreement",
    "assemble",
    "capability",
    "compare_nlr",
    "confusion",
    "correct",
    "couple",
    "csr",
    "dose_metric",
    "dose_response",
    "fluency",
    "item_rows",
    "judged",
    "kl_metric",
    "leakage",
    "learn_value_graph",
    "lm_eval_model",
    "load_judge",
    "measure",
    "mixing",
    "multiple_choice",
    "neutral_table",
    "neutral_texts",
    "observe",
    "on_dilemmas",
    "profile_rows",
    "quality",
    "reference",
    "reward",
    "rogan_gladen",
    "score_texts",
    "svo",
    "text_responses",
    "value_profile",
    "without_opponents",
]
