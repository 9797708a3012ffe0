"""What silver makes of landed rows."""

import datetime as dt

import pytest

from health_pipeline.contracts import BRONZE, SILVER, silver_query
from health_pipeline.contracts.units import MEASUREMENTS, conversion_rows, normalised_unit
from health_pipeline.months import MonthRange
from health_pipeline.privacy import pseudonym
from health_pipeline.warehouse.slices import Slice
from health_pipeline_tests.contracts.landing_samples import GOOD, land, row

MONTH = MonthRange.of("2023-01")
KEY = b"a key that only tests use"
at = dt.datetime.fromisoformat


def refine(settings, tables, name, rows, kind="csv"):
    if name != "admissions":
        land(settings, "admissions", "2023-01", [row("admissions")])
    land(settings, name, "2023-01", rows, kind)
    tables.run(MONTH)
    return tables.dicts(f"SELECT * FROM silver.{name} ORDER BY ALL")


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_stay_is_typed_and_pseudonymised(kind, settings, tables):
    (stay,) = refine(settings, tables, "admissions", [row("admissions", patient_id=" P1\t", is_planned="1.0")], kind)
    landed = {name: value for name, value in GOOD["admissions"].items() if name != "patient_id"}
    assert stay == landed | {
        "month": dt.date(2023, 1, 1),
        "patient_key": pseudonym("P1", KEY),
        "admitted_at": at("2023-01-10 08:00"),
        "discharged_at": at("2023-01-15 12:00"),
        "is_planned": True,
    }


@pytest.mark.parametrize(
    ("column", "landed", "stored"),
    [
        ("admission_type", "1", "emergency"),
        ("admission_type", "Elective ", "elective"),
        ("discharge_disposition", "03", "skilled_nursing"),
        ("discharge_disposition", "Home-Health", "home_health"),
        ("discharge_disposition", "20", "expired"),
        ("discharge_disposition", "43", "acute_transfer"),  # a federal hospital
        ("discharge_disposition", "81", "home"),  # 81 to 95: with a planned return
        ("discharge_disposition", "82", "acute_transfer"),
        ("discharge_disposition", "90", "rehabilitation"),
        ("discharge_disposition", "95", "other"),
        ("payer", "Blue Shield", "blue_shield"),
        ("payer", "", None),
        ("admitted_at", "2023-01-10T08:00:00Z", at("2023-01-10 08:00")),
        ("admitted_at", "2023-01-10 08:00:00+05:00", at("2023-01-10 08:00")),
        ("admitted_at", "2023-01-10", at("2023-01-10")),
    ],
)
def test_words_and_times_of_a_stay(column, landed, stored, settings, tables):
    (stay,) = refine(settings, tables, "admissions", [row("admissions", **{column: landed})])
    assert stay[column] == stored


def test_a_postal_code_is_cut_to_three_characters(settings, tables):
    (patient,) = refine(settings, tables, "patients", [row("patients", zip3="02139-1234", sex="F", race="White")])
    assert (patient["zip3"], patient["sex"], patient["race"]) == ("021", "female", "white")


@pytest.mark.parametrize(
    ("code", "value", "stored_code", "unit", "stored"),
    [
        ("LOINC//2160-0//mg/dL", "1.2", "2160-0", "mg/dL", 1.2),
        ("LOINC//2160-0//umol/L", "106.104", "2160-0", "mg/dL", 1.2),
        ("LOINC//2160-0//µmol/L", "106.104", "2160-0", "mg/dL", 1.2),
        ("loinc//2160-0", "1.2", "2160-0", "mg/dL", 1.2),
        ("LOINC//2345-7//mmol/L", "5.5", "2345-7", "mg/dL", 99.088),
        ("LOINC//718-7//g/L", "140", "718-7", "g/dL", 14.0),
        ("LOINC//2951-2//mEq/L", "140", "2951-2", "mmol/L", 140.0),
        ("LOINC//8310-5//[degF]", "98.6", "8310-5", "Cel", 37.0),
        ("LOINC//4548-4//mmol/mol", "53", "4548-4", "%", 7.00044),
        ("LOINC//99999-9//U/L", "7", "99999-9", "U/L", 7.0),
        ("ICD10CM//i50.9", None, "I50.9", None, None),
        ("DRUG//Metformin", None, "metformin", None, None),
        ("RXNORM//860975", None, "860975", None, None),
    ],
)
def test_codes_are_split_and_units_become_canonical(code, value, stored_code, unit, stored, settings, tables):
    (event,) = refine(settings, tables, "clinical_events", [row("clinical_events", code=code, numeric_value=value)])
    assert (event["code_system"], event["code"], event["unit"]) == (code.split("//")[0].upper(), stored_code, unit)
    assert event["numeric_value"] == (pytest.approx(stored, rel=1e-9) if stored is not None else None)


