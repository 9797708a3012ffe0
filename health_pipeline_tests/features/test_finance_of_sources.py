"""Finance ratios from a source's own files to ``gold.features``, with values by hand and by another way of counting."""

# ruff: noqa: E501 (tables of claims)

from __future__ import annotations

import csv
import datetime as dt
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from health_pipeline.contracts import SILVER
from health_pipeline.features import features_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings, load_settings
from health_pipeline.sources.ingest import ingest
from health_pipeline.sources.simulator import simulate
from health_pipeline.warehouse.slices import Slice
from health_pipeline_tests.contracts.landing_samples import land, row
from health_pipeline_tests.sources.through_contracts import through_contracts

SHARED = Path(__file__).parents[3] / "shared" / "data" / "synthea"
RATIOS = ("payer_coverage_ratio", "out_of_pocket_ratio", "allowed_to_charge_ratio", "denial_rate")
CLAIM_LAG = dt.timedelta(days=30)
YEAR = dt.timedelta(days=365)
Row = dict[str, Any]


def features(settings: Settings, months: MonthRange) -> dict[str, Row]:
    """``gold.features`` of the months by encounter, made by the real queries from what lies in the landing zone."""
    connection = through_contracts(months, settings).connection
    silver = {name: Slice(table, months) for name, table in SILVER.items()}
    query = features_query(
        silver["admissions"],
        silver["patients"],
        silver["clinical_events"],
        silver["claims"],
        months,
        settings,
    )
    cursor = connection.execute(query.sql)
    names = [column[0] for column in cursor.description or ()]
    return {
        found["encounter_id"]: found for found in (dict(zip(names, each, strict=True)) for each in cursor.fetchall())
    }


def table(text: str) -> str:
    """A table as people write it, columns apart by bars, as CSV."""
    lines = [line.strip().strip("|").split("|") for line in text.strip().splitlines()]
    return "\n".join(",".join(cell.strip() for cell in line) for line in lines) + "\n"


SYNTHEA = {
    "patients": """
        | Id | BIRTHDATE  | GENDER |
        | p0 | 1960-03-01 | M      |
        | p1 | 1950-03-01 | F      |""",
    "encounters": """
        | Id    | START                | STOP                 | PATIENT | PAYER | ENCOUNTERCLASS | CODE      |
        | other | 2018-10-01T08:00:00Z | 2018-10-04T09:00:00Z | p0      | y1    | inpatient      | 185347001 |
        | long  | 2018-11-01T08:00:00Z | 2018-11-01T09:00:00Z | p1      | y1    | ambulatory     | 185349003 |
        | visit | 2020-01-10T08:00:00Z | 2020-01-10T09:00:00Z | p1      | y1    | ambulatory     | 185349003 |
        | er    | 2020-03-01T08:00:00Z | 2020-03-01T12:00:00Z | p1      | y1    | emergency      | 50849002  |
        | stay  | 2020-06-01T08:00:00Z | 2020-06-05T12:00:00Z | p1      | y1    | inpatient      | 185347001 |
        | next  | 2020-11-01T08:00:00Z | 2020-11-03T12:00:00Z | p1      | y1    | inpatient      | 185347001 |""",
    "claims": """
        | Id | PATIENTID | APPOINTMENTID | SERVICEDATE          | LASTBILLEDDATE1      | LASTBILLEDDATE2 | LASTBILLEDDATEP      |
        | c0 | p1        | long          | 2018-11-01T08:00:00Z | 2018-11-01T09:00:00Z |                 | 2018-11-01T09:00:00Z |
        | c1 | p1        | visit         | 2020-01-10T08:00:00Z | 2020-01-10T09:00:00Z |                 | 2020-01-12T09:00:00Z |
        | c2 | p1        | er            | 2020-03-01T08:00:00Z | 2020-03-01T12:00:00Z |                 |                      |
        | c3 | p1        | stay          | 2020-06-01T08:00:00Z | 2020-06-05T12:00:00Z |                 | 2020-06-05T12:00:00Z |""",
    "claims_transactions": """
        | ID | CLAIMID | TYPE     | AMOUNT  | METHOD     | FROMDATE             | TODATE               | PAYMENTS | ADJUSTMENTS |
        | 1  | c0      | CHARGE   | 9999    |            | 2018-11-01T08:00:00Z | 2018-11-01T09:00:00Z |          |             |
        | 2  | c1      | CHARGE   | 900.00  |            | 2020-01-10T08:00:00Z | 2020-01-10T09:00:00Z |          |             |
        | 3  | c1      | CHARGE   | 100.00  |            | 2020-01-10T08:00:00Z | 2020-01-10T09:00:00Z |          |             |
        | 4  | c1      | PAYMENT  |         | ECHECK     | 2020-01-10T08:00:00Z | 2020-01-10T09:00:00Z | 600.00   | 200.00      |
        | 5  | c1      | PAYMENT  |         | COPAY      | 2020-01-10T08:00:00Z | 2020-01-10T09:00:00Z | 150.00   |             |
        | 6  | c1      | PAYMENT  |         | CASH       | 2020-01-10T08:00:00Z | 2020-01-10T09:00:00Z | 50.00    |             |
        | 7  | c2      | CHARGE   | 500.00  |            | 2020-03-01T08:00:00Z | 2020-03-01T12:00:00Z |          |             |
        | 8  | c2      | PAYMENT  |         | ECHECK     | 2020-03-01T08:00:00Z | 2020-03-01T12:00:00Z | 500.00   |             |
        | 9  | c3      | CHARGE   | 4000.00 |            | 2020-06-01T08:00:00Z | 2020-06-05T12:00:00Z |          |             |
        | 10 | c3      | PAYMENT  |         | CREDITCARD | 2020-06-01T08:00:00Z | 2020-06-05T12:00:00Z | 4000.00  |             |""",
    "payers": """
        | Id | NAME     |
        | y1 | Medicare |""",
}  # fmt: skip


