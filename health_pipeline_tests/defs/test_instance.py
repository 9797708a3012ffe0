"""The configuration of a home's Dagster instance is there whole or not at all."""

import errno
from importlib.resources import files
from pathlib import Path

import pytest

from health_pipeline.defs.instance import instance_folder, open_instance
from health_pipeline.defs.run_launcher import WatchedRunLauncher
from health_pipeline.errors import FileError, SettingsError
from health_pipeline.settings import load_settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return load_settings(home=tmp_path)


def test_a_full_disk_at_the_first_start_leaves_no_instance_without_retries_and_limits(settings, monkeypatch):
    def write_on_a_full_disk(path, *_args, **_more):
        path.open("wb").close()
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write_on_a_full_disk)
        with pytest.raises(OSError, match="no space"):
            instance_folder(settings)
    assert not list((settings.home / "dagster").iterdir())
    with open_instance(settings) as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        assert instance.run_retries_enabled
        assert instance.run_monitoring_enabled


def test_a_folder_in_which_dagster_finds_no_configuration_is_refused(settings, tmp_path):
    for name in ("clinic [test]", "clinic*", "clinic?"):
        with pytest.raises(SettingsError, match=r"\* \? \["):
            open_instance(load_settings(home=tmp_path / name))
        assert not (tmp_path / name).exists()
    with open_instance(load_settings(home=tmp_path / "Klinik Süd (1) 100%'s {a}")) as instance:
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled


@pytest.mark.parametrize("records", ["history/runs.db", "schedules/schedules.db"])
def test_records_that_cannot_be_opened_are_one_clear_error(settings, records):
    (instance_folder(settings) / records).mkdir(parents=True)  # as those of another user are
    with pytest.raises(FileError, match="Dagster's records cannot be opened: unable to open database file") as caught:
        open_instance(settings)
    assert caught.value.where == str(settings.home / "dagster")


@pytest.mark.parametrize(
    ("packaged", "changed"),
    [
        ("  runs:", "\truns:"),
        ("limit: 1", "limit: one"),
        ("telemetry:", "telemetrie:"),
        ("PooledSqliteStorage", "PooledStorage"),
    ],
)
def test_a_slip_in_the_configuration_is_one_clear_error(settings, packaged, changed):
    config = instance_folder(settings) / "dagster.yaml"
    config.write_text(config.read_text().replace(packaged, changed))
    with pytest.raises(SettingsError, match="Dagster cannot use its configuration: ") as caught:
        open_instance(settings)
    assert caught.value.where == str(config)
    assert "\n" not in caught.value.what


def test_a_configuration_that_somebody_changed_stays(settings):
    config = instance_folder(settings) / "dagster.yaml"
    assert config.read_text() == files("health_pipeline.defs").joinpath("dagster.yaml").read_text()
    config.write_text("telemetry:\n  enabled: false\n")
    assert instance_folder(settings) == config.parent
    assert config.read_text() == "telemetry:\n  enabled: false\n"