def test_every_conversion_gives_a_possible_value_and_no_code_is_declared_twice():
    codes = [code for item in MEASUREMENTS for code in item.loinc]
    assert len(codes) == len(set(codes))
    for item in MEASUREMENTS:
        assert item.lowest < item.highest
        for conversion in item.conversions:
            middle = (item.lowest + item.highest) / 2
            given = (middle - conversion.term) / conversion.factor
            assert given * conversion.factor + conversion.term == pytest.approx(middle)
    pairs = [(code, unit) for code, unit, *_ in conversion_rows()]
    assert len(pairs) == len(set(pairs))
    assert normalised_unit(" µmol / L") == "umol/l"


@pytest.mark.parametrize(
    ("money", "ratios"),
    [
        ({}, (0.8, 0.2, 0.5)),
        ({"allowed": "0", "payer_paid": "0"}, (None, None, 0.0)),
        ({"charged": "0"}, (0.8, 0.2, None)),
        ({"allowed": None}, (None, None, None)),
        ({"payer_paid": None}, (None, 0.2, 0.5)),
    ],
)
def test_finance_ratios(money, ratios, settings, tables):
    (claim,) = refine(settings, tables, "claims", [row("claims", **money)])
    found = tuple(claim[name] for name in ("payer_coverage_ratio", "out_of_pocket_ratio", "allowed_to_charge_ratio"))
    assert found == ratios


def test_of_rows_with_one_key_the_last_counts(settings, tables):
    rows = [row("claims", charged="900"), row("claims", charged="1100"), row("claims", claim_id="C2")]
    claims = refine(settings, tables, "claims", rows)
    assert [(claim["claim_id"], claim["charged"]) for claim in claims] == [("C1", 1100.0), ("C2", 1000.0)]


def test_an_event_counts_once_however_it_is_written(settings, tables):
    rows = [
        row("clinical_events"),
        row("clinical_events"),
        row("clinical_events", code="LOINC//2160-0//MG/DL", numeric_value="1.20"),
        row("clinical_events", numeric_value="1.3"),
        row("clinical_events", encounter_id=None),
        row("clinical_events", encounter_id=""),
    ]
    events = refine(settings, tables, "clinical_events", rows)
    assert sorted((event["encounter_id"] or "", event["numeric_value"]) for event in events) == [
        ("", 1.2),
        ("E1", 1.2),
        ("E1", 1.3),
    ]


def test_a_range_gives_the_rows_of_its_months(settings, tables):
    months = MonthRange.of("2023-01", "2023-03")
    for month in months:
        day = f"{month:%Y-%m}"
        stays = [
            row("admissions", encounter_id=f"{day}-{n % 3}", admitted_at=f"{day}-02", discharged_at=f"{day}-0{n + 3}")
            for n in range(5)
        ]
        land(settings, "admissions", day, [*stays, row("admissions", encounter_id="late")], "parquet")
        for name in ("patients", "clinical_events", "claims"):
            land(settings, name, day, [GOOD[name], row(name, patient_id="P2"), GOOD[name]])
    names = [*(table.qualified for table in (*BRONZE.values(), *SILVER.values())), "quarantine.rejected_rows"]
    tables.run(months)
    at_once = {name: tables.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in names}
    for month in months:
        tables.run(MonthRange(month, month))
    assert {name: tables.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in names} == at_once
    assert len(at_once["silver.admissions"]) == 10


def test_another_key_gives_other_pseudonyms_and_stands_in_no_text(settings, tables):
    query = silver_query("admissions", Slice(BRONZE["admissions"], MONTH), settings)
    secret = settings.privacy.pseudonym_key.get_secret_value()
    shown = f"{query!r} {query.sql}"
    assert secret not in shown
    assert all(repr(value) not in shown for value in query.parameters.values())
    other = settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"pseudonym_key": None})})
    land(settings, "admissions", "2023-01", [row("admissions")])
    tables.run(MONTH)
    (first,) = tables.rows("SELECT patient_key FROM silver.admissions")
    tables.settings = other
    tables.run(MONTH)
    (second,) = tables.rows("SELECT patient_key FROM silver.admissions")
    assert first != second
    assert len(second[0]) == 32
