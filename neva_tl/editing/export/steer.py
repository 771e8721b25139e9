"""Steer a transformers model with the edit in `steer.safetensors`; neva_tl is not needed.

    from steer import attach

    handle = attach(model)  # a model of AutoModelForCausalLM.from_pretrained
    model.generate(**inputs)  # steered
    handle.remove()

Both files lie in one folder, written by `neva_tl.export_edit(edit, folder, model=model, format="torch")`. The edit has a fixed
dose. Tokens of a call of the model are prompt tokens, and a single token after a key-value cache is generated; inside
`generate` the tokens after the prompt are generated. Calls that leave it open are refused where the edit depends on it:
`handle.mark(generated, real)` before such a call states it.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

_FILE = Path(__file__).with_name("steer.safetensors")


def attach(model: nn.Module, file: str | Path = _FILE, check: bool = True) -> Handle:
    """Put the edit on a model; it stays on until `handle.remove()`.

    Args:
        model: A causal language model of transformers. Other hooks on it stay.
        file: The file of the edit.
        check: Compare some weights of the model with those of the edit's model.

    Returns:
        The handle, which is also a context manager.

    Raises:
        ValueError: The file or the model is another one than the edit needs.
    """
    with safe_open(str(file), framework="pt") as stored:
        about = json.loads((stored.metadata() or {}).get("steer", "{}"))
        if about.get("kind") != "steer" or about.get("schema") != 1:
            raise ValueError(f"{file} does not hold an exported edit of this version")
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    modules = dict(model.named_modules())
    if hasattr(model, "peft_config") or not hasattr(model, "generate"):
        raise ValueError(f"attach takes the transformers model itself, not {type(model).__name__}")
    missing = next((name for name in about["modules"] if name not in modules), None)
    if missing is not None:
        raise ValueError(f"{type(model).__name__} has no module {missing!r}: the edit was made for {about['model']}")
    if "_steer_handle" in vars(model):
        raise ValueError("this model is steered already: remove its handle first, or export the edits together")
    for name in about["checked"] if check else ():
        weight, expected = modules[name].weight, tensors[f"check.{name}"]
        if weight.ndim != 2 or tuple(weight.shape) != tuple(about["checked"][name]):
            raise ValueError(f"the weights of {name} have another shape than those of {about['model']}")
        difference = (weight[:4, :16].detach().float().cpu() - expected).abs().max()
        # half precision rounds weights by less than one per cent
        if weight.is_floating_point() and difference > 0.02 * expected.abs().max():
            raise ValueError(
                f"the weights of {name} are not those of {about['model']}: attach(model, check=False) skips this"
            )
    return Handle(model, about, tensors, modules)


class Handle:
    """An edit on a model. `off()` and `on()` switch it; `remove()` takes it away, as the end of a `with` block does."""

    def __init__(
        self, model: nn.Module, about: dict[str, Any], tensors: dict[str, Tensor], modules: dict[str, nn.Module]
    ) -> None:
        self.about = about
        self.active = True
        self._model, self._tensors, self._modules = model, tensors, modules
        self._on: dict[tuple[str, torch.device], Tensor] = {}
        self._names = tuple(inspect.signature(type(model).forward).parameters)[1:]
        config: Any = model.config
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        self._pad = getattr(config, "pad_token_id", None)
        self._depends = any(step["scope"] != "all" or step["prompt"] for step in about["steps"])
        self._generation: dict[str, Any] | None = None
        self._marks: tuple[Tensor, Tensor] | None = None
        self._previous: Tensor | None = None
        self._running = self._step = False
        self._generated = self._real = torch.zeros(0, 0, dtype=torch.bool)
        self._ids: Tensor | None = None
        self._end: Tensor | None = None
        self._past = False
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._open: dict[tuple[int, int], Tensor] = {}
        self._sites: dict[tuple[int, str], Tensor] = {}
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, always_call=True),
        ]
        for point in about["points"]:
            module = modules[point["module"]]
            if point["side"] == "in":
                self._hooks.append(module.register_forward_pre_hook(self._entering(point), with_kwargs=True))
            else:
                self._hooks.append(module.register_forward_hook(self._leaving(point)))
        self._replaced = vars(model).get("generate")
        # in the instance's dictionary: other assignments would register modules
        vars(model)["generate"] = self._generating(model.generate)  # type: ignore[operator,arg-type]
        vars(model)["_steer_handle"] = self

    def remove(self) -> None:
        """Take the edit off the model."""
        if vars(self._model).pop("_steer_handle", None) is None:
            return
        for hook in self._hooks:
            hook.remove()
        vars(self._model).pop("generate", None)
        if self._replaced is not None:
            vars(self._model)["generate"] = self._replaced

    def off(self) -> None:
        """Let the model run unedited."""
        self.active = False

    def on(self) -> None:
        """Steer again after `off`."""
        self.active = True
        self._memory.clear()

    def mark(self, generated: Tensor, real: Tensor) -> None:
        """State the roles of the next call's tokens.

        Args:
            generated: `[batch, token]`, True for generated tokens.
            real: `[batch, token]`, False for padding.
        """
        self._marks = (generated.bool(), real.bool())

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"Handle({self.about['what']}; {'on' if self.active else 'off'})"

    # ------------------------------------------------------------ roles of the tokens of a call

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.active:
            return
        if torch.compiler.is_compiling():
            raise RuntimeError("a steered model cannot be traced by torch.compile: run it uncompiled")
        if self._model.training and torch.is_grad_enabled() and _checkpoints(self._model):
            raise RuntimeError(
                "gradient checkpointing runs steered blocks twice: gradient_checkpointing_disable() first"
            )
        self._read(dict(zip(self._names, args)) | kwargs)  # noqa: B905
        self._running = True

    def _after(self, *_: Any) -> None:
        self._running = False

    def _generating(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(generate)
        def run(*args: Any, **kwargs: Any) -> Any:
            tokens = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
            config = kwargs.get("generation_config") or getattr(self._model, "generation_config", None)
            beams = kwargs.get("num_beams") or getattr(config, "num_beams", None) or 1
            if self.active and beams > 1 and self.about["no_repeat"]:
                raise RuntimeError(
                    "an edit that stops at repeated tokens cannot follow beams: generate with num_beams=1"
                )
            length = tokens.shape[1] if isinstance(tokens, Tensor) and tokens.ndim == 2 else None
            outer, self._previous = self._generation, None
            self._generation = {"length": length, "started": False, "mask": kwargs.get("attention_mask")}
            try:
                return generate(*args, **kwargs)
            finally:
                self._generation, self._previous = outer, None

        return run

    def _read(self, arguments: dict[str, Any]) -> None:
        tokens = arguments.get("input_ids")
        tokens = arguments.get("inputs_embeds") if tokens is None else tokens
        if tokens is None:
            raise RuntimeError("a steered model needs input_ids or inputs_embeds")
        cache = arguments.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length())
        batch, width = tokens.shape[:2]
        self._ids = None if tokens.is_floating_point() else tokens
        self._open.clear()
        self._sites.clear()
        self._end, self._step, self._past = None, False, bool(self._memory)
        marks, self._marks = self._marks, None
        generation = self._generation
        ones = torch.ones(batch, width, dtype=torch.bool, device=tokens.device)
        if marks is not None:
            if any(tuple(mask.shape) != (batch, width) for mask in marks):
                raise RuntimeError(f"the marks have another shape than the call's tokens, {(batch, width)}")
            self._previous = None
            self._generated, self._real = (mask.to(tokens.device) for mask in marks)
        elif (generation is None or generation["started"]) and cached and width == 1:
            self._step = True
            self._generated = self._real = ones
        else:
            if (generation is None or generation["started"]) and cached and self._depends:
                raise RuntimeError(
                    f"{width} tokens after a key-value cache may be prompt or generated: state it with handle.mark"
                )
            if generation is None:
                start = width
                if not cached:
                    self._refuse_continuation(tokens)
            else:
                start = self._start(generation, cached, width)
            self._real = self._mask(arguments, tokens, cached)
            self._generated = torch.arange(width, device=tokens.device).expand(batch, width) >= start
        if self._memory and not self._step and bool((self._prompt_end() >= 0).any()):
            self._memory.clear()  # of earlier prompts

    def _start(self, generation: dict[str, Any], cached: int, width: int) -> int:
        """Position of the first generated token of a call inside `generate`."""
        if generation["length"] is None:
            generation["length"] = cached + width
        elif not generation["started"] and cached + width < generation["length"] and self._depends:
            raise RuntimeError("a prompt in chunks may be prompt or generated: generate without prefill_chunk_size")
        generation["started"] = True
        return min(max(generation["length"] - cached, 0), width)

    def _refuse_continuation(self, tokens: Tensor) -> None:
        previous, self._previous = self._previous, tokens
        if previous is None or not self._depends or tokens.shape[:2] != (previous.shape[0], previous.shape[1] + 1):
            return
        if tokens.dtype == previous.dtype and torch.equal(previous, tokens[:, :-1]):
            raise RuntimeError(
                "this call repeats the call before and adds one token, which may be prompt or generated: state it with "
                "handle.mark, or use generate"
            )

    def _mask(self, arguments: dict[str, Any], tokens: Tensor, cached: int) -> Tensor:
        """True for real tokens, False for padding."""
        batch, width = tokens.shape[:2]
        mask = arguments.get("attention_mask")
        if not self._depends:
            return torch.ones(batch, width, dtype=torch.bool, device=tokens.device)
        if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] >= width:
            mask = mask[:, -width:].bool()
        elif mask is not None and self._generation is None:
            raise RuntimeError("a steered model reads padding from an attention_mask [batch, token]")
        else:  # a static cache gets masks of another shape; those of `generate` itself say the same
            mask = None if self._generation is None else self._generation["mask"]
            if mask is None:
                self._refuse_hidden_padding(tokens)
                mask = torch.ones(batch, width, dtype=torch.bool, device=tokens.device)
            else:
                mask = mask.bool().to(tokens.device).repeat_interleave(batch // len(mask), 0)
                ones = torch.ones(batch, cached + width, dtype=torch.bool, device=tokens.device)
                mask = torch.cat([mask, ones], 1)[:, cached : cached + width]
        positions = arguments.get("position_ids")
        if isinstance(positions, Tensor) and positions.ndim == 2 and positions.shape[1] == width:
            both = mask[:, 1:] & mask[:, :-1]
            if bool(((positions[:, 1:] <= positions[:, :-1]) & both.to(positions.device)).any()):
                raise RuntimeError("several texts in one row: steer one text per row, with padding and attention_mask")
        return mask

    def _refuse_hidden_padding(self, tokens: Tensor) -> None:
        if self._pad is None or len(tokens) < 2 or tokens.ndim != 2:
            return
        pads = tokens == self._pad
        starts = pads[:, 0] if not bool(pads[:, 0].all()) else pads[:, :2].all(dim=1)
        if any(bool(edge.any()) and not bool(edge.all()) for edge in (pads[:, -1], starts)):
            raise RuntimeError("some rows begin or end with the padding token: pass attention_mask")

    def _prompt_end(self) -> Tensor:
        """Position of each row's last prompt token; -1 where its prompt was run before."""
        if self._end is None:
            position = torch.arange(self._real.shape[1], device=self._real.device)
            end = torch.where(self._real & ~self._generated, position, -1).amax(dim=1)
            if len(position) > 1 or not self._past:
                end = torch.where(end < 0, self._real.int().argmax(dim=1), end)
            self._end = end
        return self._end

    def _in_scope(self, scope: str) -> Tensor | None:
        """Mask of a scope's tokens; None for all tokens."""
        if scope == "all" or (self._step and scope != "prompt"):
            return None
        if scope == "generated":
            return self._generated & self._real
        if scope == "prompt":
            return ~self._generated & self._real
        position = torch.arange(self._real.shape[1], device=self._real.device)
        last = torch.where(self._real & ~self._generated, position, -1).amax(dim=1, keepdim=True)
        return (position[None] == last) | (self._generated & self._real)

    # ------------------------------------------------------------ hooks on modules

    def _entering(self, point: dict[str, Any]) -> Callable[..., Any]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                new = self._run(point, args[0])
                return None if new is args[0] else ((new, *args[1:]), kwargs)
            name = next(key for key, value in kwargs.items() if isinstance(value, Tensor))
            new = self._run(point, kwargs[name])
            return None if new is kwargs[name] else (args, kwargs | {name: new})

        return hook

    def _leaving(self, point: dict[str, Any]) -> Callable[..., Any]:
        def hook(_: nn.Module, _args: tuple[Any, ...], out: Any) -> Any:
            x = out[0] if isinstance(out, tuple) else out
            new = self._run(point, x)
            if new is x:
                return None
            return (new, *out[1:]) if isinstance(out, tuple) else new

        return hook

    def _run(self, point: dict[str, Any], x: Tensor) -> Tensor:
        """Run the readers and steps of one point on its activation."""
        if not self.active:
            return x
        if not self._running:
            raise RuntimeError("a part of a steered model was called by itself: call the whole model")
        shape = tuple(self._real.shape)
        flat = x.ndim == 2  # an MLP that sees all tokens in one dimension
        h = x.unflatten(0, shape) if flat else x
        if point["record"]:
            self._sites[point["layer"], point["record"]] = h
        for gate in point["gates"]:
            self._decide(gate, point["layer"], h)
        new = h
        for number in point["steps"]:
            new = self._apply(self.about["steps"][number], new)
        return x if new is h else (new.flatten(0, 1) if flat else new)

    def _tensor(self, name: str, device: torch.device) -> Tensor:
        key = (name, device)
        if key not in self._on:
            with torch.inference_mode(False):
                self._on[key] = self._tensors[name].to(device)
        return self._on[key]

    def _decide(self, number: int, layer: int, h: Tensor) -> None:
        """Store which tokens a gate opens at a layer."""
        gate = self.about["gates"][number]
        weight = self._tensor(f"gate.{number}.{layer}", h.device)
        opened = h.float() @ weight > gate["limits"][str(layer)]
        if gate["unit"] == "query":  # one decision per text, at its prompt's last token
            end, memory = self._prompt_end().to(h.device), self._memory.setdefault(f"gate {number}", {})
            if bool((end >= 0).all()):
                memory[str(layer)] = opened.gather(1, end.clamp(min=0)[:, None])
            opened = self._recall(memory, str(layer), h).expand(-1, h.shape[1])
        self._open[number, layer] = opened

    @staticmethod
    def _recall(memory: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        stored = memory.get(name)
        if stored is None or len(stored) != len(x):
            raise RuntimeError("an edit that reads the prompt never saw it: run the prompt after attach")
        return stored

    def _apply(self, step: dict[str, Any], x: Tensor) -> Tensor:
        """The activation after one step, at the tokens of its scope and gate."""
        if step["scope"] == "prompt" and self._step and not step["informed"]:
            return x
        selected = self._in_scope(step["scope"])
        if step["gate"] is not None:
            opened = self._open[step["gate"], step["layer"]]
            selected = opened if selected is None else opened & selected.to(opened.device)
        if selected is not None:
            selected = selected.to(x.device)
        memory = self._memory.setdefault(f"edit {step['edit']}", {}) if step["informed"] else {}
        tensors = {key: self._tensor(name, x.device) for key, name in step["tensors"].items()}
        new = _KINDS[step["kind"]](_Call(self, step, tensors, x, selected, memory))
        if step["pace"] is not None:
            if step["pace"]["first"]:
                memory["factor"] = self._factor(step["pace"], memory)
            factor = memory["factor"].to(x.device)[..., None]
            new = torch.where(factor == 1, new, torch.lerp(x.float(), new.float(), factor).to(x.dtype))
        return new if selected is None else torch.where(selected[..., None], new, x)

    def _factor(self, pace: dict[str, Any], memory: dict[str, Tensor]) -> Tensor:
        """Share of a paced step at each token."""
        new = self._generated & self._real
        factor = torch.ones(new.shape, device=new.device)
        if pace["half_life"] is not None:
            before = memory.get("count", torch.zeros(len(new), dtype=torch.long, device=new.device))
            number = before[:, None] + new.long().cumsum(1) - 1
            factor = torch.where(new, 0.5 ** (number / pace["half_life"]), factor)
            memory["count"] = before + new.sum(1)
        if pace["no_repeat"] is not None:
            if self._ids is None:
                raise RuntimeError("this edit reads token ids: call the model with input_ids")
            ids = torch.where(new, self._ids.to(new.device), -1)
            history = torch.cat([memory["ids"], ids], 1) if "ids" in memory else ids
            factor = factor * ~_repeats(history, ids.shape[1], pace["no_repeat"])
            memory["ids"] = history
        return factor


# ---------------------------------------------------------------- the kinds of steps


@dataclass
class _Call:
    """One step in one call of the model: `at` has the edited coordinates of the activation `x`."""

    handle: Handle
    step: dict[str, Any]
    tensors: dict[str, Tensor]
    x: Tensor
    selected: Tensor | None
    memory: dict[str, Tensor]

    @property
    def at(self) -> Tensor:
        return self.x.index_select(-1, self.tensors["index"])

    def put(self, new: Tensor) -> Tensor:
        """The activation with new values at the edited coordinates."""
        return self.x.index_copy(-1, self.tensors["index"], new.to(self.x.dtype))

    def mixed(self, target: Tensor) -> Tensor:
        dose: float = self.step["dose"]
        return target if dose == 1.0 else self.at + dose * (target - self.at)

    def need(self, odds: Tensor) -> Tensor:
        """Log-odds to add."""
        dose, low, high = (self.step[name] for name in ("dose", "lowest", "highest"))
        if dose >= 0:
            return (dose - (odds if low is None else odds.clamp(min=low))).clamp(min=0.0)
        return (dose - (odds if high is None else odds.clamp(max=high))).clamp(max=0.0)


def _add(call: _Call) -> Tensor:
    return (call.x + call.tensors["row"]).to(call.x.dtype)


def _scale(call: _Call) -> Tensor:
    return call.put(call.at * call.tensors["factor"])


def _clamp(call: _Call) -> Tensor:
    h, level = call.at, call.tensors["level"]
    return call.put(torch.where(call.tensors["up"], torch.maximum(h, level), torch.minimum(h, level)))


def _replace(call: _Call) -> Tensor:
    return call.put(call.mixed(call.tensors["target"].expand_as(call.at)))


def _resample(call: _Call) -> Tensor:
    """Each token takes the activation of another token of its prompt, drawn by its position."""
    h, name, memory, draws = call.at, str(call.step["layer"]), call.memory, call.tensors["draws"]
    generated, real = (mask.to(h.device) for mask in (call.handle._generated, call.handle._real))
    if name not in memory or bool((call.handle._prompt_end() >= 0).any()):
        prompt = real & ~generated
        pool = torch.where(prompt.sum(dim=1, keepdim=True) < 2, real, prompt)
        order = (~pool).to(torch.uint8).argsort(dim=1, stable=True)
        size = pool.sum(dim=1)
        width = max(int(size.max()), 1)
        memory[name] = h.gather(1, order[:, :width, None].expand(-1, -1, h.shape[-1]))
        memory[f"{name} size"] = size
        before = torch.zeros(len(h), dtype=torch.long, device=h.device)
    else:
        before = memory[f"{name} run"]
    size = memory[f"{name} size"][:, None]
    if bool((size < 2).any()):
        raise RuntimeError("resampling draws from the other tokens of the prompt, and a prompt has a single token")
    position = (before[:, None] + real.long().cumsum(1) - 1).clamp_min(0)
    memory[f"{name} run"] = before + real.sum(dim=1)
    if int(position.max()) >= len(draws):
        raise RuntimeError(f"this edit holds draws for {len(draws)} tokens, and the text is longer")
    inside = position < size
    target = (draws[position] * torch.where(inside, size - 1, size).clamp_min(1)).long()
    target = torch.minimum(target + (inside & (target >= position)).long(), size - 1)
    return call.put(call.mixed(memory[name].gather(1, target[..., None].expand(-1, -1, h.shape[-1]))))


def _probe(call: _Call) -> Tensor:
    h = call.at.float()
    lacking = call.need(h @ call.tensors["weight"] + call.step["bias"])
    return call.put(h + lacking[..., None] * call.tensors["unit"])


def _prompt_probe(call: _Call) -> Tensor:
    """The need of the prompt's last token, met at every token."""
    x, memory, unit, name = call.x, call.memory, call.tensors["unit"], f"need {call.step['layer']}"
    end = call.handle._prompt_end().to(x.device)
    inside = end >= 0
    if call.selected is not None:
        inside = inside & call.selected.gather(1, end.clamp(min=0)[:, None]).squeeze(1)
    if bool((end >= 0).all()):
        absent = memory.get("absent", torch.zeros_like(x[:, 0], dtype=torch.float32)).to(x.device)
        e = x[torch.arange(len(x), device=x.device), end].float() + absent
        memory[name] = call.need(e @ call.tensors["weight"] + call.step["bias"])
        memory["absent"] = absent + (~inside)[:, None] * memory[name][:, None] * unit
    lacking = call.handle._recall(memory, name, x).to(x.device)
    return (x.float() + lacking[:, None, None] * unit).to(x.dtype)


def _gate_shift(call: _Call) -> Tensor:
    """Raise a neuron's gate, or the neuron itself where the MLP has no gate."""
    raised, silenced, index = (call.tensors[name] for name in ("up", "down", "index"))

    def moved(a: Tensor) -> Tensor:
        return a + raised - silenced * a.clamp(min=0.0)

    if call.step["activation"] is None:
        return call.put(moved(call.at))
    sites = [call.handle._sites[call.step["layer"], site].to(index.device) for site in ("gate", "up")]
    gate, up = (site.index_select(-1, index) for site in sites)
    a = call.handle._modules[call.step["activation"]].forward(gate)
    return call.put(call.at + (moved(a) - a) * up)


_KINDS: dict[str, Callable[[_Call], Tensor]] = {
    "add": _add,
    "scale": _scale,
    "clamp": _clamp,
    "replace": _replace,
    "resample": _resample,
    "probe": _probe,
    "prompt probe": _prompt_probe,
    "gate shift": _gate_shift,
}


def _repeats(ids: Tensor, last: int, n: int) -> Tensor:
    """Whether the n-gram that ends at each of the last tokens occurred earlier in its row (-1 belongs to none)."""
    out = torch.zeros((len(ids), last), dtype=torch.bool, device=ids.device)
    if ids.shape[1] < n:
        return out
    grams = ids.unfold(1, n, 1)
    count = grams.shape[1]
    ends = min(last, count)
    equal = (grams[:, -ends:, None] == grams[:, None]).all(-1) & (grams >= 0).all(-1)[:, None]
    number = torch.arange(count, device=ids.device)
    out[:, -ends:] = (equal & (number < number[-ends:, None])).any(-1)
    return out


def _checkpoints(model: nn.Module) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) is True for module in model.modules())
