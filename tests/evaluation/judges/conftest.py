"""Puts the faulty server within reach of the tests of this folder (tests are no package)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "faulty_server" not in sys.modules:
    spec = importlib.util.spec_from_file_location("faulty_server", Path(__file__).with_name("faulty_server.py"))
    assert spec is not None and spec.loader is not None
    sys.modules["faulty_server"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
