"""Request schema: typed decoding of records, generated from the features of the model.

A record that decodes is one that the model may score: every feature has its declared type or is null (or left out,
which means null), and no name is unknown. Messages of refusals name fields and types, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec

NUMBER_LIMIT = 1e15
"""Largest absolute value of a numeric feature: beyond it lies no measurement, and float32 stays finite."""

TEXT_LIMIT = 200
"""Longest text of a category or an identifier, in characters."""

Value = float | bool | str | None
Values = tuple[Value, ...]

_Number = Annotated[float, msgspec.Meta(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT)]
_Text = Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)]
_TYPES: dict[str, Any] = {"number": _Number | None, "boolean": bool | None, "category": _Text | None}


class Feature(msgspec.Struct, frozen=True):
    """One input of a model.

    Attributes:
        name: column of ``gold.features``.
        kind: what JSON type the API takes.
        categories: values seen in training; others are scored as unseen.
        description: meaning and unit, shown in the OpenAPI document.
    """

    name: str
    kind: Literal["number", "boolean", "category"]
    categories: tuple[str, ...] = ()
    description: str = ""


class Record(Protocol):
    """One decoded record."""

    features: Any
    patient_id: str | None
    encounter_id: str | None


class RequestSchema:
    """Decodes bodies of ``POST /v1/predict`` for the union of the features of all loaded releases.

    Args:
        features: inputs of each loaded release; the same name must have the same kind everywhere.
        max_records: most records in one request.

    Raises:
        ValueError: two releases disagree on the kind of a feature.
    """

    def __init__(self, features: Sequence[Sequence[Feature]], *, max_records: int) -> None:
        union: dict[str, Feature] = {}
        for release in features:
            for feature in release:
                known = union.setdefault(feature.name, feature)
                if known.kind != feature.kind:
                    raise ValueError(f"releases disagree on the kind of feature {feature.name}")
        self.features = tuple(union.values())
        self.names = tuple(union)
        self.max_records = max_records
        values, record = self._record_types()
        items: Any = list.__class_getitem__(record)
        records: Any = Annotated[items, msgspec.Meta(min_length=1, max_length=max_records)]
        body: Any = msgspec.defstruct(
            "PredictRequest",
            [
                ("records", records | msgspec.UnsetType, msgspec.UNSET),
                ("features", values | msgspec.UnsetType, msgspec.UNSET),
                ("patient_id", _Text | None, None),
                ("encounter_id", _Text | None, None),
                ("explain", bool, False),
            ],
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        self._body = body
        self._decode: Callable[[bytes | bytearray], Any] = msgspec.json.Decoder(body).decode

    def _record_types(self) -> tuple[Any, Any]:
        fields = [(f"f{index}", _TYPES[feature.kind], None) for index, feature in enumerate(self.features)]
        values: Any = msgspec.defstruct(
            "Features",
            fields,
            rename={f"f{index}": name for index, name in enumerate(self.names)},
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )
        record = msgspec.defstruct(
            "Record",
            [("features", values), ("patient_id", _Text | None, None), ("encounter_id", _Text | None, None)],
            forbid_unknown_fields=True,
            gc=False,
        )
        return values, record

    def decode(self, body: bytes | bytearray) -> tuple[Sequence[Record], bool]:
        """Records of a body, and whether contributions are asked for.

        Raises:
            msgspec.ValidationError: well-formed JSON of the wrong shape.
            msgspec.DecodeError: not JSON.
        """
        request = self._decode(body)
        if request.features is msgspec.UNSET:
            if request.records is msgspec.UNSET:
                raise msgspec.ValidationError("Object needs `features` (one record) or `records` (many)")
            if request.patient_id is not None or request.encounter_id is not None:
                raise msgspec.ValidationError("identifiers belong inside each of `records`")
            return request.records, request.explain
        if request.records is not msgspec.UNSET:
            raise msgspec.ValidationError("Object has both `features` and `records`")
        return (request,), request.explain

    def columns_of(self, features: Sequence[Feature]) -> tuple[int, ...] | None:
        """Positions of a release's features among the decoded values; ``None`` when they are the same tuple."""
        positions = tuple(self.names.index(feature.name) for feature in features)
        return None if positions == tuple(range(len(self.names))) else positions

    def json_schema(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """OpenAPI schema of the request, and the components it refers to."""
        (reference,), components = msgspec.json.schema_components(
            [self._body], ref_template="#/components/schemas/{name}"
        )
        properties = components["Features"]["properties"]
        for feature in self.features:
            described = properties[feature.name]
            if feature.description:
                described["description"] = feature.description
            if feature.categories:
                described["examples"] = list(feature.categories[:5])
        return reference, components

    def example(self) -> dict[str, Value]:
        """A record of plausible shape for the documentation; no patient behind it."""
        samples: Mapping[str, Value] = {"number": 1.0, "boolean": False}
        return {
            feature.name: (feature.categories[0] if feature.categories else None)
            if feature.kind == "category"
            else samples[feature.kind]
            for feature in self.features
        }


def values_of(record: Record) -> Values:
    """Feature values of a record, in schema order."""
    values: Values = msgspec.structs.astuple(record.features)
    return values
