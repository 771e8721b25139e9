"""Missing files and folders, and unknown names, for every reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.text_lines import write
from neva_tl import prompts
from neva_tl.core.errors import InputError


@pytest.mark.parametrize("spec", ["{}", "pairs:{}", "valuebench:{}"])
def test_missing_and_empty_files(tmp_path: Path, spec: str) -> None:
    file = tmp_path / "a.csv"
    with pytest.raises(InputError, match="does not exist"):
        prompts.load(spec.format(file))
    file.touch()
    with pytest.raises(InputError, match="is empty"):
        prompts.load(spec.format(file))
    with pytest.raises(InputError, match="is a folder"):
        prompts.load(spec.format(write(tmp_path / "d.csv" / "x", "").parent))


@pytest.mark.parametrize("scheme", ["persona", "valueeval"])
def test_missing_and_empty_folders(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        prompts.load(f"{scheme}:{tmp_path / 'no'}")
    with pytest.raises(InputError, match=r"holds no"):
        prompts.load(f"{scheme}:{tmp_path}")
    with pytest.raises(InputError, match="is a file"):
        prompts.load(f"{scheme}:{write(tmp_path / 'f', 'x')}")


@pytest.mark.parametrize("spec", ["nothing", "schwarz", "unknown:x", "a.txt"])
def test_unknown_spec_lists_what_is_known(spec: str) -> None:
    with pytest.raises(InputError, match=r"unknown prompts.*demo, schwartz, moral-foundations, pairs:PATH.*\.parquet"):
        prompts.load(spec)


def test_an_empty_spec() -> None:
    with pytest.raises(InputError, match=r"spec of load.* is '': pass .*names no file"):
        prompts.load("")


def test_scheme_without_a_path() -> None:
    with pytest.raises(InputError, match="names no path"):
        prompts.load("persona:")
