"""Every public name has an example in its docstring, and every example gives what it shows."""

from __future__ import annotations

import doctest
import inspect
import io
import warnings
from typing import Any

import pytest

from helpers.public_names import docstrings, public_names

#: Names with a line that is shown but not run (`+SKIP`): whole studies, training, models that are fetched.
NOT_RUN = frozenset(
    {
        "nv.Study",
        "nv.compare",
        "nv.demo.train",
        "nv.load",
        "nv.planting.measure_selectors",
        "nv.planting.summary",
        "nv.study.own_words.from_model",
        "nv.study.layer_study",
        "nv.study.layer_table",
        "nv.study.nlr_comparison",
    }
)
NAMES = public_names()
EXAMPLES = {path: text for name, thing in NAMES.items() for path, text in docstrings(name, thing) if ">>>" in text}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def parsed(text: str, names: dict[str, Any], path: str) -> doctest.DocTest:
    return doctest.DocTestParser().get_doctest(inspect.cleandoc(text), names, path, None, None)


def test_the_public_names_are_those_of_all_rooms() -> None:
    assert len(NAMES) > 370
    assert {"nv.select", "nv.NeuronSet", "nv.circuits.Nodes", "nv.statistics.wilson", "nv.theories.Value"} <= set(NAMES)


def test_every_public_name_has_an_example() -> None:
    absent = sorted(name for name in NAMES if name not in EXAMPLES)
    assert not absent, f"add an Example section to the docstrings of {', '.join(absent)}"


def test_few_examples_have_a_line_that_is_not_run() -> None:
    skipped = {
        path
        for path, text in EXAMPLES.items()
        if any(example.options.get(doctest.SKIP) for example in parsed(text, {}, path).examples)
    }
    assert skipped == NOT_RUN and len(NOT_RUN) <= 10


@pytest.mark.parametrize("path", sorted(EXAMPLES))
def test_an_example_gives_what_it_shows(path: str, namespace: dict[str, Any]) -> None:
    runner, report = doctest.DocTestRunner(verbose=False, optionflags=FLAGS), io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner.run(parsed(EXAMPLES[path], namespace, path), out=report.write)
    assert not runner.failures, report.getvalue()


def test_a_wrong_output_fails(namespace: dict[str, Any]) -> None:
    report = io.StringIO()
    result = doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(
        parsed(">>> stats.n_layers\n5\n", namespace, "wrong"), out=report.write
    )
    assert result.failed == 1 and "Got:\n    4" in report.getvalue()
