"""Judges: scores of how strongly each of the ten values is expressed.

A `TextJudge` reads texts, a `ModelJudge` queries the model itself. Each value is scored separately and never normalised over
values: a forced choice among values would hide leakage.
"""

from neva_tl.evaluation.judges.base import ItemScores, Judge, ModelJudge, TextJudge, legible, repeated_share
from neva_tl.evaluation.judges.cached import CachedJudge
from neva_tl.evaluation.judges.chat import ChatJudge
from neva_tl.evaluation.judges.exact import ExactJudge
from neva_tl.evaluation.judges.llm import LlmJudge
from neva_tl.evaluation.judges.logprob import LogProbJudge
from neva_tl.evaluation.judges.registry import JUDGES, load_judge
from neva_tl.evaluation.judges.survey import SurveyJudge
from neva_tl.evaluation.judges.wordlist import WordListJudge

__all__ = [
    "JUDGES",
    "CachedJudge",
    "ChatJudge",
    "ExactJudge",
    "ItemScores",
    "Judge",
    "LlmJudge",
    "LogProbJudge",
    "ModelJudge",
    "SurveyJudge",
    "TextJudge",
    "WordListJudge",
    "legible",
    "load_judge",
    "repeated_share",
]