def test_synthea_by_hand(tmp_path: Path) -> None:
    for name, text in SYNTHEA.items():
        (tmp_path / f"{name}.csv").write_text(table(text))
    settings = load_settings(home=tmp_path / "home")
    months = ingest("synthea", tmp_path, settings).months
    found = features(settings, months)
    # Settled before the discharge of `stay`: c1 (charged 1000, allowed 800, paid 600 and 200) and c2 (500, 500, 500, 0).
    # c0 was settled more than a year before, c3 (the stay's own) on 5 July, a month after the discharge.
    stay = found["stay"]
    assert stay["claim_count_log"] == pytest.approx(math.log(3))
    assert stay["charged_log"] == pytest.approx(math.log(1501))
    assert stay["payer_coverage_ratio"] == pytest.approx(1100 / 1300)
    assert stay["out_of_pocket_ratio"] == pytest.approx(200 / 1300)
    assert stay["allowed_to_charge_ratio"] == pytest.approx(1300 / 1500)
    assert stay["denial_rate"] is None, "Synthea knows no denials"
    # By November the claim of the stay is settled too: charged and allowed 4000, all of it from the patient.
    later = found["next"]
    assert later["claim_count_log"] == pytest.approx(math.log(4))
    assert later["payer_coverage_ratio"] == pytest.approx(1100 / 5300)
    assert later["out_of_pocket_ratio"] == pytest.approx(4200 / 5300)
    assert later["allowed_to_charge_ratio"] == pytest.approx(5300 / 5500)


def test_landing_files_by_hand(tmp_path: Path) -> None:
    """The contract's own columns, denials included."""
    settings = load_settings(home=tmp_path)
    claims = {
        "2022-09": row("claims", claim_id="A", processed_at="2022-09-20", service_from="2022-09-01", service_to="2022-09-02",
                       charged="2000", allowed="1000", payer_paid="900", patient_paid="100", denied="false"),
        "2022-12": row("claims", claim_id="B", processed_at="2022-12-31", service_from="2022-12-01", service_to="2022-12-02",
                       charged="600", allowed="0", payer_paid="0", patient_paid="0", denied="true"),
        "2023-01": row("claims", claim_id="C", processed_at="2023-01-28", charged="9000"),
    }  # fmt: skip
    for month, claim in claims.items():
        land(settings, "claims", month, [claim])
    months = MonthRange.of("2022-09", "2023-01")
    for month in months:
        stay = row("admissions", encounter_id=f"E{month:%m}", admitted_at=f"{month}", discharged_at=f"{month:%Y-%m}-15")
        land(settings, "admissions", f"{month:%Y-%m}", [stay])
    land(settings, "patients", "2022-09", [row("patients", recorded_at="2022-09-01")])
    found = features(settings, months)
    assert [found["E01"][name] for name in RATIOS] == pytest.approx([0.9, 0.1, 1000 / 2600, 0.5])
    assert [found["E10"][name] for name in RATIOS] == pytest.approx([0.9, 0.1, 0.5, 0.0])
    assert [found["E09"][name] for name in RATIOS] == [None] * 4, "not settled yet"
    silver = through_contracts(months, settings).connection.execute(
        "SELECT claim_id, payer_coverage_ratio, out_of_pocket_ratio, allowed_to_charge_ratio FROM silver.claims ORDER BY 1"
    )
    assert silver.fetchall()[:2] == [("A", 0.9, 0.1, 0.5), ("B", None, None, 0.0)]


