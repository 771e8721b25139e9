"""A value theory as data: names and definitions, and where it has them angles, groups, opposites, word lists and colours."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neva_tl.core.brief import brief
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, first_line, read_json
from neva_tl.core.names import describe, did_you_mean, spelling
from neva_tl.core.theories.palette import colour_at

#: Longest name of a value: names are table columns and file names.
LONGEST_NAME = 80
_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_FIELDS = ("name", "definition", "angle", "wedge_angle", "groups", "opposites", "colour", "words")


def check_name(name: object, where: str = "") -> str:
    """Return the name of a value after checking that tables, figures and files can use it.

    Args:
        name: The name.
        where: Position of the name for messages, such as a file and its line.

    Raises:
        InputError: It is not a text of 1 to 80 characters, or holds a character that file names cannot have.

    Example:
        >>> nv.theories.check_name("thrift")
        'thrift'
        >>> nv.theories.check_name("a/b")
        Traceback (most recent call last):
            ...
        neva_tl.core.errors.InputError: the name of a value is 'a/b': leave out ...
    """
    lead = f"{where}: " if where else ""
    if not isinstance(name, str):
        raise InputError(f"{lead}the name of a value is {name!r:.60}: a text is expected, not {type(name).__name__}")
    if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME:
        raise InputError(
            f"{lead}the name of a value is {name!r:.100}: 1 to {LONGEST_NAME} characters without spaces at the ends are "
            "expected"
        )
    if _FORBIDDEN.search(name) or name.startswith(".") or any(unicodedata.category(c)[0] == "C" for c in name):
        raise InputError(
            f'{lead}the name of a value is {name!r}: leave out / \\ : * ? " < > |, control characters and a leading '
            "dot, because files carry the name"
        )
    return name


@dataclass(frozen=True)
class Value:
    """One value or concept of a theory.

    Attributes:
        name: Its name, used in tables, files and figures.
        definition: Meaning in one sentence; "" without one.
        angle: Position on the theory's circle in degrees; None without a circle.
        wedge_angle: Position under the theory's second reading of the circle, where some values share a position; None
            without such a reading.
        groups: Higher-order groups; empty without groups.
        opposites: Names of opposed values; empty where the theory names none.
        colour: Colour of figures as `#rrggbb`; "" takes one from a fixed palette.
        words: Words that express the value; empty without a list.

    Example:
        >>> thrift = nv.theories.Value("thrift", "Spending little and saving what is left.", colour="#2a9d8f")
        >>> nv.ValueTheory("mine", (thrift,)).value("thrift").definition
        'Spending little and saving what is left.'
    """

    name: str
    definition: str = ""
    angle: float | None = None
    wedge_angle: float | None = None
    groups: tuple[str, ...] = ()
    opposites: tuple[str, ...] = ()
    colour: str = ""
    words: tuple[str, ...] = ()

    __repr__ = brief

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.colour and not _COLOUR.fullmatch(self.colour):
            raise InputError(f"the colour of {self.name} is {self.colour!r}: write it as #rrggbb")
        for field in ("angle", "wedge_angle"):
            object.__setattr__(self, field, _angle(getattr(self, field), f"the {field} of {self.name}"))
        for field in ("groups", "opposites", "words"):
            object.__setattr__(self, field, _texts(getattr(self, field), f"the {field} of {self.name}"))

    @property
    def meaning(self) -> str:
        """The definition as text for prompts: the name where the theory gives no definition."""
        return self.definition or f"{self.name.replace('-', ' ')}."

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set."""
        fields = {field: getattr(self, field) for field in _FIELDS}
        return {
            field: list(entry) if isinstance(entry, tuple) else entry
            for field, entry in fields.items()
            if entry is not None and entry not in ("", ())
        }


