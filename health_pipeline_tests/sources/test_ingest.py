from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from health_pipeline.errors import LandingError, SourceError
from health_pipeline.settings import Settings, load_settings
from health_pipeline.sources import ingest as ingest_module
from health_pipeline.sources.adapters import ADAPTERS, discover
from health_pipeline.sources.adapters.description import Input
from health_pipeline.sources.extracts import LandingZone, landing_zone
from health_pipeline.sources.ingest import IngestReport, ingest
from health_pipeline.sources.inputs import load_files
from health_pipeline.sources.landing import bronze_query


@pytest.fixture
def extract(tmp_path: Path) -> Path:
    """A copy of Synthea's golden input that a test may change."""
    return Path(shutil.copytree(ADAPTERS["synthea"].folder / "golden" / "input", tmp_path / "extract"))


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home")


def rows(settings: Settings, table: str) -> list[tuple[object, ...]]:
    path = f"{settings.landing_uri}/{table}/*.parquet"
    return duckdb.sql(f"SELECT * FROM read_parquet('{path}', union_by_name = true) ORDER BY ALL").fetchall()


def zipped(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{prefix}{path.name}")
            archive.writestr(f"__MACOSX/{prefix}._{path.name}", b"\x00\x05")
    return target


def test_optional_tables_and_columns_may_be_missing(extract: Path, home: Settings) -> None:
    for name in ("observations", "claims", "claims_transactions", "payers", "providers", "immunizations", "procedures"):
        (extract / f"{name}.csv").unlink(missing_ok=True)
    oldest = {
        "patients": "Id,BIRTHDATE,GENDER",
        "encounters": "Id,START,STOP,PATIENT,ENCOUNTERCLASS,CODE",
        "medications": "START,PATIENT,CODE",
        "conditions": "START,PATIENT,CODE",
    }
    for name, columns in oldest.items():
        path = extract / f"{name}.csv"
        table = duckdb.read_csv(str(path), all_varchar=True).select(*columns.split(",")).fetchall()
        path.write_text("\n".join([columns, *(",".join(row) for row in table)]))
    report = ingest("synthea", extract, home)
    assert report.rows["admissions"] == 3
    assert report.rows["claims"] == 0
    assert set(report.missing_inputs) == {
        "observations", "claims", "transactions", "payers", "providers", "immunizations", "procedures"
    }  # fmt: skip
    assert "not in the extract" in str(report)


def test_without_claims_the_costs_of_encounters_stand_in(extract: Path, home: Settings) -> None:
    (extract / "claims.csv").unlink()
    assert ingest("synthea", extract, home).rows["claims"] == 7
    amounts = "charged, allowed, payer_paid, patient_paid"
    path = f"{home.landing_uri}/claims/*.parquet"
    stay = duckdb.sql(f"SELECT {amounts} FROM read_parquet('{path}') WHERE encounter_id = 'e3'").fetchall()
    assert stay == [(12000.0, 12000.0, 9600.0, 2400.0)]


def replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def compress(path: Path, damage: Callable[[bytes], bytes]) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(damage(gzip.compress(path.read_bytes())))
    path.unlink()


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "table missing": (lambda e: (e / "encounters.csv").unlink(), r"encounters.csv is missing.*it has claims.csv"),
    "column missing": (
        lambda e: replace(e / "encounters.csv", "ENCOUNTERCLASS", "KLASS"),
        "columns missing: ENCOUNTERCLASS",
    ),
    "file empty": (lambda e: (e / "patients.csv").write_text(""), "the file is empty.*patients.csv"),
    "file cut off": (
        lambda e: (e / "encounters.csv").write_text((e / "encounters.csv").read_text()[:-90]),
        r"cannot be read \(InvalidInput error in line 8\)",
    ),
    "gzip cut off": (lambda e: compress(e / "encounters.csv", lambda packed: packed[:-9]), "no whole gzip file"),
    "gzip damaged": (
        lambda e: compress(e / "patients.csv", lambda packed: packed[:-8] + bytes(8)),
        "no whole gzip file",
    ),
    "quote open": (lambda e: replace(e / "patients.csv", "Baker2", '"Baker2'), "cannot be read"),
    "not UTF-8": (lambda e: (e / "payers.csv").write_bytes(b"Id,NAME\ny1,M\xe4dicare\n"), "cannot be read.*payers.csv"),
    "header twice": (lambda e: replace(e / "payers.csv", "Id,NAME", "Id,Id"), "empty or repeated names"),
    "no stays": (lambda e: replace(e / "encounters.csv", "inpatient", "ambulatory"), "holds no admission"),
    "two exports": (lambda e: shutil.copytree(e, e / "other"), "there more than once"),
    "corrupt parquet": (
        lambda e: ((e / "payers.csv").unlink(), (e / "payers.parquet").write_bytes(b"PAR1 nothing PAR1")),
        "cannot be read.*payers.parquet",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_and_nothing_is_landed(mistake: str, extract: Path, home: Settings) -> None:
    make, message = MISTAKES[mistake]
    make(extract)
    with pytest.raises(SourceError, match=f"(?s){message}") as caught:
        ingest("synthea", extract, home)
    assert caught.value.remedy
    for value in ("Baker2", "p1,", "999-00", "dicare"):
        assert value not in str(caught.value)
    assert not list(Path(home.landing_uri).rglob("*.parquet"))


def test_a_path_that_does_not_exist(home: Settings, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        ingest("synthea", tmp_path / "nowhere", home)


def test_an_archive_with_a_damaged_member(extract: Path, tmp_path: Path, home: Settings) -> None:
    path = zipped(extract, tmp_path / "extract.zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("encounters.csv")
    start = member.header_offset + 30 + len("encounters.csv")
    content[start : start + 40] = bytes(40)
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"cannot be unpacked.*encounters\.csv"):
        ingest("synthea", path, home)


def test_an_archive_cannot_write_outside_the_scratch_folder(extract: Path, tmp_path: Path, home: Settings) -> None:
    path = zipped(extract, tmp_path / "evil.zip", "../../../escaped/")
    ingest("synthea", path, home)
    assert not list(tmp_path.rglob("escaped*"))


def test_a_value_of_the_wrong_type_is_told_without_the_value(tmp_path: Path, home: Settings) -> None:
    folder = Path(shutil.copytree(ADAPTERS["uci"].folder / "golden" / "input", tmp_path / "uci"))
    replace(folder / "diabetic_data.csv", ",3,MC,", ",SECRET,MC,")
    with pytest.raises(SourceError, match="a value of the extract cannot be read") as caught:
        ingest("uci", folder, home)
    assert "SECRET" not in str(caught.value)


def test_the_nan_that_a_data_frame_writes_into_gaps_is_no_value(tmp_path: Path) -> None:
    file = tmp_path / "stays.parquet"
    duckdb.sql(f"COPY (FROM (VALUES (7::DOUBLE), ('nan'::DOUBLE)) AS stays(who)) TO '{file}' (FORMAT parquet)")
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA raw")
        load_files(connection, "stays", [file], Input(files=(file.name,), required=("who",)), str(file))
        assert connection.execute("FROM raw.stays").fetchall() == [("7",), (None,)]


def test_options(home: Settings, tmp_path: Path) -> None:
    folder = ADAPTERS["uci"].folder / "golden" / "input"
    assert ingest("uci", folder, home).rows["admissions"] == 3
    everything = load_settings(home=tmp_path / "all", ingest={"options": {"all_stays": True}})
    report = ingest("uci", folder, everything)
    assert report.rows["admissions"] == 4
    assert f"{report.months.last:%Y-%m}" == "2009-01"
    assert ingest("uci", folder, home, options={"all_stays": "true"}).rows["admissions"] == 4
    with pytest.raises(SourceError, match="unknown option 'all_stay'"):
        ingest("uci", folder, home, options={"all_stay": True})
    with pytest.raises(SourceError, match="give a bool"):
        ingest("uci", folder, home, options={"all_stays": "perhaps"})


def test_copies_of_uci_that_circulate(home: Settings, tmp_path: Path) -> None:
    """Another file name, an index column, empty cells for '?', and the columns that many drop."""
    folder = ADAPTERS["uci"].folder / "golden" / "input"
    ingest("uci", folder, home)
    header, *lines = [line.split(",") for line in (folder / "diabetic_data.csv").read_text().splitlines()]
    dropped = {"weight", "payer_code", "medical_specialty"}
    kept = [place for place, name in enumerate(header) if name not in dropped]
    table = [
        [str(number) if number else "Unnamed: 0", *("" if line[place] == "?" else line[place] for place in kept)]
        for number, line in enumerate([header, *lines])
    ]
    copy = tmp_path / "diabetes_clean.csv"
    copy.write_text("\n".join(",".join(line) for line in table))
    other = load_settings(home=tmp_path / "copy")
    ingest("uci", copy, other)
    lost = duckdb.sql(f"SELECT DISTINCT payer, service FROM read_parquet('{other.landing_uri}/admissions/*.parquet')")
    assert lost.fetchall() == [(None, None)]
    assert rows(other, "patients") == rows(home, "patients")
    assert rows(other, "clinical_events") == [row for row in rows(home, "clinical_events") if "29463-7" not in row[4]]


def test_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEALTH_PIPELINE_INGEST__OPTIONS__ALL_STAYS", "true")
    settings = load_settings(home=tmp_path)
    assert ingest("uci", ADAPTERS["uci"].folder / "golden" / "input", settings).rows["admissions"] == 4


def test_an_option_that_no_adapter_has_is_an_error(home: Settings, tmp_path: Path) -> None:
    folder = ADAPTERS["uci"].folder / "golden" / "input"
    mistyped = load_settings(home=tmp_path / "a", ingest={"options": {"all_stay": True}})
    with pytest.raises(SourceError, match="no adapter has an option 'all_stay'") as caught:
        ingest("uci", folder, mistyped)
    assert "did you mean all_stays (of uci)?" in caught.value.remedy
    others = load_settings(home=tmp_path / "b", ingest={"options": {"claim_lag_days": 10}})
    assert ingest("uci", folder, others).rows["admissions"] == 3, "options of another adapter may stand there"


def test_what_did_not_change_is_left_alone(extract: Path, home: Settings) -> None:
    """A full extract every month must not look like a restatement of all months."""
    assert ingest("synthea", extract, home).files > 3
    before = {path: path.stat().st_mtime_ns for path in Path(home.landing_uri).rglob("*.parquet")}
    again = ingest("synthea", extract, home)
    assert again.files == 0
    assert "no files new or changed" in str(again)
    replace(extract / "claims_transactions.csv", "11000.00,,", "10000.00,,")
    corrected = ingest("synthea", extract, home)
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = [path for path in before if before[path] != after[path]]
    assert {path.parent.name for path in changed} == {"claims"}
    assert corrected.files == len(changed) == 1
    assert "1 file new or changed" in str(corrected)


def test_rows_that_move_to_another_month_leave_no_copy_behind(extract: Path, home: Settings, tmp_path: Path) -> None:
    ingest("synthea", extract, home)
    replace(extract / "observations.csv", "2020-04", "2020-03")
    for column in ("LASTBILLEDDATE1", "LASTBILLEDDATE2", "LASTBILLEDDATEP", "2020-02-06"):
        assert column in (extract / "claims.csv").read_text()
    replace(extract / "claims.csv", "2020-02-06", "2020-03-20")
    report = ingest("synthea", extract, home)
    assert report.withdrawn == 1
    assert "1 withdrawn" in str(report)
    fresh = load_settings(home=tmp_path / "fresh")
    ingest("synthea", extract, fresh)
    for table in ADAPTERS["synthea"].tables:
        assert rows(home, table) == rows(fresh, table)


def test_ingest_is_repeatable_bit_for_bit(extract: Path, home: Settings) -> None:
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(Path(home.landing_uri).rglob("*.parquet"))}

    ingest("synthea", extract, home)
    first = content()
    ingest("synthea", extract, home)
    assert content() == first


def test_months_that_the_extract_does_not_hold_stay(extract: Path, home: Settings) -> None:
    other = Path(home.landing_uri) / "admissions" / "2030-01.parquet"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another source's month")
    ingest("synthea", extract, home)
    assert other.read_bytes() == b"another source's month"


def test_a_month_landed_as_csv_is_not_doubled(extract: Path, home: Settings) -> None:
    other = Path(home.landing_uri) / "admissions" / "2020-02.csv"
    other.parent.mkdir(parents=True)
    other.write_text("encounter_id\n")
    with pytest.raises(SourceError, match="already landed in another format"):
        ingest("synthea", extract, home)
    assert not list(Path(home.landing_uri).rglob("*.parquet"))


def test_a_killed_ingest_leaves_the_former_months_whole(
    extract: Path, home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest("synthea", extract, home)
    before = {path: path.read_bytes() for path in Path(home.landing_uri).rglob("*.parquet")}
    replace(extract / "encounters.csv", "o1", "o9")

    def killed(*_: object) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(LandingZone, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest("synthea", extract, home)
    assert {path: path.read_bytes() for path in Path(home.landing_uri).rglob("*.parquet")} == before
    monkeypatch.undo()
    (Path(home.landing_uri) / ".scratch").mkdir()
    (Path(home.landing_uri) / ".scratch" / "left-behind").write_text("of a killed process")
    ingest("synthea", extract, home)
    assert not (Path(home.landing_uri) / ".scratch").exists()


def test_two_writers_do_not_meet(extract: Path, home: Settings) -> None:
    with landing_zone(home), pytest.raises(SourceError, match="another process is writing"):
        ingest("synthea", extract, home)


def test_a_bucket_is_refused(extract: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="local landing folder only"):
        ingest("synthea", extract, load_settings(home=tmp_path, landing="s3://bucket/landing"))


def test_rows_without_a_date_are_counted(extract: Path, home: Settings) -> None:
    replace(extract / "observations.csv", "2020-02-05T06:00:00Z", "yesterday")
    report = ingest("synthea", extract, home)
    assert report.undated["clinical_events"] == 1
    assert "left out: clinical_events 1" in str(report)


@pytest.mark.parametrize("never", ["9999-12-31", "4712-12-31 00:00", "0001-01-01", "infinity"])
def test_a_date_that_stands_for_none_makes_no_month(tmp_path: Path, home: Settings, never: str) -> None:
    """A file for every month until then: 95,724 of them, and ninety seconds of work for one stay that goes on."""
    adapter_folder(home.home / "adapters")
    (tmp_path / "stays.csv").write_text(
        f"id;who;begin;end\n1;a;2020-01-01;2020-01-03\n2;b;2020-01-01;{never}\n3;c;2020-02-01;2020-03-03\n"
    )
    report = ingest("own", tmp_path / "stays.csv", home)
    assert (str(report.months), report.files, dict(report.undated)) == ("2020-01..2020-03", 3, {"admissions": 1})
    assert "without a usable date and left out: admissions 1" in str(report)


def test_nothing_recorded_later_is_landed_earlier(extract: Path, home: Settings) -> None:
    """The state of the export (marital status, income, death) must not stand in earlier rows."""
    ingest("synthea", extract, home)
    patients = duckdb.sql(f"""
        SELECT marital_status, income, deceased_on FROM read_parquet('{home.landing_uri}/patients/*.parquet')
        WHERE patient_id = 'p1' ORDER BY recorded_at""").fetchall()
    assert patients[0] == (None, None, None)
    assert patients[1][:2] == ("married", "52000")
    assert patients[1][2] is None
    assert patients[2][2] is not None


ADAPTER = """
title = "Test"
[inputs.stays]
files = ["stays.csv"]
required = ["id", "who", "begin", "end"]
"""
SELECT = """
SELECT id AS encounter_id, who AS patient_id, begin::TIMESTAMP AS admitted_at, "end"::TIMESTAMP AS discharged_at
FROM raw.stays"""


def adapter_folder(folder: Path, description: str = ADAPTER, select: str | None = SELECT) -> Path:
    own = folder / "own"
    own.mkdir(parents=True)
    (own / "adapter.toml").write_text(description)
    if select:
        (own / "admissions.sql").write_text(select)
    return folder


def ingest_own(tmp_path: Path, home: Settings, monkeypatch: pytest.MonkeyPatch, **parts: str) -> IngestReport:
    monkeypatch.setattr(ingest_module, "ADAPTERS", discover(adapter_folder(tmp_path / "adapters", **parts)))
    extract = tmp_path / "stays.csv"
    extract.write_text("id;who;begin;end\n1;a;2020-01-01 10:00;2020-01-03 12:00\n")
    return ingest("own", extract, home)


def test_a_folder_is_all_it_takes(tmp_path: Path, home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    report = ingest_own(tmp_path, home, monkeypatch)
    assert report.rows == {"admissions": 1}
    assert [row[:2] for row in rows(home, "admissions")] == [("1", "a")]


@pytest.mark.parametrize("name", ["adapter.toml", "admissions.sql", "prepare.sql"])
def test_an_adapter_in_another_encoding_is_told(tmp_path: Path, home: Settings, name: str) -> None:
    file = adapter_folder(home.home / "adapters") / "own" / name
    comment = "# Größe\n" if name == "adapter.toml" else "-- Größe\n"
    file.write_bytes(comment.encode("latin-1") + (file.read_bytes() if file.exists() else b""))
    (tmp_path / "stays.csv").write_text("id;who;begin;end\n1;a;2020-01-01 10:00;2020-01-03 12:00\n")
    with pytest.raises(SourceError, match="is not UTF-8") as caught:
        ingest("own", tmp_path / "stays.csv", home)
    assert caught.value.where == str(file)


def test_a_hospitals_own_adapter_lies_in_the_home(tmp_path: Path, home: Settings) -> None:
    adapter_folder(home.home / "adapters")
    extract = tmp_path / "stays.csv"
    extract.write_text("id;who;begin;end\n1;a;2020-01-01 10:00;2020-01-03 12:00\n")
    assert ingest("own", extract, home).rows == {"admissions": 1}
    with pytest.raises(SourceError, match="unknown adapter 'my_own'") as caught:
        ingest("my_own", extract, home)
    assert "own" in str(caught.value.remedy)
    (home.home / "adapters" / "own").rename(home.home / "adapters" / "uci")
    with pytest.raises(SourceError, match="an adapter 'uci' comes with the project"):
        ingest("uci", extract, home)


def test_a_select_that_breaks_the_contract(tmp_path: Path, home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = SELECT.replace("admitted_at", "arrived_at")
    with pytest.raises(SourceError, match=r"unknown \['arrived_at'\], missing \['admitted_at'\]"):
        ingest_own(tmp_path, home, monkeypatch, select=wrong)


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        ("strptime(begin, '%d.%m.%Y')", r"a value of the extract cannot be read \(InvalidInputException\)"),
        ("error('who is ' || who || begin)", "a value of the extract cannot be read"),
        ("begun", 'the SQL is not valid: .*"begun" not found'),
        ("begin begin begin", "the SQL is not valid: .*syntax error"),
        ("parse_it(begin)", "the SQL is not valid: .*parse_it does not exist"),
    ],
)
def test_a_select_that_breaks_is_told_without_the_value(
    tmp_path: Path, home: Settings, monkeypatch: pytest.MonkeyPatch, begin: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        ingest_own(tmp_path, home, monkeypatch, select=SELECT.replace("begin::TIMESTAMP", begin))
    assert "2020" not in str(caught.value)
    assert "admissions.sql" in str(caught.value.where)


@pytest.mark.parametrize(
    ("description", "select", "message"),
    [
        ("title = ", SELECT, "description of an adapter is not valid"),
        (ADAPTER + "colour = 'blue'\n", SELECT, "colour"),
        (ADAPTER, None, "without admissions.sql"),
        (ADAPTER + "[bundled]\nnodes = 'nodes.csv'\n", SELECT, "a bundled file is missing"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, description: str, select: str | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        discover(adapter_folder(tmp_path, description, select))


def test_only_a_marked_month_may_be_empty(extract: Path, home: Settings) -> None:
    """2020-03 has no stay: landed empty and marked. The same file without the mark is an accident."""
    months = ingest("synthea", extract, home).months
    bronze_query("admissions", months, home)
    path = Path(home.landing_uri) / "admissions" / "2020-03.parquet"
    assert duckdb.sql(f"SELECT count(*) FROM '{path}'").fetchall() == [(0,)]
    duckdb.sql(f"COPY (SELECT * FROM '{path}') TO '{path}.new' (FORMAT parquet)")
    path.with_suffix(".parquet.new").replace(path)
    with pytest.raises(LandingError, match="2020-03 has no rows"):
        bronze_query("admissions", months, home)
