"""Former path of Schwartz's theory (`neva_tl.core.theories.schwartz`), for code that imports it."""

from __future__ import annotations

from neva_tl.core.theories.schwartz import *  # noqa: F403
from neva_tl.core.theories.value_name import ValueName as ValueName
