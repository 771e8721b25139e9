"""The name of a value in the signature of a public function."""

from __future__ import annotations

from typing import Annotated

from neva_tl.core.kinds import Kind, Unfit
from neva_tl.core.names import spelling
from neva_tl.core.theories.schwartz import SCHWARTZ


def _spelled(name: object) -> str:
    if not isinstance(name, str):
        raise Unfit
    return spelling(name, SCHWARTZ.names) or name


#: The name of a value, which `check_arguments` takes in any spelling of Schwartz's ten; names of other theories pass as they
#: are, because the theory in use checks them.
ValueName = Annotated[str, Kind("the name of a value, such as 'power'", _spelled)]
