"""The command line as a person meets it: exit codes, messages without traceback, help."""

import os
import subprocess
import sys

import pytest


def command(home, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "health_pipeline", *arguments],
        env={
            **os.environ,
            "HEALTH_PIPELINE_HOME": str(home),
            "COLUMNS": "200",
            "HEALTH_PIPELINE_START_MONTH": "2022-01",
            "HEALTH_PIPELINE_END_MONTH": "2022-04",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["run", "--from", "2022-99"], {}, 2, "not a month: '2022-99'"),
        (["run", "--from", "2022-03", "--to", "2022-01"], {}, 2, "before it begins"),
        (["run", "--from", "2030-01", "--to", "2030-02"], {}, 2, "no selected asset has months"),
        (["run", "--from", "2030-01"], {}, 2, "START_MONTH and END_MONTH stand for what is not named"),
        (["predictions", "--output", "x.csv", "--month", "spring"], {}, 2, "where:  --month"),
        (["run", "--select", "gold/nothing"], {}, 2, "gold/nothing"),
        (["status"], {"HEALTH_PIPELINE_START_MONTH": "spring"}, 2, "HEALTH_PIPELINE_START_MONTH"),
        (["quarantine", "list", "--table", "wards"], {}, 2, "no landing table 'wards'"),
        (["decisions", "--decision", "promote"], {}, 2, "no decision 'PROMOTE'"),
        (["status"], {"HEALTH_PIPELINE_HOME": __file__}, 3, __file__),
        (["ingest", "uci", "--input", "nowhere.zip"], {}, 3, "nowhere.zip"),
        (["ingest", "unheard-of", "--input", "."], {}, 3, "unheard-of"),
    ],
)
def test_a_users_mistake_gives_one_clear_error_and_an_exit_code(tmp_path, arguments, environment, code, says):
    result = command(tmp_path, *arguments, **environment)
    assert result.returncode == code, result.stderr
    assert says in result.stderr.replace("\n", "")
    assert "Traceback" not in result.stderr
    assert "remedy:" in result.stderr


def test_a_risk_list_of_an_empty_home_says_how_to_get_one(tmp_path):
    result = command(tmp_path, "predictions", "--output", str(tmp_path / "list.csv"))
    assert result.returncode == 5
    assert "no prediction of champion is stored" in result.stderr
    assert "health-pipeline run" in result.stderr
    assert not (tmp_path / "list.csv").exists()


@pytest.mark.parametrize("arguments", [["decisions"], ["quarantine", "list"], ["quarantine", "retry"]])
def test_what_is_stored_is_shown_also_while_the_months_are_open(tmp_path, arguments):
    result = command(tmp_path, *arguments, HEALTH_PIPELINE_END_MONTH="")
    assert result.returncode == 0, result.stderr
    asked = command(tmp_path, "run", HEALTH_PIPELINE_END_MONTH="")
    assert "name the last month" in asked.stderr, "what is run is named"


def test_help_names_every_command():
    result = command(".", "--help")
    for name in (
        "simulate",
        "ingest",
        "run",
        "status",
        "doctor",
        "demo",
        "up",
        "decisions",
        "predictions",
        "rollback",
        "quarantine",
    ):
        assert name in result.stdout


def test_a_missing_file_fails_with_its_name_and_the_remedy(tmp_path):
    result = command(tmp_path, "run", "--select", "bronze/admissions")
    assert result.returncode == 1
    assert "2022-01" in result.stderr
    assert "remedy" in result.stderr
    assert "Traceback" not in result.stderr
    assert "untouched" in result.stderr


def test_doctor_of_an_empty_home_says_what_to_do(tmp_path):
    result = command(tmp_path, "doctor")
    assert "no warehouse yet" in result.stdout
    assert "health-pipeline run" in result.stdout


def test_doctor_names_variables_that_no_setting_has(tmp_path, monkeypatch):
    monkeypatch.setenv("HEALTH_PIPELINE_STRAT_MONTH", "2022-01")
    monkeypatch.setenv("HEALTH_PIPELINE_API_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HEALTH_PIPELINE_API_PORT_8080_TCP", "tcp://10.0.0.1:8080")
    said = command(tmp_path, "doctor").stdout
    assert said.count("is no setting") == 1
    assert "HEALTH_PIPELINE_STRAT_MONTH is no setting and changes nothing" in said
    assert "did you mean HEALTH_PIPELINE_START_MONTH?" in said


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TRAINING__FAMILIES", '["xgb"]', "unknown model family 'xgb'"),
        ("TRAINING__FAMILIES", "[]", "no model family is chosen"),
        ("PROMOTION__PLAN", "nowhere.toml", "the change-control plan cannot be used"),
        ("PRIVACY__PSEUDONYM_KEY", "short", "the pseudonym key is shorter than"),
        ("NOTIFY__CRITICAL_URLS", '["pagerdoty://hunter2@x"]', "notify.critical_urls[0]: an alert address is not one"),
    ],
)
def test_doctor_tries_what_a_later_run_would_refuse(tmp_path, name, value, says):
    said = command(tmp_path, "doctor", **{f"HEALTH_PIPELINE_{name}": value})
    assert (said.returncode, said.stderr) == (1, "")
    assert any(line.startswith("broken") and says in line for line in said.stdout.splitlines()), said.stdout
    assert not (tmp_path / "pseudonym.key").exists()


