"""Data of the texts explorer: what is paired, what is left out, and that it is inert."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from helpers import fake_run as fake
from neva_tl.study.report.explorer import explorer


def unpacked(table: pd.DataFrame, values: pd.DataFrame | None = None, **options: int) -> dict:
    packed = explorer(table, values, **options)["explorer"]
    assert packed["data"].isascii() and not set("<>&") & set(packed["data"])
    return json.loads(packed["data"]) | {"note": packed["note"]}


def rows(data: dict) -> pd.DataFrame:
    """The packed rows with their names back."""
    columns = {k: c if isinstance(c, list) else [c] * data["count"] for k, c in data["rows"].items()}
    df = pd.DataFrame(columns)
    for name, key in (("p", "prompts"), ("m", "methods"), ("a", "texts"), ("b", "texts"), ("s", "splits")):
        df[name] = [data[key][i] for i in df[name]]
    df["v"] = [data["values"][i][0] for i in df["v"]]
    df["d"] = [data["targets"][i] if i >= 0 else np.nan for i in df["d"]]
    return df


def test_every_edited_text_is_beside_the_unedited_one_of_its_prompt() -> None:
    table = fake.generations()
    df = rows(unpacked(table, fake.values()))
    edited = table[table["method"] != "unedited"]
    assert len(df) == len(edited) == 36 and {"NeVA", "CAA"} < set(df["m"])
    unedited = table[table["method"] == "unedited"].set_index("prompt")
    for row, source in zip(df.to_dict("records"), edited.to_dict("records"), strict=True):
        assert (row["p"], row["v"], row["d"]) == (source["prompt"], source["steered"], source["target_gain"])
        assert row["b"] == source["text"].strip() and row["a"] == unedited.loc[source["prompt"], "text"].strip()
        assert row["z"] == pytest.approx(source[f"score_{source['steered']}"], rel=5e-3)
        assert row["y"] == pytest.approx(unedited.loc[source["prompt"], f"score_{source['steered']}"], rel=5e-3)
        assert row["j"] == (not source["valid"]) and row["s"] == "test"


def test_doses_come_from_the_table_of_values() -> None:
    values = fake.values()
    df = rows(unpacked(fake.generations(), values))
    row = df[(df["m"] == "CAA") & (df["v"] == "power") & (df["d"] == 0.4)].iloc[0]
    where = (values["method"] == "caa") & (values["steered"] == "power") & (values["target_gain"] == 0.4)
    assert row["x"] == pytest.approx(values.loc[where, "dose"].item(), rel=5e-3)
    assert rows(unpacked(fake.generations()))["x"].isna().all()


def test_a_large_run_keeps_whole_prompts_and_says_so() -> None:
    table = fake.generations()
    data = unpacked(table, most=2000)
    kept = rows(data)
    assert (
        0 < len(data["prompts"]) < 3 and data["prompts"] == list(dict.fromkeys(table["prompt"]))[: len(data["prompts"])]
    )
    assert len(kept) == 12 * len(data["prompts"])
    assert f"{len(data['prompts'])} of 3 prompts" in data["note"] and unpacked(table)["note"] == ""


def test_samples_and_splits_are_paired_among_themselves() -> None:
    table = fake.generations()
    twice = pd.concat([table, table.assign(text=table["text"] + " again")], ignore_index=True)
    df = rows(unpacked(twice))
    assert len(df) == 72 and (df["a"].str.endswith("again") == df["b"].str.endswith("again")).all()
    split = rows(unpacked(table.assign(split=np.where(table["prompt"] == "Mara says that", "validation", "test"))))
    assert set(split.loc[split["p"] == "Mara says that", "s"]) == {"validation"}


def test_nothing_to_pair_is_no_explorer() -> None:
    table = fake.generations()
    assert explorer(table[table["method"] == "unedited"]) == {} and explorer(table[table["method"] != "unedited"]) == {}
    assert explorer(table.drop(columns="steered")) == {}


def test_missing_scores_and_validity_pass() -> None:
    table = fake.generations().astype({"target_gain": "Float64", "steered": "string"})
    table = table.drop(columns=[c for c in table if c.startswith("score_")]).assign(valid=None)
    df = rows(unpacked(table))
    assert df["z"].isna().all() and (df["j"] == 0).all()
