"""PromptShift: the need of a value is measured once, at the prompt's last token, and met everywhere (ConVA, 2507.11316).

Per layer, with earlier layers' shifts in force, `delta = max(0, logit(p0) - b - w . e) * w / |w|^2` for the residual stream e
at the prompt's last token; the same delta is added at every token in scope. Scopes say where it is added, not where it is
measured: where scope or gate keep an earlier layer's shift off the prompt's last token, e is taken as if the residual
stream had carried it there (the direct path; ours), or every layer would meet the whole need once more. Under the KV cache
the need is kept from the prompt's pass. The guard for tokens beyond all training texts is `ContextAware`'s (ours).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Change, Here
from neva_tl.editing.constant import PerDevice
from neva_tl.editing.edits.probe import LayerProbe, TowardsProbability, need
from neva_tl.editing.edits.vector import check_width
from neva_tl.models import EditableModel


@dataclass(frozen=True, eq=False)
class PromptShift(TowardsProbability):
    """Shifts of the residual stream worked out at the prompt's last token. The dose is `logit(p0)`; negative suppresses.

    Attributes:
        probes: one per edited layer, on the whole residual stream, in layer order.
        name: of the method, for tables.
    """

    probes: tuple[LayerProbe, ...]
    name: str = "prompt_shift"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probes:
            raise InputError("no layer has a probe: nothing to edit")

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """One change per probe, ascending in layer.

        Raises:
            InputError: a probe is of another model.
        """
        check_width(self.probes, model)
        ordered = sorted(self.probes, key=lambda probe: probe.layer)
        return tuple(Change(probe.layer, "resid_post", self._shift(probe), ("prompt",)) for probe in ordered)

    def _shift(self, probe: LayerProbe) -> Callable[[Tensor, Here], Tensor]:
        ready = PerDevice(*(torch.as_tensor(x, dtype=torch.float32) for x in (probe.weight, probe.unit)))
        name = f"need {probe.layer}"

        def apply(x: Tensor, here: Here) -> Tensor:
            weight, step = ready.on(x.device)
            if bool((here.end >= 0).all()):
                row = torch.arange(len(x), device=x.device)
                absent = here.held.get("absent", torch.zeros_like(x[:, 0], dtype=torch.float32))
                e = x[row, here.end].float() + absent
                lacking = need(e @ weight + probe.bias, self.dose, probe)
                here.held[name] = lacking
                here.held["absent"] = absent + (~here.inside)[:, None] * lacking[:, None] * step
            elif name not in here.held:
                raise WorkError("this edit is worked out at the prompt: run the prompt in the same block")
            return (x.float() + here.held[name][:, None, None] * step).to(x.dtype)

        return apply
