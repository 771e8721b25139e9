"""A reopened run reads with the template of the run: its date and arguments are restored, another template is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.prompts.example import Example
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder

DATED = (
    "{{ bos_token }}Today: {{ strftime_now('%d %b %Y') }}{% if brief %} Be brief.{% endif %}"
    "{% for m in messages %}{{ '<user>' + m['content'] + '</s>' }}{% endfor %}<assistant>"
)
EXAMPLE = Example("Hello?", "Hi.")


def set_source(folder: Path, template: str) -> None:
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tiny_checkpoint(tmp_path / "m", chat=True)
    set_source(out, DATED)
    return out


def reopened(folder: Path, model: Any, **options: Any) -> Run:
    """A run of this model as its manifest describes it."""
    config = StudyConfig(model=str(folder), **options)
    template = inference.encoding_change(model, config.chat)
    manifest = {"model": models.fingerprint(model), **({"template": template} if template else {})}
    return Run(RunFolder(folder.parent / "run"), config, manifest)


@pytest.mark.parametrize("arguments", [{}, {"brief": True}])
def test_date_and_arguments_are_restored(folder: Path, arguments: dict[str, Any]) -> None:
    model = models.load(folder)
    inference.set_template(model, date="2025-01-31", **arguments)
    ids = inference.encode_one(model, [EXAMPLE])[0].ids
    again = reopened(folder, model).load_model()
    assert again is not model
    assert inference.template_settings(again) == inference.template_settings(model)
    assert inference.encode_one(again, [EXAMPLE])[0].ids == ids
    # without the run's settings the texts would be others
    assert inference.encode_one(models.load(folder), [EXAMPLE])[0].ids != ids


def test_another_template_is_refused(folder: Path) -> None:
    run = reopened(folder, models.load(folder))
    set_source(folder, DATED.replace("strftime_now('%d %b %Y')", "'now'"))
    with pytest.raises(InputError, match="another chat template") as caught:
        run.load_model()
    assert "\n" not in str(caught.value)


def test_a_run_without_templates_needs_none(folder: Path) -> None:
    model = models.load(folder)
    run = reopened(folder, model, chat=False)
    assert "template" not in run.manifest
    assert inference.template_settings(run.load_model()) == inference.template_settings(model)
