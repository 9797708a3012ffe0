"""Code lists: published groupings of diagnoses, medicines and laboratory tests, kept as CSV beside their citation."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

_RANGE = re.compile(r"^([A-Z]?)([0-9]+)-([A-Z]?)([0-9]+)$")


def read_list(name: str) -> list[dict[str, str]]:
    """Rows of ``data/<name>.csv``; lines that begin with ``#`` are its citation."""
    text = (resources.files(__package__) / "data" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def citation(name: str) -> str:
    """The comment lines of a code list."""
    text = (resources.files(__package__) / "data" / f"{name}.csv").read_text(encoding="utf-8")
    return " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))


def expand(prefixes: str) -> tuple[str, ...]:
    """Prefixes of a list entry; ``K700-K703`` stands for all prefixes of that length between the two.

    Raises:
        ValueError: the ends of a range differ in letter or length.
    """
    found: list[str] = []
    for entry in prefixes.split():
        match = _RANGE.match(entry)
        if match is None:
            found.append(entry)
            continue
        letter, first, last_letter, last = match.groups()
        if letter != last_letter or len(first) != len(last) or first > last:
            raise ValueError(f"not a range of prefixes: {entry}")
        found += [f"{letter}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return tuple(found)


@dataclass(frozen=True)
class Comorbidity:
    """A group of the Charlson or Elixhauser index; ``bit`` is its place in the mask of that index."""

    index: str
    group: str
    bit: int
    weight: int
    lace_weight: int
    prefixes: tuple[tuple[str, str], ...]


@lru_cache
def comorbidities(index: str) -> tuple[Comorbidity, ...]:
    """Groups of ``charlson`` or ``elixhauser``."""
    rows = [row for row in read_list("comorbidities") if row["index"] == index]
    return tuple(
        Comorbidity(
            index=index,
            group=row["group"],
            bit=bit,
            weight=int(row["weight"]),
            lace_weight=int(row["lace_weight"] or 0),
            prefixes=_prefixes(row),
        )
        for bit, row in enumerate(rows)
    )


@lru_cache
def diagnosis_groups() -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Clinical groups in order; where several match a code, the last one holds."""
    return tuple((row["group"], _prefixes(row)) for row in read_list("diagnosis_groups"))


@dataclass(frozen=True)
class LaboratoryTest:
    """A laboratory test: adult reference limits in its canonical unit, and what is kept beside its last value."""

    name: str
    unit: str
    loinc: tuple[str, ...]
    low: float
    high: float
    worst: str
    plausible_low: float
    plausible_high: float
    kept: tuple[str, ...]


@lru_cache
def laboratory_tests() -> tuple[LaboratoryTest, ...]:
    """Tests in the order of the list."""
    return tuple(
        LaboratoryTest(
            name=row["test"],
            unit=row["unit"],
            loinc=tuple(row["loinc"].split()),
            low=float(row["low"]),
            high=float(row["high"]),
            worst=row["worst"],
            plausible_low=float(row["plausible_low"]),
            plausible_high=float(row["plausible_high"]),
            kept=tuple(row["kept"].split()),
        )
        for row in read_list("laboratory")
    )


@dataclass(frozen=True)
class MedicineClass:
    """A class of medicines; ``bit`` is its place in the mask, ``rxnorm`` its codes with the drug they say, if known."""

    name: str
    bit: int
    names: tuple[str, ...]
    rxnorm: tuple[tuple[str, str | None], ...]


@lru_cache
def medicine_classes() -> tuple[MedicineClass, ...]:
    """Classes in the order of the list."""
    classes = []
    for bit, row in enumerate(read_list("medicines")):
        names = tuple(row["names"].split())
        only = names[0] if len(names) == 1 else None  # a class of one drug: every code says it
        codes = (entry.partition("/") for entry in row["rxnorm"].split())
        classes.append(MedicineClass(row["class"], bit, names, tuple((code, drug or only) for code, _, drug in codes)))
    return tuple(classes)


def _prefixes(row: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(("ICD9CM", prefix) for prefix in expand(row["icd9cm"])) + tuple(
        ("ICD10CM", prefix) for prefix in expand(row["icd10cm"])
    )
