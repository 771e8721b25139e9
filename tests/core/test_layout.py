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


@pytest.mark.parametrize("name", nv.__all__)
def test_public_names_import(name: str) -> None:
    assert getattr(nv, name) is not None
