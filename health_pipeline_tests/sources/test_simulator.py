from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import duckdb
import numpy as np
import pytest

from health_pipeline.errors import SourceError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings, SimulatorSettings, load_settings
from health_pipeline.sources.simulator import simulate
from health_pipeline.sources.simulator.faults import FAULTS
from health_pipeline.sources.simulator.hospital import Hospital
from health_pipeline.sources.simulator.population import DAY
from health_pipeline.sources.simulator.random import expit
from health_pipeline.sources.simulator.risk import readmission_log_odds
from health_pipeline.sources.simulator.script import NORMAL, SCRIPT, effects_at
from health_pipeline.sources.simulator.stay import DISPOSITIONS, concatenate
from health_pipeline_tests.sources.through_contracts import through_contracts

TABLES = ("admissions", "patients", "clinical_events", "claims")


def small(home: Path, **simulator: object) -> Settings:
    return load_settings(home=home, start_month="2022-01", simulator={"admissions_per_month": 60, **simulator})


def hashes(home: Path) -> dict[str, str]:
    folder = home / "landing"
    files = sorted(folder.rglob("*.parquet"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def landed(home: Path, table: str, month: str = "*") -> str:
    return f"read_parquet('{home}/landing/{table}/{month}.parquet')"


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    home = tmp_path_factory.mktemp("year")
    settings = small(home, admissions_per_month=250, dirt_rate=0.02)
    simulate(MonthRange.of("2022-01", "2022-12"), settings)
    return home, settings


@pytest.mark.parametrize("admissions_per_month", [1, 5])
def test_a_tiny_hospital_has_months_without_rows_and_says_so(tmp_path: Path, admissions_per_month: int) -> None:
    settings = small(tmp_path, admissions_per_month=admissions_per_month)
    months = MonthRange.of("2022-01", "2023-12")
    report = simulate(months, settings)
    contracts = through_contracts(months, settings)
    assert contracts.count("bronze.admissions") == report.rows["admissions"] > 0
    stays = dict(contracts.connection.execute("SELECT month, count(*) FROM bronze.admissions GROUP BY 1").fetchall())
    assert (len(stays) < len(months)) is (admissions_per_month == 1), "one of them has months without stays"


def test_every_month_of_every_table_is_landed(year: tuple[Path, Settings]) -> None:
    names = {f"{table}/2022-{month:02}.parquet" for table in TABLES for month in range(1, 13)}
    assert set(hashes(year[0])) == names


def test_a_month_is_the_same_alone_with_others_and_later(tmp_path: Path) -> None:
    simulate(MonthRange.of("2022-01", "2022-10"), small(tmp_path / "whole"))
    whole = hashes(tmp_path / "whole")
    for months in (("2022-01", "2022-04"), ("2022-05", "2022-07"), ("2022-08", "2022-08"), ("2022-10", "2022-10")):
        simulate(MonthRange.of(*months), small(tmp_path / "steps"))
    steps = hashes(tmp_path / "steps")
    assert len(steps) == 36
    assert steps == {name: whole[name] for name in steps}


def test_another_seed_gives_another_hospital(tmp_path: Path) -> None:
    month = MonthRange.of("2022-01")
    simulate(month, small(tmp_path / "a"))
    simulate(month, small(tmp_path / "b", seed=8))
    a, b = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    assert a.keys() == b.keys()
    assert all(a[name] != b[name] for name in a)


def test_months_before_the_start_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="opens in 2022-01"):
        simulate(MonthRange.of("2021-12", "2022-02"), small(tmp_path))
    assert not (tmp_path / "landing").exists()


@pytest.mark.parametrize("name", ["admissions/2022-02.parquet", "patients/2021-05.csv", "claims/2030-01.csv.gz"])
def test_extracts_of_a_hospital_are_neither_replaced_nor_mixed_with_invented_ones(tmp_path: Path, name: str) -> None:
    settings = small(tmp_path, admissions_per_month=5)
    months = MonthRange.of("2022-01", "2022-02")
    simulate(months, settings)
    simulate(months, settings)  # what is simulated may be simulated again
    delivered = tmp_path / "landing" / name
    duckdb.sql(f"COPY (SELECT 'E1' AS encounter_id) TO '{tmp_path}/delivered.parquet' (FORMAT parquet)")
    (tmp_path / "delivered.parquet").replace(delivered)
    before = hashes(tmp_path)
    with pytest.raises(SourceError, match="did not write") as error:
        simulate(months, settings)
    assert error.value.where == str(delivered)
    assert hashes(tmp_path) == before


def test_progress_names_every_month(tmp_path: Path) -> None:
    seen: list[str] = []
    simulate(MonthRange.of("2022-02", "2022-03"), small(tmp_path), progress=seen.append)
    assert seen == ["2022-02", "2022-03"]


def test_faults_meet_their_fate(year: tuple[Path, Settings]) -> None:
    _, settings = year
    contracts = through_contracts(MonthRange.of("2022-01", "2022-12"), settings)
    for table in TABLES:
        bronze, silver = contracts.count(f"bronze.{table}"), contracts.count(f"silver.{table}")
        rejected = contracts.count("rejected", f"table_name = '{table}'")
        kinds = len(FAULTS[table])
        expected = settings.simulator.dirt_rate * bronze / kinds
        quarantined = sum(fault.fate == "quarantined" for fault in FAULTS[table])
        repeated = sum(fault.is_repeated for fault in FAULTS[table])
        assert rejected == pytest.approx(expected * quarantined, rel=0.45)
        assert bronze - silver - rejected == pytest.approx(expected * repeated, rel=0.45)
    rules = {rule for _, rule in contracts.rejected()}
    assert {"patient_id_missing", "code_without_system", "discharge_before_admission", "charged_negative"} <= rules


def test_without_dirt_nothing_is_rejected_or_deduplicated(tmp_path: Path) -> None:
    settings = small(tmp_path, admissions_per_month=200, dirt_rate=0)
    months = MonthRange.of("2022-01", "2022-04")
    simulate(months, settings)
    contracts = through_contracts(months, settings)
    assert contracts.rejected() == {}
    for table in TABLES:
        assert contracts.count(f"silver.{table}") == contracts.count(f"bronze.{table}") > 0


def test_restated_rows_end_with_the_right_version(year: tuple[Path, Settings]) -> None:
    rows = landed(year[0], "admissions")
    restated = duckdb.sql(f"""
        SELECT count(*), count(*) FILTER (last.discharge_disposition <> 'unknown') FROM (
            SELECT encounter_id, last(discharge_disposition ORDER BY file_row_number) AS discharge_disposition
            FROM read_parquet('{year[0]}/landing/admissions/*.parquet', file_row_number = true)
            WHERE encounter_id IN (SELECT encounter_id FROM {rows} WHERE discharge_disposition = 'unknown')
            GROUP BY encounter_id
        ) AS last""").fetchall()[0]
    assert restated[0] > 0
    assert restated[0] == restated[1]


def test_order_of_rows_and_identifiers_tells_nothing_about_the_outcome(year: tuple[Path, Settings]) -> None:
    """The simulator makes readmissions after first stays; neither the file nor the numbers may show it."""
    rows = duckdb.sql(f"""
        SELECT discharged_at, encounter_id FROM read_parquet('{year[0]}/landing/admissions/2022-05.parquet')
        WHERE try_cast(discharged_at AS TIMESTAMP) < '2030-01-01' LIMIT 200""").fetchall()
    moments, numbers = [row[0] for row in rows], [int(row[1][1:]) for row in rows]
    assert moments == sorted(moments)
    assert abs(np.corrcoef(np.arange(len(numbers)), numbers)[0, 1]) < 0.25


def test_lags_are_realistic(year: tuple[Path, Settings]) -> None:
    home = year[0]
    lag, early = duckdb.sql(f"""
        SELECT median(date_diff('day', service_to::TIMESTAMP, processed_at::TIMESTAMP)),
               count(*) FILTER (processed_at::TIMESTAMP < service_to::TIMESTAMP)
        FROM {landed(home, "claims")} WHERE service_to::TIMESTAMP >= service_from::TIMESTAMP""").fetchall()[0]
    assert 14 <= lag <= 45
    assert early == 0
    late = duckdb.sql(f"""
        WITH stays AS (
            SELECT encounter_id, any_value(try_cast(discharged_at AS TIMESTAMP)) AS discharged_at
            FROM {landed(home, "admissions")} GROUP BY encounter_id)
        SELECT split_part(code, '//', 1), avg((try_cast(recorded_at AS TIMESTAMP) > discharged_at)::INTEGER)
        FROM {landed(home, "clinical_events")} JOIN stays USING (encounter_id)
        WHERE code LIKE '%//%' AND recorded_at < '2030' GROUP BY 1""").fetchall()
    share = dict(late)
    assert 0.05 < share["ICD10CM"] < 0.30
    assert 0.0 < share["LOINC"] < 0.06
    assert share["RXNORM"] < 0.02


def test_facts_are_recorded_after_they_happened_and_in_their_month(year: tuple[Path, Settings]) -> None:
    wrong = duckdb.sql(f"""
        SELECT count(*) FILTER (recorded_at::TIMESTAMP < time::TIMESTAMP),
               count(*) FILTER (strftime(recorded_at::TIMESTAMP, '%Y-%m') <> '2022-06')
        FROM {landed(year[0], "clinical_events", "2022-06")} WHERE recorded_at < '2030'""").fetchall()[0]
    assert wrong == (0, 0)


def live(months: int, drift: bool = False, size: int = 1_500) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True probability, that by the rules before any drift, outcome and month of the index discharges of a hospital."""
    hospital = Hospital(dt.date(2022, 1, 1), SimulatorSettings(admissions_per_month=size, drift=drift))
    care = [hospital.advance() for _ in range(18 + months)][18:]
    stays = concatenate([month.stays for month in care])
    index = np.concatenate([np.full(len(month.stays), month.index) for month in care])
    log_odds = np.concatenate([month.log_odds for month in care])
    order = np.lexsort((stays.admitted_at, stays.person))
    stays, index, log_odds = stays.take(order), index[order], log_odds[order]
    gap = np.full(len(stays), np.inf)
    follows = stays.person[1:] == stays.person[:-1]
    gap[:-1][follows] = ((stays.admitted_at[1:] - stays.discharged_at[:-1]) / DAY)[follows]
    assert (gap >= 0).all(), "stays of a patient overlap"
    planned = np.append(stays.is_planned[1:], False)
    excluded = [DISPOSITIONS.index(name) for name in ("expired", "hospice", "acute_transfer", "against_advice")]
    chosen = ~np.isin(stays.disposition, excluded) & (index < months - 2)
    before = expit(readmission_log_odds(stays.take(chosen), NORMAL))
    return expit(log_odds[chosen]), before, ((gap <= 30) & ~planned)[chosen], index[chosen]


def auroc(outcome: np.ndarray, score: np.ndarray) -> float:
    rank = np.argsort(np.argsort(score)) + 1
    positive = outcome.sum()
    return float((rank[outcome].sum() - positive * (positive + 1) / 2) / (positive * (len(outcome) - positive)))


def test_risk_is_realistic_and_below_the_leak_ceiling() -> None:
    probability, _, outcome, _ = live(14)
    assert 0.12 <= outcome.mean() <= 0.16
    # Even who knows the true probability stays below the ceiling that raises the leak alarm.
    assert 0.72 <= auroc(outcome, probability) <= 0.82


def test_concept_change_makes_the_old_rules_wrong() -> None:
    event = next(event for event in SCRIPT if event.kind == "concept change")
    _, old_rules, outcome, index = live(event.month + 10, drift=True)
    before, after = index < event.month, index >= event.month
    assert auroc(outcome[after], old_rules[after]) < auroc(outcome[before], old_rules[before]) - 0.04


def test_script_names_known_knobs_and_can_be_switched_off() -> None:
    for event in SCRIPT:
        assert event.effects
        assert set(event.effects) <= set(NORMAL)
    assert effects_at(35, drift=False) == NORMAL
    assert {event.kind for event in SCRIPT} == {"covariate shift", "coding change", "unit change", "concept change"}


def test_drift_events_show_in_the_landed_rows(tmp_path: Path) -> None:
    months = MonthRange.of("2024-04", "2024-05")  # months 27 and 28: the unit of urea nitrogen changes in between
    simulate(months, small(tmp_path / "drift", admissions_per_month=150, dirt_rate=0))
    simulate(months, small(tmp_path / "calm", admissions_per_month=150, dirt_rate=0, drift=False))

    def urea(home: str, month: str) -> float:
        rows = landed(tmp_path / home, "clinical_events", month)
        return float(
            duckdb.sql(
                f"SELECT median(numeric_value::DOUBLE) FROM {rows} WHERE code = 'LOINC//3094-0//mg/dL'"
            ).fetchall()[0][0]
        )

    assert urea("drift", "2024-05") < 0.6 * urea("drift", "2024-04")
    assert urea("calm", "2024-05") == pytest.approx(urea("calm", "2024-04"), rel=0.15)

    def share(home: str, condition: str) -> float:
        rows = landed(tmp_path / home, "admissions")
        return float(duckdb.sql(f"SELECT avg(({condition})::INTEGER) FROM {rows}").fetchall()[0][0])

    assert share("drift", "service LIKE 'SL-%'") == 1
    assert share("calm", "service LIKE 'SL-%'") == 0
    nursing = "admission_source = 'transfer_skilled_nursing'"
    assert share("drift", nursing) > 1.8 * share("calm", nursing)


@pytest.mark.slow
def test_a_hospital_of_hundred_thousand_admissions_a_month(tmp_path: Path) -> None:
    report = simulate(MonthRange.of("2022-01", "2022-02"), small(tmp_path, admissions_per_month=100_000))
    assert report.rows["admissions"] > 180_000
