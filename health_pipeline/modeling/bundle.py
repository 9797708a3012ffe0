"""The model bundle: everything a prediction needs, in files that hold data and no code.

A bundle is a folder with ``bundle.json`` (schema, encodings, linear weights, calibration, threshold, metadata) and,
for tree models, ``trees-<n>.onnx`` (what scores) and ``booster-<n>-<k>.ubj`` (what explains). The gate, the batch and
the API all score through :class:`Bundle`. The format is described in ``docs/modeling.md``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from health_pipeline.durable import sync, sync_tree
from health_pipeline.errors import ModelError
from health_pipeline.modeling.calibration import Calibration
from health_pipeline.modeling.encoding import Encoding, Feature, Inputs, encode, read_inputs
from health_pipeline.modeling.predictors import Linear, Predictor, Trees, predictor_from_json

FORMAT = 1
BUNDLE_FILE = "bundle.json"

CHUNK_ROWS = 8192
"""Rows encoded at a time: their matrix stays in the processor's cache for the most part, and memory small."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """A model inside the bundle with its own preprocessing.

    Attributes:
        encodings: columns of its matrix.
        predictor: turns the matrix into margins (log-odds).
        weight: share of its margin in the bundle's margin; weights of all members add up to one.
    """

    encodings: tuple[Encoding, ...]
    predictor: Predictor
    weight: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the matrix columns, in order."""
        return tuple(name for encoding in self.encodings for name in encoding.columns)


@dataclass(frozen=True)
class Scores:
    """Result of scoring rows.

    Attributes:
        probabilities: calibrated probability of each row.
        labels: whether it reaches the threshold.
        inputs: the typed inputs with their warnings.
    """

    probabilities: Floats
    labels: NDArray[np.bool_]
    inputs: Inputs


@dataclass(frozen=True)
class Bundle:
    """A fitted model with its preprocessing, calibration, threshold and origin.

    Attributes:
        family: model family.
        features: inputs, in the order of the schema.
        members: one model, or several whose margins are averaged.
        calibration: last step from margin to probability.
        threshold: probability from which a stay is labelled as a readmission.
        metadata: JSON-able facts: model month, windows, hashes, versions, parameters.
        model_id: name of the model; made from family, month and content by :meth:`named`.
        digest: SHA-256 of the files, known once saved or loaded.
    """

    family: str
    features: tuple[Feature, ...]
    members: tuple[Member, ...]
    calibration: Calibration = field(default_factory=Calibration)
    threshold: float = 0.5
    metadata: Mapping[str, Any] = field(default_factory=dict)
    model_id: str = ""
    digest: str = ""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the input columns."""
        return tuple(feature.name for feature in self.features)

    def margins(self, inputs: Inputs) -> Floats:
        """Log-odds before calibration, shape (rows,)."""
        total = np.zeros(inputs.rows)
        for start in range(0, inputs.rows, CHUNK_ROWS):
            part = inputs.part(start, start + CHUNK_ROWS)
            for member in self.members:
                matrix = encode(part, self.features, member.encodings, member.predictor.dtype)
                total[start : start + CHUNK_ROWS] += member.weight * member.predictor.margins(matrix)
        return total

    def score(self, rows: pa.Table) -> Scores:
        """Score rows in whatever state: nulls, unseen categories and missing columns become warnings, not errors.

        Args:
            rows: a table with (some of) the feature columns; other columns are ignored.
        """
        inputs = read_inputs(rows, self.features)
        probabilities = self.calibration.probabilities(self.margins(inputs))
        return Scores(probabilities, probabilities >= self.threshold, inputs)

    def probabilities(self, rows: pa.Table) -> Floats:
        """Calibrated probabilities, shape (rows,)."""
        return self.score(rows).probabilities

    def files(self) -> dict[str, bytes]:
        """Content of the folder by file name; equal models give equal bytes."""
        files: dict[str, bytes] = {}
        members = []
        for number, member in enumerate(self.members):
            data, extra = member.predictor.to_json(number)
            files.update(extra)
            members.append(
                {"weight": member.weight, "encodings": [item.to_json() for item in member.encodings], **data}
            )
        document = {
            "format": FORMAT,
            "model_id": self.model_id,
            "family": self.family,
            "features": [
                {
                    "name": feature.name,
                    "kind": feature.kind,
                    "nulls_expected": feature.nulls_expected,
                    "categories": list(feature.categories),
                }
                for feature in self.features
            ],
            "members": members,
            "calibration": {
                "method": self.calibration.method,
                "slope": self.calibration.slope,
                "intercept": self.calibration.intercept,
            },
            "threshold": self.threshold,
            "metadata": dict(self.metadata),
        }
        files[BUNDLE_FILE] = (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
        return files

    def named(self, short: str, month: str) -> Bundle:
        """The bundle with the id ``<short>-<YYYYMM>-<digest of the content>``."""
        digest = _digest(self._replace(model_id="").files())
        return self._replace(model_id=f"{short}-{month.replace('-', '')[:6]}-{digest[:10]}")

    def save(self, folder: Path) -> str:
        """Write the folder in one step; an existing folder of the same name is replaced, unless it holds the same.

        Returns:
            The digest of the files.
        """
        files = self.files()
        # The same model trained again: between two renames it would not be there for who reads it, or after a kill.
        if _stored(folder) == files:
            return _digest(files)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as scratch:
            fresh = Path(scratch) / "fresh"
            fresh.mkdir()
            for name, content in files.items():
                (fresh / name).write_bytes(content)
            if folder.exists():
                for kept in folder.iterdir():  # files beside the bundle, such as its model card
                    if kept.name not in files and not _belongs(kept.name):
                        shutil.move(kept, fresh / kept.name)
                folder.rename(Path(scratch) / "former")
            sync_tree(fresh)
            fresh.replace(folder)
            sync(folder.parent)
        return _digest(files)

    def _replace(self, **changes: Any) -> Bundle:
        values = {name: getattr(self, name) for name in Bundle.__dataclass_fields__}
        return Bundle(**{**values, **changes})


def _stored(folder: Path) -> dict[str, bytes] | None:
    """The bundle's files in a folder; None where there is none."""
    if not folder.is_dir():
        return None
    return {item.name: item.read_bytes() for item in folder.iterdir() if _belongs(item.name)}


