"""What an adapter says about itself in ``adapter.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from health_pipeline.errors import SourceError

OptionValue = bool | int | float | str

# The moment that decides in which month a row is landed (landing contract).
MONTH_OF = {
    "admissions": "discharged_at",
    "patients": "recorded_at",
    "clinical_events": "recorded_at",
    "claims": "processed_at",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Option(_Strict):
    """A choice the user has; SQL reads it with ``getvariable('<name>')``."""

    default: OptionValue
    description: str


class Input(_Strict):
    """A table of the foreign extract; SQL reads it as ``raw.<name>``, every column as text.

    Attributes:
        files: accepted names of the file, without regard to case; ``.gz``, ``.parquet`` and other folders are allowed.
        required: columns without which the extract cannot be read.
        optional: columns that some versions lack; they are NULL then.
        missing_ok: whether the whole table may be missing; it is empty then.
    """

    files: tuple[str, ...]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    missing_ok: bool = False


class _Description(_Strict):
    title: str
    licence: str = ""
    notes: str = ""
    inputs: Mapping[str, Input]
    options: Mapping[str, Option] = {}
    bundled: Mapping[str, str] = {}


@dataclass(frozen=True)
class Adapter:
    """A foreign format and its SELECTs.

    Attributes:
        name: name of the folder.
        inputs: tables it reads.
        options: choices of the user.
        bundled: data files that lie in the adapter's folder and are read as ``raw.<name>``.
        tables: landing tables it gives, each with the path of its SELECT.
    """

    name: str
    title: str
    folder: Path
    inputs: Mapping[str, Input]
    licence: str = ""
    notes: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    bundled: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def tables(self) -> dict[str, Path]:
        """Landing tables in contract order, with their SELECTs."""
        paths = {name: self.folder / f"{name}.sql" for name in MONTH_OF}
        return {name: path for name, path in paths.items() if path.exists()}

    @property
    def prepare(self) -> str:
        """SQL that runs before the SELECTs; may be empty."""
        path = self.folder / "prepare.sql"
        return read_utf8(path) if path.exists() else ""

    def select(self, table: str) -> str:
        """SQL that gives a landing table."""
        return read_utf8(self.tables[table]).strip().rstrip(";")

    def choose(self, given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
        """Defaults, overridden by what the user gave.

        Raises:
            SourceError: an option does not exist or has a value of another type.
        """
        chosen: dict[str, OptionValue] = {}
        for name, value in given.items():
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise SourceError(f"unknown option {name!r}", where=f"adapter {self.name}", remedy=f"it has: {known}")
            chosen[name] = _as_type_of(self.options[name].default, value, f"adapter {self.name}, option {name}")
        return {name: option.default for name, option in self.options.items()} | chosen


def _as_type_of(default: OptionValue, value: OptionValue, where: str) -> OptionValue:
    wanted = type(default)
    text = str(value).strip()
    try:
        if wanted is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        return wanted(text)
    except (KeyError, ValueError):
        raise SourceError(f"got {value!r}", where=where, remedy=f"give a {wanted.__name__}") from None


def read_utf8(path: Path) -> str:
    """Text of a file of an adapter.

    Raises:
        SourceError: it was saved in another encoding.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise SourceError(
            "a file of an adapter is not UTF-8", where=str(path), remedy="save it as UTF-8, comments included"
        ) from None


def read_adapter(folder: Path) -> Adapter:
    """Read ``adapter.toml`` of a folder.

    Raises:
        SourceError: the description is not valid, or a file it names is missing.
    """
    path = folder / "adapter.toml"
    remedy = "see docs/adapters.md"
    try:
        said = _Description.model_validate(tomllib.loads(read_utf8(path)))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        first = str(error).replace("\n", " ")
        raise SourceError(
            f"the description of an adapter is not valid: {first}", where=str(path), remedy=remedy
        ) from None
    adapter = Adapter(
        name=folder.name,
        title=said.title,
        folder=folder,
        inputs=said.inputs,
        licence=said.licence,
        notes=said.notes,
        options=said.options,
        bundled={name: folder / file for name, file in said.bundled.items()},
    )
    if "admissions" not in adapter.tables:
        raise SourceError("an adapter without admissions.sql", where=str(folder), remedy=remedy)
    for file in adapter.bundled.values():
        if not file.exists():
            raise SourceError("a bundled file is missing", where=str(file), remedy=remedy)
    return adapter
