"""The layout: tests lie in the folders of what they test, and every public name imports."""

from __future__ import annotations

import pytest

import neva_tl as nv
from helpers.paths import ROOT

TESTS = ROOT / "tests"
#: Folders that test no single folder of the package.
APART = {"browser", "e2e", "examples", "fixtures", "helpers", "parity", "robustness"}


def test_every_test_lies_in_a_folder_of_the_package() -> None:
    assert list(TESTS.glob("test_*.py")) == []
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    mirrored = sorted(folder for folder in folders if folder.parts[0] not in APART)
    assert len(mirrored) > 20
    assert [str(folder) for folder in mirrored if not (ROOT / "neva_tl" / folder / "__init__.py").is_file()] == []


def test_the_makefile_sees_every_test_with_a_marker_of_its_own_suite() -> None:
    """`make test-tl3` and `make test-smollm2` collect the files that hold the marker, so no other file may put it on a test."""
    marks = ("mark." + "core", "mark." + "smollm2")
    others = [file for file in TESTS.rglob("*.py") if not file.name.startswith("test_")]
    assert others and not [file for file in others if any(mark in file.read_text(encoding="utf-8") for mark in marks)]


@pytest.mark.parametrize("name", nv.__all__)
def test_public_names_import(name: str) -> None:
    assert getattr(nv, name) is not None
