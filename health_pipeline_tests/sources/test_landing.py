"""The landing zone: whole files become bronze; anything else is one error that names file, cause and remedy."""

import gzip
from pathlib import Path

import duckdb
import pytest

from health_pipeline.contracts import BRONZE, LANDING_TABLES
from health_pipeline.errors import LandingError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query, landed_files, landing_report
from health_pipeline_tests.contracts.landing_samples import GOOD, csv_bytes, land, row

MONTH = MonthRange.of("2023-01")
MARK = "Zebulon-4711"
"""A value that no error may show."""


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, start_month="2023-01", end_month="2023-03")


def rows(query):
    with duckdb.connect() as connection:
        cursor = connection.execute(query.sql, dict(query.parameters))
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    return sorted(found, key=lambda each: (each["source_file"], each["source_row"]))


def file(settings, name="2023-01.csv", table="admissions"):
    path = Path(settings.landing_uri) / table / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def admissions_csv(count=50):
    stays = [row("admissions", encounter_id=f"E{n}", service=MARK) for n in range(count)]
    return csv_bytes(stays, LANDING_TABLES["admissions"].column_names)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind, settings):
    land(settings, "claims", "2023-01", [GOOD["claims"], row("claims", claim_id="C2", denied=None)], kind)
    first, second = rows(bronze_query("claims", MONTH, settings))
    assert (first["source_file"], first["source_row"]) == (f"claims/2023-01.{kind}", 1)
    assert (second["source_row"], second["claim_id"], second["denied"]) == (2, "C2", None)
    assert f"{first['month']}" == "2023-01-01"
    assert first["row_hash"] == "50511c7fe7fd8824dfe36a59669d1d63"
    assert first.keys() == set(BRONZE["claims"].column_names)


def test_columns_may_be_missing_unknown_or_in_any_order_and_case(settings):
    columns = ("Discharged_At", "ENCOUNTER_ID", "patient_id", "admitted_at", "ward no", "it's")
    stay = {
        "Discharged_At": "2023-01-15",
        "ENCOUNTER_ID": "E1",
        "patient_id": "P1",
        "admitted_at": "2023-01-10",
        "ward no": "7",
        "it's": 'a "b"',
    }
    land(settings, "admissions", "2023-01", [stay], columns=columns)
    (found,) = rows(bronze_query("admissions", MONTH, settings))
    assert (found["encounter_id"], found["discharged_at"], found["payer"]) == ("E1", "2023-01-15", None)
    assert found["extra"] == '{"ward no":"7","it\'s":"a \\"b\\""}'


def test_months_of_different_shape_are_read_by_one_statement(settings):
    land(settings, "admissions", "2023-01", [row("admissions", discharged_at="2023-01-15")], "parquet")
    land(
        settings,
        "admissions",
        "2023-02",
        [row("admissions")],
        "csv.gz",
        ("discharged_at", "encounter_id", "patient_id", "admitted_at"),
    )
    duckdb.execute(
        f"""COPY (SELECT 12.0::DOUBLE AS encounter_id, 7 AS patient_id, TIMESTAMP '2023-03-01 10:00' AS admitted_at,
        TIMESTAMPTZ '2023-03-02 10:00:00+02' AS discharged_at, [1, 2] AS list, 'x'::BLOB AS bytes)
        TO '{file(settings, "2023-03.parquet")}'"""
    )
    first, second, third = rows(bronze_query("admissions", MonthRange.of("2023-01", "2023-03"), settings))
    assert (first["payer"], second["payer"], second["source_row"]) == ("medicare", None, 1)
    assert (third["encounter_id"], third["patient_id"]) == ("12", "7")
    assert (third["admitted_at"], third["discharged_at"]) == ("2023-03-01 10:00:00", "2023-03-02 08:00:00")
    assert third["extra"] == '{"list":"[1,2]","bytes":"x"}'


