"""How many readmissions the label rule cannot see, because it looks one month ahead and stays land when they end.

python benchmarks/cohort/label_visibility.py <home with silver tables> <first month> <last month>

Compares the labels with those that would look three months ahead; the last three months of the home only serve that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from health_pipeline.cohort import labels
from health_pipeline.contracts.warehouse_tables import SILVER
from health_pipeline.months import MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Warehouse

FAR = 3


def main(home: Path, landed: MonthRange) -> None:
    settings = Settings(home=home, start_month=landed.first, end_month=landed.last)
    warehouse = Warehouse.from_settings(settings)
    judged = MonthRange(landed.first, shift(landed.last, -FAR))
    admissions, patients, events = (
        Slice(SILVER[name], landed) for name in ("admissions", "patients", "clinical_events")
    )
    seen = labels.labels_query(admissions, patients, events, judged, settings).sql
    labels.LOOKAHEAD_MONTHS = FAR
    truth = labels.labels_query(admissions, patients, events, judged, settings).sql
    sql = f"""
        SELECT PART AS part, count(*) AS discharges, count(*) FILTER (t.readmitted_30d) AS readmitted,
            count(*) FILTER (t.readmitted_30d AND NOT s.readmitted_30d) AS not_seen
        FROM ({seen}) AS s JOIN ({truth}) AS t USING (month, encounter_id)
        WHERE s.outcome_source = 'derived'
        GROUP BY part ORDER BY part"""
    days = "day(s.discharged_at)"
    thirds = f"CASE WHEN {days} <= 10 THEN '1-10' WHEN {days} <= 20 THEN '11-20' ELSE '21-31' END"
    for part in ("'all'", thirds, "monthname(s.discharged_at)"):
        for row in warehouse.fetch(sql.replace("PART", part, 1), "label visibility").to_pylist():
            share = row["not_seen"] / row["readmitted"] if row["readmitted"] else 0.0
            print(f"{row['part']:<12}{row['discharges']:>8} {row['readmitted']:>7} {row['not_seen']:>5} {share:7.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), MonthRange.of(sys.argv[2], sys.argv[3]))