def expected(claims: Sequence[Row], discharged_at: dt.datetime) -> list[float | None]:
    """The ratios of one stay, from its patient's claims, counted one by one."""
    seen = [claim for claim in claims if discharged_at - YEAR < claim["processed_at"] <= discharged_at]

    def total(name: str) -> float | None:
        known = [float(claim[name]) for claim in seen if claim[name] is not None]
        return sum(known) if known else None

    def over(part: float | None, whole: float | None) -> float | None:
        return part / whole if part is not None and whole else None

    decided = [claim["denied"] for claim in seen if claim.get("denied") is not None]
    return [
        over(total("payer_paid"), total("allowed")),
        over(total("patient_paid"), total("allowed")),
        over(total("allowed"), total("charged")),
        sum(decided) / len(decided) if decided else None,
    ]


def agree(found: Row, wanted: list[float | None]) -> None:
    for name, value in zip(RATIOS, wanted, strict=True):
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


def test_every_stay_of_the_simulator_counted_again(tmp_path: Path) -> None:
    months = MonthRange.of("2022-01", "2022-06")
    settings = load_settings(home=tmp_path, simulator={"admissions_per_month": 40, "dirt_rate": 0, "seed": 5})
    simulate(months, settings)
    files = f"read_parquet('{settings.landing_uri}/claims/*.parquet')"
    claims = defaultdict(list)
    for claim in duckdb.sql(f"SELECT * FROM {files}").to_arrow_table().to_pylist():
        moment, denied = dt.datetime.fromisoformat(claim["processed_at"]), claim["denied"]
        known = {"processed_at": moment, "denied": None if denied is None else denied == "true"}
        claims[claim["patient_id"]].append({**claim, **known})
    stays = duckdb.sql(
        f"SELECT encounter_id, patient_id, discharged_at::TIMESTAMP FROM '{settings.landing_uri}/admissions/*.parquet'"
    ).fetchall()
    found = features(settings, months)
    checked = [stay for stay in stays if stay[0] in found]
    for encounter, patient, discharged_at in checked:
        agree(found[encounter], expected(claims[patient], discharged_at))
    assert len(checked) > 150
    assert sum(found[stay[0]]["payer_coverage_ratio"] is not None for stay in checked) > 30


@pytest.mark.skipif(not SHARED.is_dir(), reason="the Synthea sample is not part of the repository")
def test_stays_of_the_real_synthea_files_counted_again(tmp_path: Path) -> None:
    """From the raw files with the csv module alone."""

    def read(name: str) -> list[dict[str, str]]:
        with (SHARED / f"{name}.csv").open(newline="", encoding="utf-8-sig") as stream:
            return list(csv.DictReader(stream))

    def moment(text: str) -> dt.datetime | None:
        return dt.datetime.fromisoformat(text.replace("Z", "")) if text else None

    amounts: dict[str, Row] = defaultdict(
        lambda: dict.fromkeys(("charged", "adjusted", "payer_paid", "patient_paid"), 0.0)
    )
    ends: dict[str, dt.datetime] = {}
    for line in read("claims_transactions"):
        of_claim = amounts[line["CLAIMID"]]
        of_claim["adjusted"] += float(line["ADJUSTMENTS"] or 0)
        if line["TYPE"] == "CHARGE":
            of_claim["charged"] += float(line["AMOUNT"] or 0)
        elif line["TYPE"] == "PAYMENT":
            of_claim["payer_paid" if line["METHOD"] == "ECHECK" else "patient_paid"] += float(line["PAYMENTS"] or 0)
        end = moment(line["TODATE"])
        if end is not None:
            ends[line["CLAIMID"]] = max(ends.get(line["CLAIMID"], end), end)
    claims = defaultdict(list)
    for line in read("claims"):
        money = amounts.get(line["Id"])
        if money is None:
            continue
        moments = [moment(line[name]) for name in ("LASTBILLEDDATE1", "LASTBILLEDDATE2", "LASTBILLEDDATEP")]
        settled = (
            max(each for each in (*moments, ends.get(line["Id"]), moment(line["SERVICEDATE"])) if each) + CLAIM_LAG
        )
        allowed = max(money["charged"] - money["adjusted"], money["payer_paid"] + money["patient_paid"])
        rounded = {name: round(value, 2) for name, value in {**money, "allowed": allowed}.items()}
        claims[line["PATIENTID"]].append({**rounded, "processed_at": settled, "denied": None})
    settings = load_settings(home=tmp_path)
    months = ingest("synthea", SHARED, settings).months
    found = features(settings, months)
    # Claims that were settled before the first discharge month lie in months that have no admissions, which nobody reads.
    whole_year = dt.datetime.combine(months.first, dt.time()) + YEAR
    stays = [
        line for line in read("encounters") if line["Id"] in found and found[line["Id"]]["discharged_at"] > whole_year
    ]
    for line in stays:
        discharged_at = moment(line["STOP"])
        assert discharged_at is not None
        agree(found[line["Id"]], expected(claims[line["PATIENT"]], discharged_at))
    assert len(stays) >= 5, len(stays)
    assert sum(found[line["Id"]]["payer_coverage_ratio"] is not None for line in stays) >= 3
