"""The result of a steering: the edit with its dose, gain, leakage and cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl import models
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import DAMAGED, atomic_write, first_line, read_json, to_json, writing_into
from neva_tl.core.formatting import plain_interval
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Edit, edit, rewrite
from neva_tl.editing.saved import SavedEdit, load_edit, save_edit
from neva_tl.evaluation.conditions.fluency import admissible
from neva_tl.evaluation.measures.estimate import Estimate
from neva_tl.models.sources import label
from neva_tl.study.report.card_measures import cost_rows
from neva_tl.study.report.control import is_measurable
from neva_tl.study.steering.own_pairs import pairs_fact
from neva_tl.study.steering.saved_model import model_of_edit

FILE = "steering.json"
_KIND = "a steering saved by neva_tl"


@dataclass(frozen=True)
class SteeredTexts:
    """A prompt with its continuations.

    Attributes:
        prompt: The prompt.
        unedited: Continuation by the unedited model.
        edited: Continuation under the edit.
        value: The concept.
    """

    prompt: str
    unedited: str
    edited: str
    value: str

    def __str__(self) -> str:
        return f"prompt:   {self.prompt}\nunedited: {self.unedited}\n{self.value}: {self.edited}"

    def _repr_html_(self) -> str:
        rows = [("unedited", self.unedited), (self.value, self.edited)]
        return card(self.prompt, table=pd.DataFrame(rows, columns=["model", "continuation"]))


@dataclass(frozen=True, eq=False, repr=False)
class SteeringResult:
    """A steered, measured model.

    Attributes:
        value: The concept.
        edit: The edit at its dose (dose 0 where no dose is admissible).
        method: Registered name of the method.
        status: `reached` or `unreached`.
        target: The requested gain.
        dose: Dose of the edit, in the method's unit; None where no dose is admissible.
        validation_gain: Gain on the validation pairs at that dose.
        gain: Gain on the test pairs, with its interval by topic.
        leakage: Mean rise of the other concepts on the test pairs (cross-fitted); undefined where the pairs cover one concept.
        control: Gain of the role prompt on the same test pairs, the positive control of the judge; None for the exact judge, and
            in results of earlier versions.
        effects: Change of each measured concept on the test pairs: `steered, measured, d, lo, hi, n, ...`.
        cost: `kl` (nats per token) and `loss` (rise in nats per token) on neutral text.
        invalid: Share of degenerate texts under the edit.
        invalid_unedited: The same of the unedited model.
        texts_checked: Number of texts behind `invalid`.
        curve: Every dose tried on the validation pairs: `dose, gain, invalid, admissible`.
        judge: Name of the judge.
        unit: Unit of gain and leakage.
        neurons: The selected neurons.
        settings: Decided settings, counts of rows by split, versions.
        advice: What would help where the gain was not reached; else empty.
        name: Name of the model, as passed to `neva_tl.load`.
        capability: Capability and fluency before and after: rows `name, unedited, edited`; empty in results of earlier versions.
        texts: Continuations of the first test prompts, unedited and edited; empty in results of earlier versions.
        model: The loaded model; None in a loaded result until a text is generated.

    Example:
        >>> steered = nv.steer(model, pairs, "power", method="neva_shift", progress=False)
        >>> steered.status, steered.gain.n
        ('reached', 60)
        >>> saved = nv.SteeringResult.load(steered.save("power"), model=model)
        >>> saved.dose == steered.dose
        True
    """

    value: str
    edit: Edit
    method: str
    status: str
    target: float
    dose: float | None
    validation_gain: float | None
    gain: Estimate
    leakage: Estimate
    effects: pd.DataFrame
    cost: Mapping[str, Estimate]
    invalid: float
    invalid_unedited: float
    texts_checked: int
    curve: pd.DataFrame
    judge: str
    unit: str
    neurons: NeuronSet
    settings: Mapping[str, Any]
    advice: str = ""
    name: str = ""
    control: Estimate | None = None
    capability: Sequence[Mapping[str, Any]] = ()
    texts: Sequence[SteeredTexts] = ()
    model: models.Model | None = field(default=None, compare=False)

    @property
    def admissible(self) -> bool:
        """Whether the edited texts are degenerate at most .05 more often than the unedited ones."""
        return bool(admissible(self.invalid, self.invalid_unedited))

    @property
    def measurable(self) -> bool | None:
        """Whether the judge measures the concept here: the interval of `control` is above 0; None without a control."""
        return None if self.control is None else is_measurable(self.control.to_json())

    @property
    def wrong_way(self) -> Estimate | None:
        """Share of test items whose score falls under the edit, ties half; None in results of earlier versions."""
        rows = self.effects[self.effects["measured"] == self.value]
        if "wrong_way" not in rows or not len(rows):
            return None
        row = to_json(rows.iloc[0].to_dict())
        return Estimate(row["wrong_way"], row["wrong_way_lo"], row["wrong_way_hi"], self.gain.n)

    @property
    def card(self) -> dict[str, str]:
        """The result in words, one line per fact."""
        one, origin = len(self.effects) < 2, self.settings.get("own_words") or {}
        return {
            "model": label(self.name),
            "value": self.value,
            **({"pairs": pairs_fact(origin, self.value)} if self.value in (origin.get("values") or {}) else {}),
            "method": f"{self.method}, {len(self.neurons)} neurons of {self.neurons.n_layers * self.neurons.d_mlp:,}",
            "dose": "none is admissible"
            if self.dose is None
            else f"{self.dose:.4g} ({self.status} gain {self.target:g})",
            "gain on validation": "-" if self.validation_gain is None else f"{self.validation_gain:.2f}",
            "gain on test": f"{_shown(self.gain)} ({self.unit}, judge {self.judge}, n = {self.gain.n})",
            **({} if self.wrong_way is None else {"pushed the wrong way": f"{_shown(self.wrong_way)} of the items"}),
            **({} if self.control is None else {"positive control": self._control_fact()}),
            "leakage": "nothing to leak to: the pairs cover one concept" if one else _shown(self.leakage),
            "cost": f"KL {_shown(self.cost['kl'])}, loss {_shown(self.cost['loss'])} nats per token",
            "invalid texts": f"{self.invalid:.0%} of {self.texts_checked} (unedited {self.invalid_unedited:.0%}), "
            + ("admissible" if self.admissible else "not admissible"),
            **({"advice": self.advice} if self.advice else {}),
        }

    def _control_fact(self) -> str:
        assert self.control is not None
        verdict = "" if self.measurable else "not "
        return f"the role prompt gains {_shown(self.control)}: {self.value} is {verdict}measurable by {self.judge}"

    def __repr__(self) -> str:
        dose = "no admissible dose" if self.dose is None else f"dose {self.dose:.4g}"
        facts = f"{self.method}, {dose}, gain {_shown(self.gain)}, {self.status}"
        return f"SteeringResult({self.value} in {label(self.name)}: {facts})"

    def parts(self) -> list[pd.DataFrame]:
        """Return the facts of `str(result)` as a table."""
        return [pd.DataFrame(list(self.card.items()), columns=["fact", "result"])]

    def __str__(self) -> str:
        width = max(len(name) for name in self.card)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in self.card.items())

    def _repr_html_(self) -> str:
        table = pd.DataFrame(list(self.card.items()), columns=["fact", "result"])
        return card(f"{label(self.name)} steered towards {self.value}", table=table, rows=20)

    def show(self) -> Any:
        """Draw gain against dose, and the change of every measured concept (matplotlib)."""
        from neva_tl.plots.steering import steering_plot

        return steering_plot(
            self.curve,
            self.effects,
            value=self.value,
            dose=self.dose,
            target=self.target,
            unit=self.unit,
            title=f"{label(self.name)} steered towards {self.value} ({self.method})",
        )

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 40,
        temperature: float = 0.0,
        seed: int = 0,
        dose: float | None = None,
    ) -> SteeredTexts:
        """Continue a prompt with and without the edit, with common random numbers.

        Args:
            prompt: The prompt.
            max_new_tokens: Length of the continuations.
            temperature: 0 is greedy.
            seed: Seed of the random numbers.
            dose: Another dose; None takes the edit's own.

        Raises:
            InputError: The result was loaded and its model cannot be found, or is another one.
        """
        from neva_tl.models import inference

        model = self.loaded_model()
        options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        options["chat"] = self.settings.get("chat")
        steered = self.edit if dose is None else self.edit.with_dose(dose)
        unedited = inference.generate(model, [prompt], **options)[0]
        with edit(model, steered) as session:
            edited = inference.generate(model, [rewrite(steered, prompt)], session=session, **options)[0]
        return SteeredTexts(prompt, unedited, edited, self.value)

    def loaded_model(self, name: str | None = None) -> models.Model:
        """Return the model; of a loaded result, load it by its name.

        Args:
            name: Another name or folder of the same model, for example after a move; None takes the stored one.

        Raises:
            InputError: The model is not the one that was steered.
        """
        if self.model is None:
            facts = {
                **self.neurons.fingerprint,
                **{key: self.settings[key] for key in ("folder",) if key in self.settings},
            }
            saved = SavedEdit(self.edit, {"name": self.name, **facts})
            object.__setattr__(self, "model", model_of_edit(self.name, saved, name, self.settings.get("dtype")))
        assert self.model is not None
        return self.model

    def save(self, folder: str | Path) -> Path:
        """Write the edit and all results to a folder; `SteeringResult.load` and `neva-tl generate --edit` read it.

        Args:
            folder: The folder; created when missing.

        Returns:
            The folder.

        Raises:
            InputError: The folder cannot be written.
        """
        numbers = {
            "schema": 1,
            "kind": "steering",
            **{name: getattr(self, name) for name in _PLAIN},
            **{name: getattr(self, name).to_json() for name in ("gain", "leakage")},
            "cost": {name: estimate.to_json() for name, estimate in self.cost.items()},
            "control": None if self.control is None else self.control.to_json(),
            **{name: getattr(self, name).to_dict("records") for name in ("curve", "effects")},
            "capability": list(self.capability),
            "texts": [vars(text) for text in self.texts],
            "settings": dict(self.settings),
        }
        about = {"value": self.value, "method": self.method, "card": self.card, "measures": self.measures}
        origin = {name: self.settings[name] for name in ("prompt_hash", "seed", "pooling") if name in self.settings}
        origin |= {"prompts": label(str(self.settings.get("pairs", "")))} if self.settings.get("pairs") else {}
        origin |= {"selection": {name: self.settings.get(name) for name in ("selector", "k", "selection")}}
        with writing_into(Path(folder), "the edit"):
            # the edit comes last: without it the folder is not read, so that a killed save leaves nothing half-written
            self.neurons.save(Path(folder) / "neurons")
            with atomic_write(Path(folder) / FILE) as file:
                file.write_text(json.dumps(to_json(numbers), indent=1, allow_nan=False), encoding="utf-8")
        return save_edit(self.edit, folder, model=self.model, name=self.name, about=about, origin=origin)

    @property
    def measures(self) -> dict[str, Any]:
        """What was measured, as the card of a saved edit shows it (see `neva_tl.editing.readme`)."""
        wrong_way = self.wrong_way
        return to_json(
            {
                **{
                    name: getattr(self, name)
                    for name in ("judge", "unit", "status", "target", "validation_gain", "advice")
                },
                "gain": self.gain.to_json(),
                "wrong_way": None if wrong_way is None else wrong_way.to_json(),
                "control": None if self.control is None else self.control.to_json(),
                "curves": [{"judge": self.judge, "unit": self.unit, "rows": self.curve.to_dict("records")}],
                "leakage": {"mean": self.leakage.to_json(), "rows": self.effects.to_dict("records")},
                "cost": list(self.capability)
                or cost_rows(
                    {"invalid": self.invalid_unedited},
                    {"invalid": self.invalid},
                    {name: estimate.to_json() for name, estimate in self.cost.items()},
                ),
                "texts": [vars(text) for text in self.texts],
            }
        )

    @classmethod
    def load(cls, folder: str | Path, *, model: models.Model | None = None) -> SteeringResult:
        """Read a result that `save` wrote.

        Args:
            folder: The folder.
            model: The loaded model; None loads it by name when a text is generated.

        Raises:
            InputError: The folder does not hold a steering, or it belongs to another model.
        """
        folder = Path(folder)
        saved = load_edit(folder, model=model)
        if not (folder / FILE).is_file():
            raise InputError(f"{folder} holds an edit without its results: read it with nv.load_edit")
        data = read_json(folder / FILE, _KIND)
        settings = dict(data.get("settings") or {})
        if "folder" in saved.model:
            settings["folder"] = saved.model["folder"]
        try:
            state: dict[str, Any] = {name: data[name] for name in _PLAIN}
            state |= {name: Estimate(**data[name]) for name in ("gain", "leakage")}
            state |= {name: pd.DataFrame(data[name]) for name in ("curve", "effects")}
            state["cost"] = {name: Estimate(**estimate) for name, estimate in data["cost"].items()}
            state["control"] = (
                Estimate(**data["control"]) if data.get("control") else None
            )  # earlier versions have none
            state["capability"] = tuple(data.get("capability") or ())
            state["texts"] = tuple(SteeredTexts(**text) for text in data.get("texts") or ())
            neurons = NeuronSet.load(folder / "neurons")
            return cls(edit=saved.edit, **state, neurons=neurons, settings=settings, model=model)
        except DAMAGED as error:
            raise InputError(f"{folder / FILE} is not {_KIND} ({first_line(error)})") from error


#: Fields that are plain data.
_PLAIN = (
    "value", "method", "status", "target", "dose", "validation_gain", "invalid", "invalid_unedited", "texts_checked", "judge",
    "unit", "advice", "name",
)  # fmt: skip


def _shown(estimate: Estimate) -> str:
    return plain_interval(estimate.est, estimate.lo, estimate.hi)
