"""ExportTarget: names of a model's transformers modules, at which other programs put an edit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models.facts import is_bridge
from neva_tl.models.hf_model import hook_locations, stored_transposed
from neva_tl.models.hooks import SITES


@dataclass(frozen=True, eq=False)
class ExportTarget:
    """A model as transformers names its modules.

    Attributes:
        model: The model that edits are checked against.
        info: Its sizes.
        hf: The transformers model, or the one that a `TransformerBridge` wraps.
        locations: Hook point -> module, and `in` or `out`.
        modules: The modules by their names in transformers.
    """

    model: models.EditableModel
    info: models.ModelInfo
    hf: nn.Module
    locations: Mapping[str, tuple[str, str]]
    modules: Mapping[str, nn.Module]

    @classmethod
    def of(cls, model: Any) -> ExportTarget:
        """Read a model.

        Args:
            model: A model of `neva_tl.load`, or a transformers model.

        Raises:
            InputError: Not such a model, or a `HookedTransformer`, which has no module of transformers.
        """
        if not models.is_model(model):
            plain = models.plain(model)
            return cls(plain, plain.facts.info, plain.hf, plain.facts.hook_locations, dict(plain.hf.named_modules()))
        if not is_bridge(model):
            raise InputError(
                "this model is a HookedTransformer, without transformers modules: give the transformers model"
            )
        hf: Any = model.original_model
        modules = {}
        for name, module in hf.named_modules():
            original = getattr(module, "original_component", None)
            modules[re.sub(r"\._?original_component\b", "", name)] = module if original is None else original
        names = {id(module): name for name, module in modules.items()}
        info = models.info(model)
        points = [f"blocks.{layer}.{site}" for layer in range(info.n_layers) for site in SITES.values()]
        return cls(model, info, hf, hook_locations(model, names, points), modules)

    def location(self, layer: int, site: str) -> tuple[str, str]:
        """The module at a hook point, and `in` or `out`.

        Args:
            layer: The layer.
            site: Short name of the hook point.

        Raises:
            InputError: No module of transformers has the hook point as its input or output.
        """
        name = models.hook_name(self.model, layer, site)
        if name not in self.locations:
            raise InputError(
                f"no module of {self.info.name} has {name} as its input or output: use this edit with neva_tl.edit"
            )
        return self.locations[name]

    def w_out(self, layer: int) -> Tensor:
        """Output projection of a layer's MLP, `[d_mlp, d_model]`.

        Args:
            layer: The layer.

        Raises:
            InputError: The layer's output weights are not one matrix of these sizes.
        """
        name, _ = self.location(layer, "post")
        weight = getattr(self.modules[name], "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2 and weight.is_floating_point():
            oriented = weight if stored_transposed(self.modules[name]) else weight.T
            if tuple(oriented.shape) == (self.info.d_mlp, self.info.d_model):
                return oriented.detach()
        raise InputError(f"the output weights of layer {layer} of {self.info.name} are not a plain matrix (quantised?)")
