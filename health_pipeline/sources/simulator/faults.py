"""Realistic faults of landed rows, and what must become of each: quarantined, deduplicated, or kept and reported.

A fault changes the text of some columns, lands a row twice, or both (a restated row: first a preliminary version, and
at the end of the file the right one, which counts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Fate = Literal["quarantined", "deduplicated", "kept"]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        fate: what silver does with the faulty row.
        changes: SQL text by column, over the typed columns of the row.
        is_repeated: the right row follows at the end of the file.
    """

    name: str
    fate: Fate
    changes: Mapping[str, str] = field(default_factory=dict)
    is_repeated: bool = False


_DUPLICATE = Fault("duplicate", "deduplicated", is_repeated=True)
_FUTURE = "'2099-01-01 00:00:00'"

FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "admissions": (
        _DUPLICATE,
        Fault("restated", "deduplicated", {"discharge_disposition": "'unknown'", "drg": "NULL"}, is_repeated=True),
        Fault(
            "discharged_before_admitted", "quarantined", {"admitted_at": "(discharged_at + INTERVAL 2 DAY)::VARCHAR"}
        ),
        Fault("no_such_day", "quarantined", {"admitted_at": "strftime(admitted_at, '%Y-02-30 %H:%M:%S')"}),
        Fault("discharged_in_future", "quarantined", {"discharged_at": _FUTURE}),
        Fault("patient_missing", "quarantined", {"patient_id": "NULL"}),
        Fault("not_a_boolean", "quarantined", {"is_planned": "'perhaps'"}),
        Fault("unknown_word", "kept", {"admission_type": "'Z9'"}),
        Fault("blanks_and_case", "kept", {"discharge_disposition": "'  ' || upper(discharge_disposition) || ' '"}),
    ),
    "patients": (
        _DUPLICATE,
        Fault("restated", "deduplicated", {"zip3": "NULL", "income": "NULL"}, is_repeated=True),
        Fault("born_in_future", "quarantined", {"birth_date": "'2099-07-01'"}),
        Fault("not_a_number", "quarantined", {"income": "'n/a'"}),
        Fault("patient_missing", "quarantined", {"patient_id": "''"}),
        Fault("unknown_word", "kept", {"sex": "'9'"}),
    ),
    "clinical_events": (
        _DUPLICATE,
        Fault("code_without_system", "quarantined", {"code": "split_part(code, '//', 2)"}),
        Fault("not_a_number", "quarantined", {"numeric_value": "'haemolysed'"}),
        Fault("time_missing", "quarantined", {"time": "NULL"}),
        Fault("recorded_in_future", "quarantined", {"recorded_at": _FUTURE}),
        Fault("unknown_code", "kept", {"code": "'LOCAL//X-' || (stay % 7)::VARCHAR"}),
    ),
    "claims": (
        _DUPLICATE,
        Fault("restated", "deduplicated", {"payer_paid": "'0'", "patient_paid": "NULL"}, is_repeated=True),
        Fault("negative_amount", "quarantined", {"charged": "(-charged)::VARCHAR"}),
        Fault("not_a_number", "quarantined", {"charged": "'USD ' || charged::VARCHAR"}),
        Fault("ends_before_begin", "quarantined", {"service_to": "(service_from - INTERVAL 5 DAY)::VARCHAR"}),
        Fault("patient_missing", "quarantined", {"patient_id": "NULL"}),
    ),
}


def draw_faults(rng: np.random.Generator, table: str, rows: int, rate: float) -> np.ndarray:
    """Number of the fault of each row, counted from 1; 0 for a good row."""
    faulty = rng.random(rows) < rate
    kind = rng.integers(1, len(FAULTS[table]) + 1, rows)
    return np.where(faulty, kind, 0).astype(np.int8)
