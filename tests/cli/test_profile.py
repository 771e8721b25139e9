"""`neva-tl profile` on a random model: the table, the JSON, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neva_tl.core.values import VALUES
from neva_tl.models.tiny import tiny_checkpoint

THINGS = "bridge mill farm harbour market garden school choir tower council forge bakery library orchard"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("profile") / "tiny", chat=True, n_ctx=1024))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("profile") / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["value", "question_1", "question_2"])
        for thing in THINGS.split():
            table.writerow(["power", f"Take command of the {thing} and rule.", f"Let others lead the {thing} today."])
            table.writerow(["tradition", f"Keep the {thing} as it was.", f"Throw out the {thing}, it is old."])
    return f"pairs:{path}"


def test_a_profile_is_printed_and_written(call: Any, model: str, tmp_path: Path) -> None:
    out = tmp_path / "profile.csv"
    status, printed, err = call("profile", "--model", model, "--no-svo", "--out", out)
    assert status == 0, err
    assert all(name in printed for name in VALUES) and "share of the scale" in printed and "SVO" not in printed
    table = pd.read_csv(out)
    assert table["value"].tolist() == list(VALUES) and table["before"].between(0, 1).all() and (table["n"] == 4).all()


def test_before_and_after_an_edit_as_json(call: Any, model: str, pairs: str, tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text(
        "questionnaire,item,value,agreement\nQ,I rule.,Power,1\nQ,I obey.,Power,-1\n"
        "Q,I keep customs.,Tradition,1\nQ,I drop customs.,Tradition,-1\nR,I roam.,Stimulation,1\n"
    )
    argv = ("--model", model, "--questionnaire", file, "--only", "Q", "--prompts", pairs, "--value", "power")
    status, printed, err = call("profile", *argv, "--method", "neva_shift", "--dose", "3", "--k", "8", "--json")
    assert status == 0, err
    found = json.loads(printed)
    assert [row["value"] for row in found["profile"]] == ["power", "tradition"]
    changes = [row["change"] for row in found["profile"]]
    assert max(map(abs, changes)) > 0 and found["edit"] == {"value": "power", "method": "neva_shift", "dose": 3.0}
    for row in found["profile"]:
        assert row["change"] == pytest.approx(row["after"] - row["before"])
    assert set(found["svo"]) == {"before", "after", "change"} and -180 <= found["svo"]["change"]["est"] <= 180
    assert found["svo"]["before"]["chance"] == pytest.approx(22.6, abs=0.3)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("--model", "demo"), "without questions"),
        (("--only", "PVQ40"), "--questionnaire"),
        (("--value", "bravery"), "unknown value 'bravery'"),
        (("--scope", "generated"), "choose all, prompt or last"),
        (("--out", "profile.xlsx"), "use .csv"),
        (("--questionnaire", "nothing.csv"), "does not exist"),
    ],
)
def test_what_it_refuses_before_loading_anything(call: Any, argv: tuple[str, ...], complaint: str) -> None:
    status, printed, err = call("profile", *argv)
    assert status == 2 and complaint in err and printed == "" and "Traceback" not in err
