"""Folders that tests read."""

from __future__ import annotations

from pathlib import Path

#: The checkout.
ROOT = Path(__file__).resolve().parents[2]
#: Models and data next to the checkout; absent on most machines.
SHARED = ROOT.parent / "shared"
#: Artefacts of released versions.
FIXTURES = ROOT / "tests" / "fixtures"
