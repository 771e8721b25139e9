"""Settings of a study, and the budgets of the profiles."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from typing import Any

from neva_tl import models
from neva_tl.activations.pooling import Weighted
from neva_tl.core.arguments import CheckedArguments
from neva_tl.core.auto import AUTO, Auto, auto_of
from neva_tl.core.errors import InputError
from neva_tl.core.method_records import METHODS as METHOD_RECORDS
from neva_tl.core.names import as_name, spelling
from neva_tl.core.theories import SCHWARTZ, THEORIES, TheorySpec, ValueName, ValueTheory, find_theory, in_order
from neva_tl.editing import SCOPES, Scope
from neva_tl.evaluation.judges.registry import JUDGES, known_judges
from neva_tl.models.sources import is_demo, label
from neva_tl.prompts import ContrastSet, load
from neva_tl.prompts.registry import BUILT_IN
from neva_tl.selection import SELECTORS

#: Methods of the headline table, in its order.
METHODS: tuple[str, ...] = ("neva", "neva_shift", "caa", "caa_projected", "random", "role")


@dataclass(frozen=True)
class Profile:
    """Budget of a study.

    Attributes:
        validation: Open prompts (text judge) or items of each value (log-probability judge) to validate on, hash-ranked.
        test: The same of the test split.
        samples: Texts per open prompt.
        max_new_tokens: Length of a text.
        targets: Gains at which methods are matched, in the judge's unit.
        refine: Dose evaluations spent on bracketing each target.
        neutral: Held-out neutral texts for perplexity and KL.
        questions: Multiple-choice items.
        rows_per_value: Cap on training rows of each value and pole (0 = all).
        text_values: Values whose texts are generated where the judge itself reads none.
        text_prompts: Prompts for each of these values.
        n_boot: Bootstrap draws.
        forms: Forms of the contrast set that the log-probability judge scores, where the set has forms.

    Example:
        >>> quick, full = nv.study.PROFILES["text", "quick"], nv.study.PROFILES["text", "full"]
        >>> quick.test, full.test
        (60, 72)
    """

    validation: int
    test: int
    samples: int
    max_new_tokens: int
    targets: tuple[float, ...]
    refine: int
    neutral: int
    questions: int
    rows_per_value: int = 0
    text_values: int = 3
    text_prompts: int = 4
    n_boot: int = 1000
    forms: tuple[str, ...] = ("question_1st", "question_3rd")


#: (judge kind, profile name) -> profile. Text judges read generations, the log-probability judge reads answers. Texts that a
#: local model is asked about (`asked`) are answers of a few sentences: each costs it seconds, and each value further ones.
PROFILES: dict[tuple[str, str], Profile] = {
    ("text", "quick"): Profile(48, 60, 1, 20, (0.2, 0.4), 2, 40, 40),
    ("text", "full"): Profile(48, 72, 6, 24, (0.2, 0.4), 4, 200, 300, n_boot=2000),
    ("asked", "quick"): Profile(12, 24, 1, 60, (0.2,), 1, 10, 0, rows_per_value=80),
    ("asked", "full"): Profile(25, 42, 1, 80, (0.2, 0.4), 3, 20, 0, n_boot=2000),
    ("model", "quick"): Profile(12, 16, 1, 40, (0.4,), 2, 10, 0, rows_per_value=80),
    ("model", "full"): Profile(16, 48, 1, 48, (0.2, 0.4), 4, 20, 0, text_values=10, text_prompts=20, n_boot=2000),
}


#: Types of the settings in a manifest; text where none is listed. Settings in `_LISTS` are lists of texts.
_TYPES: dict[str, Any] = {
    "k": (Integral, type(None)),
    "seed": Integral,
    "chat": (bool, type(None)),
    "selection": Mapping,
    "overrides": Mapping,
    "theory": (str, Mapping, ValueTheory, type(None)),
    "sae": (str, type(None)),
}
_LISTS = ("values", "methods")


@dataclass(frozen=True)
class StudyConfig(metaclass=CheckedArguments):
    """All settings that determine the result of a study; a run folder belongs to one.

    Attributes:
        model: Argument of `neva_tl.load`.
        prompts: Argument of `neva_tl.prompts.load`.
        judge: `logprob`, or an argument of `evaluation.judges.load_judge` (a judge of texts); `auto` is exact on the demo model
            and logprob elsewhere.
        profile: `quick` or `full`.
        values: Steered values (all of the theory are always measured where the judge can); empty for all of the prompts.
        methods: Registry names of `neva_tl.methods`.
        selector: Selector of the neuron-level methods; `auto` is `neva` on the demo model and `margin` elsewhere.
        k: Neurons per value; None takes the selector's default (`core.auto`, else its own).
        selection: Further options of the selector; empty takes those of `core.auto`, where it has some.
        scope: Token scope of every edit; `auto` is `last` on the demo model and `generated` elsewhere.
        gate: `relevance` puts the same relevance gate on every method, `none` leaves them as they are; `auto` is `relevance`
            on the demo model (an edit of a token that names no value breaks its strict grammar), `none` elsewhere.
        seed: Seed of sampling, placebos and bootstraps.
        dtype: Number format of the model.
        matmul: `bf16` computes the matrix products of a float32 model in bfloat16; `float32` is stored nowhere.
        chat: Force or forbid the chat template; None uses it where there is one.
        overrides: Profile fields that replace those of the profile.
        theory: Theory of the values: a name, a file or its data; None takes the one that the prompts imply.
        sae: Folder (or repository of the hub) of sparse autoencoders for the method `sae`; None trains a small one.

    Example:
        >>> config = nv.study.StudyConfig(model="demo", values=("power",)).resolved()
        >>> config.judge, config.scope, config.gate
        ('exact', 'last', 'relevance')
    """

    model: str = "demo"
    prompts: str = "auto"
    judge: str = "auto"
    profile: str = "quick"
    values: tuple[ValueName, ...] = ()
    methods: tuple[str, ...] = METHODS
    selector: str = "auto"
    k: int | None = None
    selection: Mapping[str, Any] = field(default_factory=dict)
    scope: str = "auto"
    gate: str = "auto"
    seed: int = 0
    dtype: str = "float32"
    matmul: str = "float32"
    chat: bool | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    theory: TheorySpec | None = None
    sae: str | None = None

    @classmethod
    def from_manifest(cls, fields: Mapping[str, Any]) -> StudyConfig:
        """Restore a study from its manifest.

        Args:
            fields: The manifest's `config` (in JSON, tuples are lists).

        Raises:
            InputError: A field is unknown, or has another type.
        """
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        for name, setting in settings.items():
            if name not in cls.__dataclass_fields__:
                raise InputError(f"unknown setting {name!r} of a study")
            texts = isinstance(setting, tuple) and all(isinstance(item, str) for item in setting)
            if not (texts if name in _LISTS else isinstance(setting, _TYPES.get(name, str))):
                raise InputError(f"the setting {name} of a study is {setting!r:.60}, of type {type(setting).__name__}")
        return cls(**settings)

    def resolved(self, pairs: ContrastSet | None = None) -> StudyConfig:
        """Return the same study with every `auto` decided.

        Args:
            pairs: The prompts, if loaded. Without them the values of prompts of one's own stay open.

        Raises:
            InputError: An option is unknown, or a value is not one of the theory's.
        """
        written = self._spelled()
        auto = self.auto
        prompts = auto.prompts if written.prompts == AUTO else written.prompts
        prompts = spelling(prompts, BUILT_IN) or prompts
        theory = None if self.theory is None else find_theory(self.theory)
        if pairs is not None:
            theory = pairs.theory
        elif theory is None and prompts in BUILT_IN:
            theory = _theory_of(prompts)
        of_schwartz = theory is None or theory == SCHWARTZ
        decided = replace(
            written,
            prompts=prompts,
            # the exact judge knows Schwartz's values only
            judge=(auto.judge if of_schwartz else "logprob") if written.judge == AUTO else written.judge,
            scope=auto.scope if written.scope == AUTO else written.scope,
            gate=auto.gate if written.gate == AUTO else written.gate,
        )
        decided._check()
        # the theory of built-in prompts is the default of a study on them and leaves its identity as it was
        values = self.values
        if not values and theory is not None:
            values = pairs.values if pairs is not None and not of_schwartz else theory.names
        implied = prompts in BUILT_IN and theory == _theory_of(prompts)
        record = None if self.theory is None or implied else _record(find_theory(self.theory))
        return replace(decided, **decided._selection(), values=in_order(values, theory), theory=record)

    def load_prompts(self) -> ContrastSet:
        """Load the study's prompts under its theory.

        Raises:
            InputError: See `prompts.load`.
        """
        return load(self.prompts, theory=self.theory)

    def load_model(self, name: str | None = None) -> models.Model:
        """Load the study's model in its number format and precision of matrix products.

        Args:
            name: Another name or folder of the model; None takes the study's.

        Raises:
            InputError: See `models.load`.
        """
        return models.load(name or self.model, dtype=self.dtype, matmul=self.matmul)  # type: ignore[arg-type]

    def _spelled(self) -> StudyConfig:
        """Return the study with the names that differ from ours in case, hyphens or underscores written as ours."""
        allowed = {
            "scope": (*SCOPES, "auto"),
            "gate": ("relevance", "none", "auto"),
            "profile": ("quick", "full"),
            "selector": (*SELECTORS, "auto"),
            "judge": (*JUDGES, "logprob", "auto"),
        }
        names: dict[str, Any] = {
            name: spelling(getattr(self, name), choices) or getattr(self, name) for name, choices in allowed.items()
        }
        return replace(self, **names, methods=tuple(as_name("method", name, METHOD_RECORDS) for name in self.methods))

    def _check(self) -> None:
        """Check the decided options, except the selector and the values.

        Raises:
            InputError: An option is unknown or unusable.
        """
        judge, scope, gate = self.judge, self.scope, self.gate
        if judge != "logprob" and judge.partition(":")[0] not in JUDGES:
            raise InputError(f"unknown judge {judge!r}: choose logprob, {known_judges()}")
        if judge == "exact" and not self.demo:
            raise InputError(
                "the exact judge knows only the demo model's language: use --judge logprob, or one that reads any text"
            )
        if scope not in SCOPES:
            raise InputError(f"unknown token scope {scope!r}: choose one of {', '.join(SCOPES)}")
        if gate not in ("relevance", "none"):
            raise InputError(f"unknown gate {gate!r}: choose relevance, none or auto")
        if self.profile not in ("quick", "full"):
            raise InputError(f"unknown profile {self.profile!r}: choose quick or full")
        if self.k is not None and self.k < 1:
            raise InputError(f"k is a positive number of neurons, not {self.k}")
        if self.matmul not in ("float32", "bf16"):
            raise InputError(f"unknown matmul {self.matmul!r}: choose float32 or bf16")
        if self.matmul == "bf16" and self.dtype.removeprefix("torch.") not in ("float32", "auto"):
            raise InputError(f"matmul='bf16' is for models in float32, not {self.dtype}: leave out one of the two")

    def _selection(self) -> dict[str, Any]:
        """Return the decided fields of the selection.

        These are `selector`, and `selection` and `k` where they differ.

        Raises:
            InputError: The selector is unknown.
        """
        selector = self.auto.selector if self.selector == AUTO else self.selector
        if selector not in SELECTORS:
            raise InputError(f"unknown selector {selector!r}: choose auto, {', '.join(SELECTORS)}")
        if self.selection:
            return {"selector": selector}
        settings = self.auto.settings(selector)
        return {
            "selector": selector,
            "selection": dict(settings.options),
            "k": settings.k if self.k is None else self.k,
        }

    @property
    def demo(self) -> bool:
        """Whether the model is a demo model: the shipped one, or `demo:FOLDER`."""
        return is_demo(self.model)

    @property
    def auto(self) -> Auto:
        """Decisions for this kind of model."""
        return auto_of(self.demo)

    @property
    def open_prompts(self) -> str:
        """Argument of `prompts.open_prompts`: the built-in set of the study's prompts, else Schwartz's."""
        if self.demo:
            return "demo"
        return self.prompts if self.prompts in BUILT_IN and self.prompts != "demo" else "schwartz"

    @property
    def pooling(self) -> Weighted:
        """Pooling of activations over the tokens of a text."""
        return self.auto.pooling

    @property
    def decisions(self) -> str:
        """The decided settings of the edits in one line, as commands print them."""
        decided = self.resolved()
        options = [f"{name} {option}" for name, option in decided.selection.items()]
        options += [] if decided.k is None else [f"at most {decided.k} neurons"]
        selector = decided.selector + (f" ({', '.join(options)})" if options else "")
        chat = {None: "where the model has one", True: "yes", False: "no"}[decided.chat]
        return (
            f"selector {selector}, scope {decided.scope}, gate {decided.gate}, pooling {decided.pooling}, "
            f"chat template {chat}"
        )

    @property
    def kind(self) -> str:
        """`model` for judges that ask the model itself, `text` for judges that read texts, `asked` for a local model as judge."""
        if self.judge == "logprob":
            return "model"
        return "asked" if self.judge.partition(":")[0] == "llm" else "text"

    def spending(self) -> Profile:
        """Return the profile with the overrides applied.

        Raises:
            InputError: An override names no profile field, or a target gain is not above 0.
        """
        # lists come from a manifest; ascending floats because the last target is the headline and cells are named so
        overrides: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in self.overrides.items()}
        try:
            if "targets" in overrides:
                overrides["targets"] = tuple(sorted(float(target) for target in overrides["targets"]))
            profile = replace(PROFILES[self.kind, self.profile], **overrides)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"unknown or unusable profile setting among {', '.join(self.overrides)}") from error
        if not profile.targets or not all(0 < target < math.inf for target in profile.targets):
            raise InputError(f"target gains must be above 0, not {', '.join(map(str, profile.targets)) or 'none'}")
        return profile

    def token_scope(self) -> Scope:
        """Return the decided scope."""
        return self.resolved().scope  # type: ignore[return-value]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain data.

        A model folder is stored by its name, without its path: the manifest distinguishes folders by their weights.
        """
        settings = asdict(replace(self, theory=None)) | {"model": label(self.model), "theory": self.theory}
        # with these defaults a study is stored as before the settings existed
        defaults = {"theory": None, "sae": None, "matmul": "float32"}
        return json.loads(
            json.dumps({name: x for name, x in settings.items() if name not in defaults or x != defaults[name]})
        )

    def hash(self) -> str:
        """Return the identity of the study, a sha256 of its decided options and profile.

        The methods are not part of it: the measurements of a method do not depend on the other methods, so further methods can
        be added to a run folder.
        """
        decided = self.resolved()
        options = {name: option for name, option in decided.to_json().items() if name != "methods"}
        text = json.dumps([options, asdict(decided.spending())], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _theory_of(prompts: str) -> ValueTheory:
    """Return the theory of a built-in set of prompts: the one of its name, else Schwartz's."""
    return THEORIES.get(prompts, SCHWARTZ)


def _record(theory: ValueTheory) -> str | dict[str, Any]:
    """Return a theory as a manifest stores it: the name of a built-in one, else its data."""
    return theory.name if THEORIES.get(theory.name) == theory else theory.to_json()