def _belongs(name: str) -> bool:
    return name == BUNDLE_FILE or name.endswith((".onnx", ".ubj"))


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}:{len(files[name])}:".encode())
        digest.update(files[name])
    return digest.hexdigest()


def load_bundle(folder: Path | str, digest: str | None = None) -> Bundle:
    """Read a bundle; nothing in it is executed.

    Args:
        folder: where :meth:`Bundle.save` wrote it.
        digest: expected digest; None takes the files as they are.

    Raises:
        ModelError: no bundle there, unreadable, of another format, or its bytes are not those of ``digest``.
    """
    path = Path(folder)
    try:
        files = {item.name: item.read_bytes() for item in path.iterdir() if _belongs(item.name)}
        document = json.loads(files[BUNDLE_FILE])
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"no readable model bundle ({type(error).__name__})", where=str(path), remedy="train the month again"
        ) from error
    found = _digest(files)
    if digest is not None and digest != found:
        raise ModelError(
            f"the bundle's digest is {found[:12]}, expected {digest[:12]}",
            where=str(path),
            remedy="restore the folder from the model store, or train the month again",
        )
    if document.get("format") != FORMAT:
        raise ModelError(
            f"bundle format {document.get('format')}, this version reads {FORMAT}",
            where=str(path),
            remedy="train the month again with this version",
        )
    return Bundle(
        family=document["family"],
        features=tuple(
            Feature(item["name"], item["kind"], item["nulls_expected"], tuple(item["categories"]))
            for item in document["features"]
        ),
        members=tuple(_member(item, files) for item in document["members"]),
        calibration=Calibration(**document["calibration"]),
        threshold=document["threshold"],
        metadata=document["metadata"],
        model_id=document["model_id"],
        digest=found,
    )


def _member(data: Mapping[str, Any], files: Mapping[str, bytes]) -> Member:
    encodings = tuple(Encoding.from_json(item) for item in data["encodings"])
    return Member(encodings, predictor_from_json(data, files), data["weight"])


__all__ = ["BUNDLE_FILE", "Bundle", "Linear", "Member", "Scores", "Trees", "load_bundle"]