def test_names_with_glob_characters_and_quotes_are_plain_names(tmp_path):
    settings = Settings(home=tmp_path / "it's [1] *?", start_month="2023-01", end_month="2023-03")
    for kind, month in (("csv", "2023-01"), ("parquet", "2023-02")):
        stay = row("admissions", discharged_at=f"{month}-15")
        path = file(settings, f"{month}.{kind}")
        if kind == "csv":
            path.write_bytes(csv_bytes([stay], tuple(stay)))
        else:
            with duckdb.connect() as connection:
                query = (
                    "COPY (SELECT 'E' AS encounter_id, 'P' AS patient_id, '' AS admitted_at, '' AS discharged_at) TO "
                )
                connection.execute(query + "'" + str(path).replace("'", "''") + "'")
    found = rows(bronze_query("admissions", MonthRange.of("2023-01", "2023-02"), settings))
    assert [each["source_file"] for each in found] == ["admissions/2023-01.csv", "admissions/2023-02.parquet"]


def test_the_nan_that_a_data_frame_writes_into_gaps_is_no_value(settings):
    """As text it would be a name: all patients without one would be the patient "nan", who comes back all the time."""
    duckdb.sql(f"""
        COPY (SELECT 'E' || who AS encounter_id, who AS patient_id, '2023-01-03' AS admitted_at,
                '2023-01-04' AS discharged_at, who::FLOAT AS ward
              FROM (VALUES (7::DOUBLE), ('nan'::DOUBLE), (0.5)) AS stays(who))
        TO '{file(settings, "2023-01.parquet")}' (FORMAT parquet)""")
    found = rows(bronze_query("admissions", MONTH, settings))
    assert [each["patient_id"] for each in found] == ["7", None, "0.5"]
    assert [each["extra"] for each in found] == ['{"ward":"7"}', '{"ward":null}', '{"ward":"0.5"}']


def test_a_document_may_stand_in_a_field(settings):
    letter = "Dear colleague,\n" * 20_000
    stays = [row("admissions", encounter_id=f"E{n}", service=letter) for n in range(2)]
    file(settings).write_bytes(csv_bytes(stays, LANDING_TABLES["admissions"].column_names))
    assert [each["service"] for each in rows(bronze_query("admissions", MONTH, settings))] == [letter, letter]


def test_row_numbers_of_a_csv_follow_the_file(settings):
    file(settings).write_bytes(admissions_csv(20_000))
    found = rows(bronze_query("admissions", MONTH, settings))
    assert all(each["encounter_id"] == f"E{each['source_row'] - 1}" for each in found)
    assert len(found) == 20_000


def test_an_absent_feature_table_is_an_empty_slice(settings):
    assert rows(bronze_query("claims", MonthRange.of("2023-01", "2023-03"), settings)) == []
    assert landed_files("claims", MONTH, settings) == {}


def test_an_error_names_every_month_that_fails(settings):
    land(settings, "admissions", "2023-02", [GOOD["admissions"]])
    land(settings, "admissions", "2023-02", [GOOD["admissions"]], "parquet")
    file(settings, "2023-03.parquet").write_bytes(b"PAR1")
    with pytest.raises(LandingError) as caught:
        bronze_query("admissions", MonthRange.of("2023-01", "2023-03"), settings)
    assert "3 of 3 months" in caught.value.what
    assert "2023-01 has no file" in caught.value.what
    assert "2023-02 has two files: admissions/2023-02.csv and admissions/2023-02.parquet" in caught.value.what
    assert "2023-03 is no whole Parquet file" in caught.value.what
    assert caught.value.where == f"{settings.landing_uri}/admissions"
    assert "HEALTH_PIPELINE_LANDING" in caught.value.remedy
    with pytest.raises(LandingError, match="two files"):
        landed_files("admissions", MonthRange.of("2023-02"), settings)


