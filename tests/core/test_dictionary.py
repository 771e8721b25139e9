"""The data dictionary: complete, without idle entries, and strict about the tables that it is compared with."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from helpers.paths import ROOT
from helpers.written_tables import check_dictionary
from neva_tl.core import dictionary

#: Tables of analyses that have a folder and a page of their own: docs/results/selectors.md, judges.md and method_study.md.
APART = {"planted_counts", "planted_selectors", "planted_neurons", "planted_null"}
#: Units that another column or the method decides.
DEPENDENT = {"as the factor", "as the metric", "as the goal", "method's own"}


def test_every_entry_has_a_meaning_and_a_unit() -> None:
    tables = dictionary.tables()
    assert len(tables) > 35
    for table in tables.values():
        names = [column.name for column in table.columns]
        assert len(set(names)) == len(names) > 1, table.name
        assert table.about.endswith(".") and table.made_by
        for column in table.columns:
            assert column.unit in dictionary.units() or column.unit in DEPENDENT, (table.name, column)
            assert len(column.meaning) > 5


def test_every_shared_meaning_and_unit_is_used() -> None:
    columns = [column for table in dictionary.tables().values() for column in table.columns]
    assert set(dictionary._data()["columns"]) <= {column.name for column in columns}
    assert set(dictionary.units()) <= {column.unit for column in columns}


def test_every_table_that_the_code_names_is_described() -> None:
    code = [*(ROOT / "neva_tl").rglob("*.py"), *(ROOT / "analyses").glob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in code)
    names = set(re.findall(r"write_table\(\s*\"tables/(\w+)\"", text)) | set(re.findall(r"= \"tables/(\w+)\"", text))
    assert len(names) > 25
    assert names - APART <= set(dictionary.tables())


def test_an_interval_has_the_unit_of_its_estimate() -> None:
    columns = {column.name: column for column in dictionary.tables()["leakage"].columns}
    assert columns["lo"].unit == columns["d"].unit == "score" and "d's 95 % interval" in columns["lo"].meaning
    assert columns["wrong_way_hi"].unit == "share" and columns["wrong_way_hi"].optional


@pytest.mark.parametrize(("change", "message"), [("extra", "not in the dictionary"), ("absent", "was not written")])
def test_a_difference_is_named(change: str, message: str) -> None:
    table = dictionary.tables()["ablation"]
    names = [column.name for column in table.columns]
    assert table.differences(names) == []
    assert table.differences(["value", "operation", *names[2:]]) == []
    (line,) = table.differences([*names, "surprise"] if change == "extra" else names[:-1])
    assert message in line and ("surprise" in line or "'n'" in line)


def test_a_column_per_value_is_one_entry() -> None:
    table = dictionary.tables()["generations"]
    names = [column.name for column in table.columns if not column.optional]
    assert table.differences([*names, "score_power", "oppose_self-direction"]) == []
    assert table.differences([*names, "score_"]) != []


def test_a_run_folder_with_an_unknown_file_or_column_fails(tmp_path: Path) -> None:
    for name in ("results.json", "manifest.json"):
        keys = [key for key in dictionary.keys(name) if key != "*"]
        (tmp_path / name).write_text("{" + ", ".join(f'"{key}": 1' for key in keys) + "}")
    (tmp_path / "tables").mkdir()
    columns = [column.name for column in dictionary.tables()["ablation"].columns]
    pd.DataFrame(columns=columns).to_parquet(tmp_path / "tables" / "ablation.parquet")
    assert check_dictionary(tmp_path) == 1
    (tmp_path / "left.txt").write_text("")
    with pytest.raises(AssertionError, match=r"left\.txt"):
        check_dictionary(tmp_path)
    (tmp_path / "left.txt").unlink()
    pd.DataFrame(columns=[*columns, "more"]).to_parquet(tmp_path / "tables" / "ablation.parquet")
    with pytest.raises(AssertionError, match=r"dictionary\.toml"):
        check_dictionary(tmp_path)
