"""Evidence of a study whose values share all their words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint, tiny_tokenizer
from neva_tl.study import StudyResult
from neva_tl.study.analyses.reopened_run import Run
from neva_tl.study.report import write_report
from neva_tl.study.run import stages
from neva_tl.study.run.run_folder import RunFolder


def test_where_no_word_is_one_values_own_no_circuit_is_drawn_and_the_rest_is_there(
    finished: StudyResult, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(shutil.copytree(finished.folder, tmp_path / "run"))
    evidence = run.evidence(tiny_model)
    shutil.rmtree(run.store.root / "circuits")
    for name in ("circuit", "neurons"):
        (run.store.root / f"tables/{name}.parquet").unlink()
    shared = pd.DataFrame({"value": list(VALUES), "shared": [True] * len(VALUES)})
    monkeypatch.setattr(stages, "value_tokens", lambda model, values, **options: shared)
    stages.write_evidence(run.store, tiny_model, run.pairs(), evidence.stats, evidence.neurons)
    assert len(run.store.read_table("tables/circuit")) == 0 and not (run.store.root / "circuits").exists()
    assert len(run.store.read_table("tables/neurons")) == sum(len(found) for found in evidence.neurons.values())
    write_report(run.store.root)
    page = (run.store.root / "report.html").read_text()
    assert "Circuit of power: another value claims every token of its words too." in page
    assert "there is no table &#39;circuit&#39;" not in page


def test_stored_statistics_of_other_token_ids_are_refused(
    finished: StudyResult, tiny_model: Any, tmp_path: Path
) -> None:
    """What identifies the statistics is the token ids; those of version 0.1.0 hold no hash and are read."""
    run = Run.open(shutil.copytree(finished.folder, tmp_path / "run"))
    file = run.store.root / "stats/stats.json"
    meta = json.loads(file.read_text())
    assert (
        stages.collected(run.store, tiny_model, run.pairs(), run.config, False).tokens_hash == meta["tokens_hash"] != ""
    )
    run.store.write_json("stats/stats.json", meta | {"tokens_hash": "0" * 64})
    with pytest.raises(InputError, match="other token ids"):
        stages.collected(run.store, tiny_model, run.pairs(), run.config, False)
    run.store.write_json(
        "stats/stats.json", {name: x for name, x in meta.items() if name not in ("tokens_hash", "encoding")}
    )
    assert stages.collected(run.store, tiny_model, run.pairs(), run.config, False).tokens_hash == ""


def test_the_manifest_records_what_the_reader_left_out(finished: StudyResult, tiny_model: Any) -> None:
    run = Run.open(finished.folder)
    pairs = run.pairs()
    noted = replace(pairs, note="1 of 3 pairs left out: repeated ones.")
    with_note, without = (stages.manifest(run.config, tiny_model, one, []) for one in (noted, pairs))
    assert with_note.pop("prompts_note") == "1 of 3 pairs left out: repeated ones."
    assert with_note == without  # the note is no part of the study's identity


def test_template_settings_are_part_of_a_study(finished: StudyResult, tmp_path: Path) -> None:
    """Another date is another study; a template without date and arguments leaves the identity as it was."""
    folder = tiny_checkpoint(tmp_path / "m", chat=True)
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{{ bos_token }}{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    model, run = models.load(folder), Run.open(finished.folder)

    def about(chat: bool | None = None) -> dict[str, Any]:
        return stages.manifest(replace(run.config, chat=chat), model, run.pairs(), [])

    first = about()
    assert first["template"] == {"date": inference.TEMPLATE_DATE} and "template" not in about(chat=False)
    inference.set_template(model, date="2025-01-31")
    other = about()
    assert other["template"] == {"date": "2025-01-31"} and other["study"] != first["study"]
    RunFolder.open(tmp_path / "run", first).write_json("manifest.json", first)
    with pytest.raises(InputError, match="chat template"):
        RunFolder.open(tmp_path / "run", other)