def damaged():
    text = admissions_csv()
    zipped = gzip.compress(text, mtime=0)
    flipped = bytearray(zipped)
    flipped[-6] ^= 0xFF
    parts = text.split(b"\n")
    return {
        "empty": ("2023-01.csv", b"", "is empty"),
        "blank": ("2023-01.csv", b"\n\n", "is empty"),
        "header only": ("2023-01.csv", parts[0] + b"\n", "has no rows"),
        "cut in a row": ("2023-01.csv", text[:-60], "line 51 has"),
        "field too many": ("2023-01.csv", text + parts[1] + b",x\n", "line 52 has 14 fields, the header has 13"),
        "open quote": ("2023-01.csv", text + b'"' + parts[1] + b"\n" + parts[2] + b"\n", "badly quoted"),
        "quote inside": ("2023-01.csv", text.replace(b"emergency,", b'"emer"gency,', 1), "badly quoted"),
        "latin-1": ("2023-01.csv", text.replace(b"white", b"wei\xdf").replace(b"medicare", b"caf\xe9", 1), "not UTF-8"),
        "semicolons": ("2023-01.csv", text.replace(b",", b";"), "is separated by semicolons"),
        "lost column": ("2023-01.csv", text.replace(b"discharged_at", b"left_at"), "required columns: discharged_at"),
        "column twice": ("2023-01.csv", text.replace(b"drg", b"PAYER"), "has a column twice: payer"),
        "reserved": ("2023-01.csv", text.replace(b"drg", b"__landed_row"), "reserved"),
        "no gzip": ("2023-01.csv.gz", text, "no whole gzip file"),
        "cut gzip": ("2023-01.csv.gz", zipped[: len(zipped) // 2], "no whole gzip file"),
        "gzip without end": ("2023-01.csv.gz", zipped[:-8], "no whole gzip file"),
        "flipped bit": ("2023-01.csv.gz", bytes(flipped), "no whole gzip file"),
        "empty gzip": ("2023-01.csv.gz", b"", "is empty"),
        "no parquet": ("2023-01.parquet", text, "no whole Parquet file"),
        "empty parquet": ("2023-01.parquet", b"", "no whole Parquet file"),
    }


@pytest.mark.parametrize("fault", damaged())
def test_damaged_files_are_told_without_their_content(fault, settings):
    name, content, cause = damaged()[fault]
    file(settings, name).write_bytes(content)
    with pytest.raises(LandingError) as caught:
        bronze_query("admissions", MONTH, settings)
    assert cause in caught.value.what
    assert "2023-01" in caught.value.what
    assert caught.value.remedy
    assert MARK not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("damage", ["cut", "page", "footer"])
def test_damaged_parquet_is_refused(damage, settings):
    path = land(
        settings, "admissions", "2023-01", [row("admissions", encounter_id=f"E{n}") for n in range(5000)], "parquet"
    )
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        start = 100 if damage == "page" else len(content) - 300
        content[start : start + 150] = bytes(range(150))
    path.write_bytes(content)
    with pytest.raises(LandingError, match="no whole Parquet file"):
        bronze_query("admissions", MONTH, settings)


def test_a_file_that_cannot_be_opened_is_told(settings):
    file(settings).symlink_to(file(settings, "gone"))
    with pytest.raises(LandingError, match="cannot be opened"):
        bronze_query("admissions", MONTH, settings)


def test_a_folder_that_may_not_be_read_is_told(settings, monkeypatch):
    folder = file(settings).parent

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(LandingError, match=r"cannot be listed \(PermissionError\)") as caught:
        bronze_query("admissions", MONTH, settings)
    assert caught.value.where == str(folder)


def test_a_folder_in_place_of_a_file_is_no_file(settings):
    file(settings).mkdir()
    with pytest.raises(LandingError, match="has no file"):
        bronze_query("admissions", MONTH, settings)


def test_the_report_tells_what_is_never_read(settings):
    land(settings, "admissions", "2023-01", [GOOD["admissions"]])
    land(settings, "admissions", "2022-12", [GOOD["admissions"]])
    for stranger in ("2023-13.csv", "january.csv", "2023-02.xlsx", "2023-2.csv", ".hidden", "_SUCCESS"):
        file(settings, stranger).write_bytes(b"")
    report = landing_report(settings)["admissions"]
    assert [f"{month:%Y-%m}" for month in report.months] == ["2023-01"]
    assert [f"{month:%Y-%m}" for month in report.absent] == ["2023-02", "2023-03"]
    assert [f"{month:%Y-%m}" for month in report.outside] == ["2022-12"]
    assert report.strangers == ("2023-02.xlsx", "2023-13.csv", "2023-2.csv", "january.csv")
    assert landing_report(settings)["claims"].months == ()
    open_end = settings.model_copy(update={"end_month": None})
    assert landing_report(open_end)["admissions"].absent == ()
