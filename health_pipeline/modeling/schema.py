"""Identity of the feature catalogue a model was trained on."""

from __future__ import annotations

import hashlib
import json

from health_pipeline.modeling.preprocessing import feature_kinds
from health_pipeline.warehouse.tables import Table


def feature_schema_hash(table: Table) -> str:
    """Digest of the names and kinds of a feature table's columns, whatever their order."""
    text = json.dumps(sorted(feature_kinds(table).items()))
    return hashlib.sha256(text.encode()).hexdigest()
