"""Public capability benchmarks: readers, log-probability scores and comparisons.

A comparison is paired: the edited and the unedited model are scored on the same items.
"""

from neva_tl.evaluation.benchmarks.blimp import read_blimp
from neva_tl.evaluation.benchmarks.compare import CapabilityComparison, compare_capability, mean_over_conditions
from neva_tl.evaluation.benchmarks.items import Benchmark, Item
from neva_tl.evaluation.benchmarks.lambada import read_lambada
from neva_tl.evaluation.benchmarks.mmlu import read_mmlu
from neva_tl.evaluation.benchmarks.multiple_choice import read_multiple_choice
from neva_tl.evaluation.benchmarks.plain_text import read_plain_text
from neva_tl.evaluation.benchmarks.registry import data_sets, read_benchmarks
from neva_tl.evaluation.benchmarks.score import Scores, Span, score_all, score_benchmark

__all__ = [
    "Benchmark",
    "CapabilityComparison",
    "Item",
    "Scores",
    "Span",
    "compare_capability",
    "data_sets",
    "mean_over_conditions",
    "read_benchmarks",
    "read_blimp",
    "read_lambada",
    "read_mmlu",
    "read_multiple_choice",
    "read_plain_text",
    "score_all",
    "score_benchmark",
]
