"""PromptShift: measure the need of a value at the prompt's last token and meet it everywhere (ConVA, 2507.11316).

Per layer, with earlier layers' shifts in force, `delta = max(0, logit(p0) - b - w . e) * w / |w|^2` for the residual stream e
at the prompt's last token; the same delta is added at every token in scope. The scope decides where delta is added, not where
it is measured: where scope or gate exclude the prompt's last token from an earlier layer's shift, e includes that shift as if
the residual stream had carried it (the direct path; ours); otherwise every layer would meet the full need again. Under the KV
cache the need of the prompt's pass is reused. The guard for tokens outside the training texts is that of `ContextAware` (ours).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neva_tl.core.errors import InputError, WorkError
from neva_tl.editing.base import Change, PromptContext
from neva_tl.editing.constant import PerDevice
from neva_tl.editing.edits.probe import LayerProbe, TowardsProbability, need
from neva_tl.editing.edits.vector import check_width
from neva_tl.models import EditableModel


@dataclass(frozen=True, eq=False)
class PromptShift(TowardsProbability):
    """Shifts of the residual stream computed at the prompt's last token. The dose is `logit(p0)`; negative suppresses.

    Attributes:
        probes: One per edited layer, on the full residual stream, in layer order.
        name: Name of the method in tables.

    Example:
        >>> evidence = nv.baselines.Evidence(model, stats, {"benevolence": neurons}, scope="generated")
        >>> shift = nv.baselines.conva(evidence, "benevolence")
        >>> [probe.layer for probe in shift.probes] == sorted(probe.layer for probe in shift.probes)
        True
    """

    probes: tuple[LayerProbe, ...]
    name: str = "prompt_shift"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probes:
            raise InputError("no layer has a probe: nothing to edit")

    def what(self) -> str:
        """See `Edit.what`."""
        return "adds to the residual stream the step that the prompt's last token needs to reach log-odds of the dose"

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """One change per probe, ascending in layer.

        Args:
            model: A TransformerLens model.

        Raises:
            InputError: A probe belongs to another model.
        """
        check_width(self.probes, model)
        ordered = sorted(self.probes, key=lambda probe: probe.layer)
        return tuple(Change(probe.layer, "resid_post", self._shift(probe), ("prompt",)) for probe in ordered)

    def _shift(self, probe: LayerProbe) -> Callable[[Tensor, PromptContext], Tensor]:
        vectors = PerDevice(*(torch.as_tensor(x, dtype=torch.float32) for x in (probe.weight, probe.unit)))
        name = f"need {probe.layer}"

        def apply(x: Tensor, context: PromptContext) -> Tensor:
            weight, step = vectors.on(x.device)
            memory = context.memory
            if bool((context.end >= 0).all()):
                row = torch.arange(len(x), device=x.device)
                absent = memory.get("absent", torch.zeros_like(x[:, 0], dtype=torch.float32))
                e = x[row, context.end].float() + absent
                lacking = need(e @ weight + probe.bias, self.dose, probe)
                memory[name] = lacking
                memory["absent"] = absent + (~context.inside)[:, None] * lacking[:, None] * step
            elif name not in memory:
                raise WorkError("this edit is computed at the prompt: run the prompt in the same block")
            return (x.float() + memory[name][:, None, None] * step).to(x.dtype)

        return apply
