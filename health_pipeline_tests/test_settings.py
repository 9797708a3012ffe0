import datetime as dt
import functools

import pytest
from pydantic import SecretStr

from health_pipeline.errors import SettingsError
from health_pipeline.settings import Section, Settings, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_defaults_describe_the_demo():
    settings = load_settings()
    assert (settings.start_month, settings.end_month) == (dt.date(2022, 1, 1), dt.date(2024, 12, 1))
    assert settings.first_model_month == dt.date(2023, 2, 1)


def test_environment_wins_over_file(monkeypatch, tmp_path):
    (tmp_path / "settings.toml").write_text('start_month = "2020-01"\n[windows]\nholdout_months = 4\n')
    monkeypatch.setenv("HEALTH_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("HEALTH_PIPELINE_START_MONTH", "2021-05")
    settings = load_settings()
    assert settings.start_month == dt.date(2021, 5, 1)
    assert settings.windows.holdout_months == 4


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("START_MONTH", "2022-13", "2022-13"),
        ("WINDOWS__HOLDOUT_MONTHS", "0", "greater than or equal to 1"),
        ("TRAINING__PROFILE", "fast", "'quick', 'standard' or 'thorough'"),
        ("PROMOTION__CONFIDENCE_LEVEL", "95", "less than 1"),
        ("PROMOTION__PRIMARY_METRIC", "auc", "'roc_auc'"),
        ("PROMOTION__PRIMARY_METRIC", "calibration_slope", "'roc_auc'"),
        ("END_MONTH", "2021-01", "before start_month"),
    ],
)
def test_a_wrong_value_names_setting_value_and_what_is_accepted(monkeypatch, name, value, says):
    monkeypatch.setenv(f"HEALTH_PIPELINE_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert says in caught.value.what
    assert name in caught.value.what or name == "END_MONTH"
    assert "\n" not in caught.value.what


def test_an_unknown_name_in_the_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "settings.toml").write_text("[windows]\nholdout = 4\n")
    monkeypatch.setenv("HEALTH_PIPELINE_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="WINDOWS__HOLDOUT"):
        load_settings()


@pytest.mark.parametrize(
    "file",
    [
        "[privacy]\npseudonym_key = 12345",
        "[serving]\ntoken = 12345",
        "[serving]\ntokenn = '12345'",
        "[deployment]\nregistry_password = 12345",
        "[notify]\nurls = 'slack://12345'",
        "[warehouse]\ncatalog = ['postgres:password=12345']",
        "[promotion]\nforce_deployment = true\nforced_by = '12345'",
    ],
)
def test_a_secret_is_never_repeated_in_an_error(monkeypatch, tmp_path, file):
    (tmp_path / "settings.toml").write_text(file)
    monkeypatch.setenv("HEALTH_PIPELINE_HOME", str(tmp_path))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "12345" not in str(caught.value)


def test_a_list_that_is_no_json_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("HEALTH_PIPELINE_NOTIFY__URLS", "slack://12345")
    with pytest.raises(SettingsError, match=r'"notify".*lists are JSON') as caught:
        load_settings()
    assert "12345" not in str(caught.value)


def test_a_file_that_is_no_toml_is_one_clear_line(monkeypatch, tmp_path):
    (tmp_path / "settings.toml").write_text("[windows\n")
    monkeypatch.setenv("HEALTH_PIPELINE_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"not TOML.*line 1"):
        load_settings()


def test_a_named_file_has_to_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("HEALTH_PIPELINE_CONFIG", str(tmp_path / "settigns.toml"))
    with pytest.raises(SettingsError, match="no such settings file"):
        load_settings()


def test_an_open_end_is_empty(monkeypatch):
    monkeypatch.setenv("HEALTH_PIPELINE_END_MONTH", "")
    settings = load_settings()
    assert settings.end_month is None
    with pytest.raises(SettingsError, match="end_month is open"):
        _ = settings.months


def test_a_home_of_nothing_is_not_the_folder_one_is_in(monkeypatch):
    monkeypatch.setenv("HEALTH_PIPELINE_HOME", "")
    with pytest.raises(SettingsError, match=r"HEALTH_PIPELINE_HOME: .*empty: name a folder"):
        load_settings()


def test_two_homes_never_touch(tmp_path):
    one, two = load_settings(home=tmp_path / "one"), load_settings(home=tmp_path / "two")
    for name in ("warehouse_path", "mlflow_uri", "landing_uri", "outputs"):
        assert str(tmp_path / "one") in str(getattr(one, name))
        assert getattr(one, name) != getattr(two, name)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"start_month = 2023-01-15\n", "HEALTH_PIPELINE_START_MONTH: .*not a month: 2023-01-15"),
        ('# Größe\nlog_level = "INFO"\n'.encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_told_in_one_line(monkeypatch, tmp_path, content, says):
    (tmp_path / "settings.toml").write_bytes(content)
    monkeypatch.setenv("HEALTH_PIPELINE_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=says):
        load_settings()


def test_every_setting_that_may_be_empty_takes_an_empty_variable(monkeypatch):
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    optional = [("landing",), ("end_month",)]
    for name, section in sections.items():
        if isinstance(section, type) and issubclass(section, Section):
            fields = section.model_fields.items()
            optional += [(name, each) for each, field in fields if field.default is None or field.default == ()]
    secrets = {("privacy", "pseudonym_key"), ("warehouse", "encryption_key"), ("serving", "token")}
    secrets.add(("deployment", "registry_password"))
    for path in optional:
        monkeypatch.setenv(f"HEALTH_PIPELINE_{'__'.join(path).upper()}", "")
    settings = load_settings()
    for path in optional:
        found = functools.reduce(getattr, path, settings)
        assert found == SecretStr("") if path in secrets else found in (None, ()), path
    assert len(optional) > 20


def test_a_tilde_is_the_folder_of_the_user_also_without_a_shell(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "hospital").mkdir()
    (tmp_path / "hospital" / "settings.toml").write_text('start_month = 2023-04-01\nlanding = "~/extracts"\n')
    monkeypatch.setenv("HEALTH_PIPELINE_HOME", "~/hospital")
    settings = load_settings()
    assert settings.home == tmp_path / "hospital"
    assert settings.landing_uri == f"{tmp_path}/extracts"
    assert settings.start_month == dt.date(2023, 4, 1)