def test_doctor_explains_files_that_cannot_be_used(tmp_path):
    landing = tmp_path / "landing" / "admissions"
    landing.mkdir(parents=True)
    (tmp_path / "landing" / "admission").mkdir()
    header = "encounter_id,patient_id,admitted_at,discharged_at"
    (landing / "2022-01.csv").write_text(f"{header}\nE1,P1,03.01.2022 14:20,09.01.2022 11:05\n")
    (landing / "2022-02.csv").write_text(header.replace(",", ";") + "\n")
    (landing / "january.csv").write_text(header)
    result = command(tmp_path, "doctor")
    assert result.returncode == 1
    said = result.stdout
    assert "2022-02 is separated by semicolons" in said
    assert "1 of 1 rows of 2022-01 would go to quarantine" in said
    assert "not a month: january.csv" in said
    assert "folders that are no table: admission" in said
    assert "2 months are missing (2022-03..2022-04)" in said
    assert "no model yet" in said
    assert "03.01.2022" not in said


def test_brackets_in_names_are_shown_as_they_are(tmp_path):
    """Rich would take them for markup: ``[/min]`` broke the command off, ``[kg]`` and ``[test]`` vanished."""
    home = tmp_path / "clinic"
    landing = home / "landing" / "admissions"
    landing.mkdir(parents=True)
    header = "encounter_id,patient_id,admitted_at,discharged_at,pulse [/min],weight [kg]"
    (landing / "2022-01.csv").write_text(f"{header}\nE1,P1,2022-01-03 14:20,2022-01-09 11:05,80,70\n")
    (landing / "2022-01 [test].csv").touch()
    said = command(home, "doctor")
    assert "columns the contract does not know: pulse [/min], weight [kg]" in said.stdout
    assert "not a month: 2022-01 [test].csv" in said.stdout
    assert "Traceback" not in said.stderr


def test_a_home_that_another_user_made_is_one_clear_error(tmp_path):
    (tmp_path / "dagster" / "history" / "runs.db").mkdir(parents=True)
    (tmp_path / "logs" / "pipeline.jsonl").mkdir(parents=True)
    for arguments in (["status"], ["restated", "list"], ["run"]):
        said = command(tmp_path, *arguments, DAGSTER_HOME=str(tmp_path / "dagster"))
        assert said.returncode == 3
        assert "Traceback" not in said.stderr
        assert said.stderr.count("the log cannot be written") <= 1
        assert "Dagster's records cannot be opened" in said.stderr
    said = command(tmp_path, "doctor", DAGSTER_HOME=str(tmp_path / "dagster")).stdout
    assert f"broken {tmp_path}/dagster: Dagster's records cannot be opened" in said


def test_doctor_names_a_home_that_cannot_be_one(tmp_path):
    file = tmp_path / "file"
    file.touch()
    said = command(file, "doctor")
    assert (said.returncode, said.stderr) == (1, "")
    assert f"broken {file} is no folder" in said.stdout
    said = command(tmp_path / "clinic [test]", "doctor")
    assert "clinic [test] has one of the characters * ? [" in said.stdout


def test_doctor_names_the_months_to_set_when_files_lie_outside_of_them(tmp_path):
    landing = tmp_path / "landing" / "admissions"
    landing.mkdir(parents=True)
    for month in ("2020-02", "2020-04"):
        (landing / f"{month}.csv").write_text("encounter_id,patient_id,admitted_at,discharged_at\n")
    said = command(tmp_path, "doctor").stdout
    assert "remedy: HEALTH_PIPELINE_START_MONTH=2020-02 HEALTH_PIPELINE_END_MONTH=2020-04" in said
    assert "no month has landed; its" in said, "of the tables that have no file at all"
    assert "admissions: no month has landed" not in said


def test_doctor_says_where_patients_known_before_the_first_month_belong(tmp_path):
    for table, month in (("patients", "2021-12"), ("claims", "2021-12"), ("admissions", "2022-01")):
        (tmp_path / "landing" / table).mkdir(parents=True)
        (tmp_path / "landing" / table / f"{month}.csv").touch()
    said = command(tmp_path, "doctor").stdout
    assert said.count("put all patients known before into the file of 2022-01; earlier files are not read") == 1
    assert said.count("nothing, unless admissions have these months too") == 1


def test_doctor_takes_a_restored_home_without_its_landing_zone_as_it_is(tmp_path):
    landing = tmp_path / "landing" / "admissions"
    landing.mkdir(parents=True)
    for month in ("2022-01", "2022-02", "2022-03", "2022-04"):
        (landing / f"{month}.csv").write_text(
            f"encounter_id,patient_id,admitted_at,discharged_at\nE{month},P1,{month}-03 14:20,{month}-09 11:05\n"
        )
    assert command(tmp_path, "run", "--select", "bronze/admissions").returncode == 0
    for month in ("2022-01", "2022-02", "2022-03"):
        (landing / f"{month}.csv").unlink()
    said = command(tmp_path, "doctor")
    assert "no files of 3 stored months (2022-01..2022-03)" in said.stdout
    assert "put the landing zone back" in said.stdout
    assert said.returncode == 0, said.stdout
    (tmp_path / "warehouse.duckdb").unlink()
    said = command(tmp_path, "doctor")
    assert "3 months are missing (2022-01..2022-03)" in said.stdout
    assert said.returncode == 1


def test_a_home_goes_into_an_archive_and_back(tmp_path):
    home, archive = tmp_path / "home", str(tmp_path / "home.tar")
    (home / "deployment").mkdir(parents=True)
    (home / "deployment" / "history.ndjson").write_text("{}\n")
    assert command(home, "backup", "--to", archive).returncode == 0
    again = command(home, "restore", archive)
    assert again.returncode == 7
    assert "--replace" in again.stderr
    elsewhere = command(tmp_path / "other", "restore", archive)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert (tmp_path / "other" / "deployment" / "history.ndjson").read_text() == "{}\n"
