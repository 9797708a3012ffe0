"""What a trial reading says of files, before anything is stored."""

import pytest

from health_pipeline.months import parse_month
from health_pipeline.settings import load_settings
from health_pipeline.sources.landing_trial import NEWEST_FILES, try_landing

HEADER = "encounter_id,patient_id,admitted_at,discharged_at"
GOOD = "E1,P1,2023-01-03 14:20,2023-01-09 11:05"


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path, start_month="2023-01", end_month="2023-12")


def deliver(settings, name, *lines):
    file = settings.home / "landing" / "admissions" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def test_good_rows_pass_and_unknown_columns_are_named(settings):
    deliver(settings, "2023-01.csv", f"{HEADER},ward", f"{GOOD},3b")
    trial = try_landing("admissions", settings)
    assert (trial.month, trial.rows, dict(trial.refused)) == (parse_month("2023-01"), 1, {})
    assert trial.unknown == ("ward",)
    assert not trial.faults


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ((HEADER.replace("patient_id", "mrn"), GOOD), "lacks required columns: patient_id"),
        ((HEADER.replace(",", ";"), GOOD.replace(",", ";")), "separated by semicolons"),
        ((HEADER.replace(",", "\t"), GOOD.replace(",", "\t")), "separated by tabs"),
        ((HEADER,), "has no rows"),
        ((HEADER, "E1,P1,2023"), "cut off"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_cause(settings, lines, cause):
    deliver(settings, "2023-01.csv", HEADER, GOOD)
    deliver(settings, "2023-02.csv", *lines)
    trial = try_landing("admissions", settings)
    assert list(trial.faults) == [parse_month("2023-02")]
    assert cause in trial.faults[parse_month("2023-02")].cause
    assert trial.month == parse_month("2023-01"), "the newest file that can be read is tried"


def test_columns_of_the_contract_are_known_in_upper_case_too(settings):
    deliver(settings, "2023-01.csv", f"{HEADER.upper()},Ward", f"{GOOD},3b")
    trial = try_landing("admissions", settings)
    assert (trial.rows, dict(trial.refused), trial.unknown) == (1, {}, ("Ward",))


def test_rows_that_break_a_rule_are_counted_by_its_words_and_never_shown(settings):
    deliver(settings, "2023-01.csv", HEADER, GOOD, "E2,P2,03.01.2023 14:20,09.01.2023 11:05", "E3,P3,,")
    trial = try_landing("admissions", settings)
    assert sum(trial.refused.values()) == 2
    assert any("admitted_at" in words for words in trial.refused)
    assert "03.01.2023" not in repr(trial)


def test_only_the_newest_files_within_the_months_are_opened(settings):
    for month in range(1, 13):
        deliver(settings, f"2023-{month:02d}.csv", HEADER, GOOD)
    deliver(settings, "2024-01.csv", "nonsense")
    trial = try_landing("admissions", settings)
    assert (trial.opened, trial.month, dict(trial.faults)) == (NEWEST_FILES, parse_month("2023-12"), {})


def test_two_files_of_a_month_are_a_fault(settings):
    deliver(settings, "2023-01.csv", HEADER, GOOD)
    (settings.home / "landing" / "admissions" / "2023-01.csv.gz").write_bytes(b"")
    trial = try_landing("admissions", settings)
    assert "two files" in trial.faults[parse_month("2023-01")].cause
    assert trial.month is None