@dataclass(frozen=True, repr=False)
class ValueTheory:
    """The values of a theory and its statements about them, in its order.

    Every matrix and table has its rows and columns in that order. A measure or picture that needs what the theory lacks
    (circle, groups, opposites) is left out.

    Attributes:
        name: Name of the theory.
        values: The values, at least one.
        description: Source of the theory, in a sentence; "" without one.

    Example:
        >>> theory = nv.ValueTheory.from_names(["honesty", "thrift"])
        >>> theory.names, theory.has_circle
        (('honesty', 'thrift'), False)
        >>> nv.theories.SCHWARTZ.neighbours("power")
        ('achievement', 'security')
    """

    name: str
    values: tuple[Value, ...]
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("a value theory needs a name")
        values = tuple(self.values)
        if not values:
            raise InputError(f"the theory {self.name} has no values: give at least one")
        folded: dict[str, str] = {}
        for one in values:
            other = folded.setdefault(one.name.casefold(), one.name)
            if other is not one.name:
                raise InputError(
                    f"the theory {self.name} names {other!r} and {one.name!r}: names must differ in letters"
                )
        names = {one.name for one in values}
        for one in values:
            for opposite in one.opposites:
                if opposite not in names or opposite == one.name:
                    raise InputError(
                        f"the theory {self.name}: {one.name} opposes {opposite!r}, not another of its values"
                    )
        placed = [one.name for one in values if one.angle is not None]
        if placed and len(placed) < len(values):
            absent = next(one.name for one in values if one.angle is None)
            raise InputError(
                f"the theory {self.name}: {placed[0]} has an angle and {absent} has none: give all or none"
            )
        values = tuple(one if one.colour else replace(one, colour=colour_at(i)) for i, one in enumerate(values))
        object.__setattr__(self, "values", values)

    # ------------------------------------------------------------ values

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the values, in the theory's order."""
        return tuple(one.name for one in self.values)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._position

    def index(self, name: str) -> int:
        """Return the index of a value.

        Args:
            name: Name of the value; case, spaces, hyphens and underscores do not matter.

        Raises:
            InputError: The theory has no such value; the message lists its values.
        """
        match = spelling(name, self.names)
        if match is None:
            raise InputError(f"unknown value {describe(name)}: {self._choices(name)}")
        return self._position[match]

    def value(self, name: str) -> Value:
        """Return a value by its name.

        Args:
            name: Name of the value.

        Raises:
            InputError: See `index`.
        """
        return self.values[self.index(name)]

    def in_order(self, names: Iterable[object]) -> tuple[str, ...]:
        """Sort distinct names by the theory's order.

        Args:
            names: Names of values; repeated ones count once.

        Raises:
            InputError: A name is not a value of the theory.

        Example:
            >>> nv.theories.SCHWARTZ.in_order(["power", "hedonism"])
            ('hedonism', 'power')
        """
        indices = {self.index(name) for name in sorted({str(name) for name in names})}
        return tuple(name for i, name in enumerate(self.names) if i in indices)

    def subset(self, names: Iterable[str]) -> ValueTheory:
        """Return the theory of some of the values; opposites outside them are dropped.

        Args:
            names: Names of values.

        Raises:
            InputError: A name is not a value of the theory.

        Example:
            >>> nv.theories.SCHWARTZ.subset(["security", "power"]).names
            ('power', 'security')
        """
        selected = self.in_order(names)
        if selected == self.names:
            return self
        values = (self.value(name) for name in selected)
        members = tuple(replace(one, opposites=tuple(o for o in one.opposites if o in selected)) for one in values)
        return ValueTheory(self.name, members, self.description)

    def _choices(self, name: object) -> str:
        listed = f"{', '.join(self.names[:25])}{', ...' if len(self) > 25 else ''}"
        return f"{did_you_mean(name, self.names)}the values of the theory {self.name} are {listed}"

    # ------------------------------------------------------------ structure

    @property
    def has_circle(self) -> bool:
        """Whether the values have positions on a circle."""
        return all(one.angle is not None for one in self.values)

    @property
    def has_wedge(self) -> bool:
        """Whether the theory has a second reading of its circle, in which values share a position."""
        return all(one.wedge_angle is not None for one in self.values)

    @property
    def has_groups(self) -> bool:
        """Whether every value belongs to a higher-order group, and there are two groups or more."""
        return all(one.groups for one in self.values) and len({g for one in self.values for g in one.groups}) > 1

    @property
    def has_opposites(self) -> bool:
        """Whether the theory names opposed values."""
        return any(one.opposites for one in self.values)

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Members of each higher-order group, groups in the order of their first value."""
        order = dict.fromkeys(group for one in self.values for group in one.groups)
        return {group: tuple(one.name for one in self.values if group in one.groups) for group in order}

    def distances(self, wedge: bool = False) -> Float[np.ndarray, "v v"]:
        """Compute all pairwise arcs on the circle in degrees, 0 to 180.

        Args:
            wedge: Use the second reading of the circle.

        Raises:
            InputError: The theory has no circle, or no second reading of it.
        """
        if not (self.has_wedge if wedge else self.has_circle):
            raise InputError(f"the theory {self.name} has no circle{' with shared positions' if wedge else ''}")
        angles = np.array([one.wedge_angle if wedge else one.angle for one in self.values], dtype=float)
        arc = np.abs(angles[:, None] - angles[None, :]) % 360.0
        return np.minimum(arc, 360.0 - arc)

    def distance(self, a: str, b: str) -> float:
        """Compute the smaller arc between two values, in degrees.

        Args:
            a: Name of a value.
            b: Name of another.

        Raises:
            InputError: The theory has no circle, or no such value.
        """
        return float(self.distances()[self.index(a), self.index(b)])

    def neighbours(self, name: str) -> tuple[str, str]:
        """Return the values before and after a value on the circle.

        Args:
            name: Name of the value.

        Raises:
            InputError: The theory has no circle, or no such value.
        """
        ring = self._ring()
        index = ring.index(self.value(name).name)
        return ring[index - 1], ring[(index + 1) % len(ring)]

    def steps(self, a: str, b: str) -> int:
        """Count the steps between two values along the circle, the shorter way round: 1 for neighbours.

        Args:
            a: Name of a value.
            b: Name of another.

        Raises:
            InputError: The theory has no circle, or no such value.
        """
        ring = self._ring()
        steps = abs(ring.index(self.value(a).name) - ring.index(self.value(b).name))
        return min(steps, len(ring) - steps)

    def _ring(self) -> list[str]:
        """Return the names by angle; equal angles in the theory's order."""
        if not self.has_circle:
            raise InputError(f"the theory {self.name} has no circle")
        return [one.name for one in sorted(self.values, key=lambda one: float(one.angle or 0.0))]

    def same_group(self, a: str, b: str) -> bool:
        """Test whether two values share a higher-order group.

        Args:
            a: Name of a value.
            b: Name of another.
        """
        return bool(set(self.value(a).groups) & set(self.value(b).groups))

    def opposed(self, a: str, b: str) -> bool:
        """Test whether the theory names one of two values as an opposite of the other.

        Args:
            a: Name of a value.
            b: Name of another.
        """
        return b in self.value(a).opposites or a in self.value(b).opposites

    # ------------------------------------------------------------ making, reading, writing

    @classmethod
    def from_names(cls, names: Iterable[str], name: str = "names") -> ValueTheory:
        """Make a theory of names alone: no definitions, no circle, no groups.

        Args:
            names: Names of values; repeated ones count once.
            name: Name of the theory.

        Example:
            >>> nv.ValueTheory.from_names(["honesty", "thrift"]).names
            ('honesty', 'thrift')
        """
        return cls(name, tuple(Value(one) for one in dict.fromkeys(names)))

    def to_json(self) -> dict[str, Any]:
        """Return the theory as JSON data; `from_json` reads it."""
        about = {"description": self.description} if self.description else {}
        return {"name": self.name, **about, "values": [one.to_json() for one in self.values]}

    @classmethod
    def from_json(cls, data: object, where: str = "the theory") -> ValueTheory:
        """Read a theory from JSON data.

        Args:
            data: `{"name": ..., "values": [...]}`. A value is a mapping with the fields of `Value`, or a name; `values` may
                also map names to definitions or to such mappings.
            where: Name of the source in messages.

        Raises:
            InputError: The data is not a theory; names the entry.
        """
        if not isinstance(data, Mapping) or "values" not in data:
            raise InputError(f"{where}: a theory is a mapping with name and values")
        unknown = [key for key in data if key not in ("name", "description", "values")]
        if unknown:
            raise InputError(f"{where}: unknown field {unknown[0]!r}: a theory has name, description and values")
        for field in ("name", "description"):
            if not isinstance(data.get(field) or "", str):
                raise InputError(f"{where}: the {field} of a value theory is {data[field]!r:.60}: a text is expected")
        raw = data["values"]
        if isinstance(raw, Mapping):
            raw = [_named(name, entry, where) for name, entry in raw.items()]
        if not isinstance(raw, list | tuple):
            raise InputError(f"{where}: values is {raw!r:.60}: a list of values is expected")
        try:
            values = tuple(_value(entry) for entry in raw)
            return cls(data.get("name") or "own", values, data.get("description") or "")
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    @classmethod
    def load(cls, spec: str | Path) -> ValueTheory:
        """Return a built-in theory by its name, or read a .json, .yaml or .yml file.

        Args:
            spec: Name of a built-in theory, or path of a file.

        Raises:
            InputError: Unknown name, the file is missing, or its content is not a theory.

        Example:
            >>> file = nv.ValueTheory.from_names(["honesty", "thrift"], "mine").save("mine.json")
            >>> nv.ValueTheory.load("mine.json").names
            ('honesty', 'thrift')
        """
        if str(spec) in BUILT_IN:
            return BUILT_IN[str(spec)]
        if Path(spec).suffix in (".yaml", ".yml", ".json"):
            return cls.read(spec)
        raise InputError(f"unknown value theory {str(spec)!r}: one of {', '.join(BUILT_IN)}, or a .yaml or .json file")

    @classmethod
    def read(cls, path: str | Path) -> ValueTheory:
        """Read a .json, .yaml or .yml file.

        Args:
            path: The file. A theory without a name takes the file's.

        Raises:
            InputError: The file is missing, or its content is not a theory.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path} does not exist: give the file of a value theory (.yaml or .json)")
        data: Any = read_json(path, "a value theory") if path.suffix == ".json" else _read_yaml(path)
        if isinstance(data, Mapping) and not data.get("name"):
            data = {**data, "name": path.stem}
        return cls.from_json(data, str(path))

    def save(self, path: str | Path) -> Path:
        """Write the theory as .json, .yaml or .yml, by suffix; `load` reads it.

        Args:
            path: File to write; its folder is created when missing.

        Raises:
            InputError: Another suffix.

        Example:
            >>> nv.ValueTheory.from_names(["honesty", "thrift"], "mine").save("mine.json").name
            'mine.json'
        """
        path = Path(path)
        if path.suffix == ".json":
            text = json.dumps(self.to_json(), ensure_ascii=False, indent=1)
        elif path.suffix in (".yaml", ".yml"):
            import yaml

            text = yaml.safe_dump(self.to_json(), allow_unicode=True, sort_keys=False)
        else:
            raise InputError(f"{path}: a value theory is written as .json, .yaml or .yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write_text(text, encoding="utf-8")
        return path

    # ------------------------------------------------------------ display

    def __repr__(self) -> str:
        listed = ", ".join(self.names[:6]) + (", ..." if len(self) > 6 else "")
        return f"ValueTheory({self.name}: {len(self)} values: {listed})"

    def _repr_html_(self) -> str:
        import pandas as pd  # here, since the shell waits for the names of values when it completes them

        table = pd.DataFrame(
            {"value": list(self.names), "definition": [one.definition for one in self.values]}
            | ({"groups": [", ".join(one.groups) for one in self.values]} if self.has_groups else {})
        )
        facts = {"values": len(self), "circle": self.has_circle, "groups": len(self.groups) or None}
        return card(f"Value theory {self.name}", facts, table, note=self.description, rows=25)


def _value(entry: object) -> Value:
    if isinstance(entry, str):
        return Value(entry)
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise InputError(f"a value is {entry!r:.60}: a name, or a mapping with a name, is expected")
    unknown = [key for key in entry if key not in _FIELDS]
    if unknown:
        raise InputError(f"unknown field {unknown[0]!r} of {entry['name']}: a value has {', '.join(_FIELDS)}")
    fields = {field: entry[field] for field in _FIELDS if entry.get(field) is not None}
    name = check_name(fields.pop("name", None))
    for field in ("definition", "colour"):
        if field in fields and not isinstance(fields[field], str):
            raise InputError(f"the {field} of {name} is {fields[field]!r:.60}: a text is expected")
    for field, read in {
        "angle": _angle,
        "wedge_angle": _angle,
        "groups": _texts,
        "opposites": _texts,
        "words": _texts,
    }.items():
        if field in fields:
            fields[field] = read(fields[field], f"the {field} of {name}")
    return Value(name, **fields)


def _named(name: object, entry: object, where: str) -> object:
    if entry is None or isinstance(entry, str):
        return {"name": name, "definition": entry or ""}
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: {name} is {entry!r:.60}: a definition or a mapping is expected")
    return {"name": name, **entry}


def _angle(number: object, what: str) -> float | None:
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float | np.number) or not np.isfinite(number):
        raise InputError(f"{what} is {number!r:.60}: a number of degrees is expected")
    return float(number) % 360.0


def _texts(entry: object, what: str) -> tuple[str, ...]:
    entries = (entry,) if isinstance(entry, str) else entry
    if not isinstance(entries, list | tuple) or not all(isinstance(one, str) and one.strip() for one in entries):
        raise InputError(f"{what} are {entry!r:.60}: a list of texts is expected")
    return tuple(entries)


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is not a value theory in YAML ({first_line(error)})") from error


#: Built-in theories by name, in the order in which names of values are looked up; the registry fills it.
BUILT_IN: dict[str, ValueTheory] = {}
#: Default of artefacts that carry a theory: they replace it by the theory that the names of their values imply.
IMPLIED = ValueTheory("implied", (Value("implied"),))
