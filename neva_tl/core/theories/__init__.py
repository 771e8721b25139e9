"""Value theories as data: Schwartz's ten values, his twenty, moral foundations, and theories of your own.

`find_theory` returns a theory by name or file, `theory_of` the theory that a set of names implies. Names are imported on
first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neva_tl.core.theories.moral_foundations import MORAL_FOUNDATIONS as MORAL_FOUNDATIONS
    from neva_tl.core.theories.registry import THEORIES as THEORIES
    from neva_tl.core.theories.registry import TheorySpec as TheorySpec
    from neva_tl.core.theories.registry import check_spelling as check_spelling
    from neva_tl.core.theories.registry import find_theory as find_theory
    from neva_tl.core.theories.registry import in_order as in_order
    from neva_tl.core.theories.registry import left_out as left_out
    from neva_tl.core.theories.registry import recorded_theory as recorded_theory
    from neva_tl.core.theories.registry import resolve_theory as resolve_theory
    from neva_tl.core.theories.registry import theory_of as theory_of
    from neva_tl.core.theories.registry import theory_record as theory_record
    from neva_tl.core.theories.schwartz import SCHWARTZ as SCHWARTZ
    from neva_tl.core.theories.schwartz import VALUES as VALUES
    from neva_tl.core.theories.schwartz20 import SCHWARTZ20 as SCHWARTZ20
    from neva_tl.core.theories.theory import IMPLIED as IMPLIED
    from neva_tl.core.theories.theory import Value as Value
    from neva_tl.core.theories.theory import ValueTheory as ValueTheory
    from neva_tl.core.theories.theory import check_name as check_name
    from neva_tl.core.theories.value_name import ValueName as ValueName

_ROOM = "neva_tl.core.theories"
#: Public names of this room -> module that defines them.
_NAMES = {
    "IMPLIED": f"{_ROOM}.theory",
    "MORAL_FOUNDATIONS": f"{_ROOM}.moral_foundations",
    "SCHWARTZ": f"{_ROOM}.schwartz",
    "SCHWARTZ20": f"{_ROOM}.schwartz20",
    "THEORIES": f"{_ROOM}.registry",
    "TheorySpec": f"{_ROOM}.registry",
    "VALUES": f"{_ROOM}.schwartz",
    "Value": f"{_ROOM}.theory",
    "ValueName": f"{_ROOM}.value_name",
    "ValueTheory": f"{_ROOM}.theory",
    "check_name": f"{_ROOM}.theory",
    "check_spelling": f"{_ROOM}.registry",
    "find_theory": f"{_ROOM}.registry",
    "in_order": f"{_ROOM}.registry",
    "left_out": f"{_ROOM}.registry",
    "recorded_theory": f"{_ROOM}.registry",
    "resolve_theory": f"{_ROOM}.registry",
    "theory_of": f"{_ROOM}.registry",
    "theory_record": f"{_ROOM}.registry",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        export = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = export
        return export
    raise AttributeError(f"module {_ROOM!r} has no attribute {name!r}")
