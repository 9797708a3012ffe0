"""Backup, destroy, restore on small homes made by hand."""

import datetime as dt
import errno
import io
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import duckdb
import pytest

from health_pipeline.backup import create, create_backup, restore, restore_backup, verify_backup
from health_pipeline.backup.manifest import MANIFEST
from health_pipeline.clock import frozen_clock
from health_pipeline.errors import BackupError
from health_pipeline.months import MonthRange
from health_pipeline.settings import load_settings
from health_pipeline.warehouse import Column, Query, Table, Warehouse

CLOCK = frozen_clock(dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC))
ROWS = Table("gold", "rows", (Column("month", "DATE", nullable=False), Column("n", "BIGINT")), ("n",))
MONTHS = MonthRange.of("2022-01", "2022-02")
QUERY = Query("SELECT m::DATE AS month, n FROM (VALUES ('2022-01-01'), ('2022-02-01')) t(m), range(1000) r(n)")


def write(path, content, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def sqlite(path, *statements):
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for statement in statements:
            connection.execute(statement)
    return connection


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    settings = load_settings(home=tmp_path / "home", start_month="2022-01", end_month="2022-02")
    home = settings.home
    Warehouse.from_settings(settings).replace(ROWS, MONTHS, QUERY)
    write(home / "models" / "2022-01" / "model.onnx", b"weights" * 1000)
    write(home / "deployment" / "history.ndjson", b"{}\n")
    write(home / "pseudonym.key", b"0" * 64, 0o600)
    write(home / "serving" / "token", b"a token of the API", 0o600)
    write(home / "landing" / "admissions" / "2022-01.csv", b"a,b\n")
    write(home / "spill" / "left.tmp", b"scratch")
    write(home / "builds" / "release" / "release.json", b"{}")  # the next release is compared with it
    sqlite(
        home / "mlflow.db",
        "CREATE TABLE model_versions (version INTEGER, source TEXT)",
        f"INSERT INTO model_versions VALUES (1, '{(home / 'models').as_uri()}/2022-01')",
        "INSERT INTO model_versions VALUES (2, 's3://elsewhere/model')",
    ).close()
    sqlite(home / "dagster" / "storage" / "runs.db", "CREATE TABLE runs (id INTEGER)").close()
    return settings


def take(settings, target, **options):
    return create_backup(settings, target, instance_folder=settings.home / "dagster", clock=CLOCK, **options)


def contents(home):
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
        and "warehouse" not in path.name
        and path.relative_to(home).parts[0] not in {"warehouse.duckdb.queue", "spill"}
    }


def hashes(settings):
    return [report.content_hash for report in Warehouse.from_settings(settings).reports(ROWS, MONTHS)]


def test_a_destroyed_home_comes_back(settings, tmp_path):
    before, tables = contents(settings.home), hashes(settings)
    manifest = take(settings, tmp_path / "home.tar", with_keys=True, with_landing=True)
    assert manifest.created_at == CLOCK()
    shutil.rmtree(settings.home)
    restored = restore_backup(settings, tmp_path / "home.tar", clock=CLOCK)
    assert restored.former is None
    assert hashes(settings) == tables
    after = contents(settings.home)
    databases = {"mlflow.db", "dagster/storage/runs.db"}
    assert {path: content for path, content in before.items() if path not in databases} == {
        path: content for path, content in after.items() if path not in databases
    }
    assert databases <= set(after)
    assert not (settings.home / "spill" / "left.tmp").exists()
    assert (settings.home / "pseudonym.key").stat().st_mode & 0o777 == 0o600
    assert settings.home.stat().st_mode & 0o777 == 0o700


def test_what_serves_can_be_compared_with_after_a_restore(settings, tmp_path):
    take(settings, tmp_path / "home.tar")
    shutil.rmtree(settings.home)
    restore_backup(settings, tmp_path / "home.tar", clock=CLOCK)
    assert (settings.home / "builds" / "release" / "release.json").exists()


def test_keys_landing_and_scratch_stay_out_unless_asked_for(settings, tmp_path):
    manifest = take(settings, tmp_path / "home.tar")
    assert {member.path for member in manifest.members} == {
        "warehouse.duckdb",
        "builds/release/release.json",
        "dagster/storage/runs.db",
        "deployment/history.ndjson",
        "mlflow.db",
        "models/2022-01/model.onnx",
    }
    told = " ".join(manifest.left_out)
    assert "pseudonym.key" in told
    assert "serving/token" in told
    assert "landing" in told
    assert b"a token of the API" not in (tmp_path / "home.tar").read_bytes()
    assert (tmp_path / "home.tar").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "home.tar" in path.name] == ["home.tar"]


@pytest.mark.parametrize(
    ("name", "content", "is_secret"),
    [
        ("settings.toml", '[privacy]\npseudonym_key = "a key of the hospital"', True),
        ("settings.toml", '[notify]\nurls = ["mailto://us:word@clinic"]', True),
        ("own.toml", '[warehouse]\nencryption_key = "a key of the hospital"', True),
        ("settings.toml", "[warehouse]\nencryption_key = unreadable", True),
        ("settings.toml", 'start_month = "2023-01"\n[privacy]\npseudonym_key = ""\nsmall_number = 11', False),
        ("plan.toml", "[plan]\nversion = '1'", False),
    ],
)
def test_settings_that_give_a_secret_stay_out_and_are_taken_over(settings, tmp_path, name, content, is_secret):
    write(settings.home / name, content.encode())
    manifest = take(settings, tmp_path / "home.tar")
    assert (name not in {member.path for member in manifest.members}) is is_secret
    assert any(told.startswith(f"{name}: a secret") for told in manifest.left_out) is is_secret
    restored = restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert (name in restored.carried) is is_secret
    assert (settings.home / name).read_text() == content
    assert name in {member.path for member in take(settings, tmp_path / "keys.tar", with_keys=True).members}


@pytest.mark.parametrize("draft", [".pseudonym.key.0f3a", "serving/.token.17.0f3a"])
def test_the_draft_of_a_key_that_a_kill_left_behind_is_a_key(settings, tmp_path, draft):
    write(settings.home / draft, b"0" * 64, 0o600)
    manifest = take(settings, tmp_path / "home.tar")
    assert draft not in {member.path for member in manifest.members}
    assert any(told.startswith(f"{draft}: a secret") for told in manifest.left_out)


def test_a_landing_zone_of_another_name_is_left_out_and_taken_over(settings, tmp_path):
    own = settings.model_copy(update={"landing": str(settings.home / "from" / "clinic")})
    write(settings.home / "from" / "clinic" / "admissions" / "2022-01.csv", b"a,b\n")
    assert not [member.path for member in take(own, tmp_path / "home.tar").members if "clinic" in member.path]
    restored = restore_backup(own, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert "from/clinic" in restored.carried
    assert (settings.home / "from" / "clinic" / "admissions" / "2022-01.csv").exists()
    inside = take(own, tmp_path / "landing.tar", with_landing=True)
    assert "from/clinic/admissions/2022-01.csv" in {member.path for member in inside.members}
    assert not any("landing zone" in told for told in inside.left_out)


@pytest.mark.parametrize("landing", ["elsewhere", "s3://bucket/landing"])
def test_a_landing_zone_outside_of_the_home_is_named_as_left_out(settings, tmp_path, landing):
    place = landing if "://" in landing else str(tmp_path / landing)
    manifest = take(settings.model_copy(update={"landing": place}), tmp_path / "home.tar", with_landing=True)
    assert [told for told in manifest.left_out if told.startswith(f"{place}: the landing zone")]


def test_records_in_postgresql_are_named_as_left_out(settings, tmp_path):
    shutil.copy(Path(__file__).parents[2] / "deploy" / "compose" / "dagster.yaml", settings.home / "dagster")
    assert any("pg_dump" in told for told in take(settings, tmp_path / "home.tar").left_out)


def test_a_database_in_use_is_copied_with_what_was_committed(settings, tmp_path):
    connection = sqlite3.connect(settings.home / "dagster" / "storage" / "runs.db", isolation_level=None)
    connection.execute("INSERT INTO runs VALUES (1)")  # in the write-ahead log
    connection.execute("BEGIN")
    connection.execute("INSERT INTO runs VALUES (2)")  # not committed
    take(settings, tmp_path / "home.tar")
    connection.rollback()
    connection.close()
    elsewhere = load_settings(home=tmp_path / "other")
    restore_backup(elsewhere, tmp_path / "home.tar", clock=CLOCK)
    with sqlite3.connect(tmp_path / "other" / "dagster" / "storage" / "runs.db") as copy:
        assert copy.execute("SELECT id FROM runs").fetchall() == [(1,)]
    copy.close()


def test_a_folder_of_dagster_outside_of_the_home_is_taken_too(settings, tmp_path):
    shutil.move(settings.home / "dagster", tmp_path / "instance")
    manifest = create_backup(settings, tmp_path / "home.tar", instance_folder=tmp_path / "instance", clock=CLOCK)
    assert "dagster/storage/runs.db" in {member.path for member in manifest.members}


def test_an_instance_folder_goes_before_that_of_the_home(settings, tmp_path):
    """DAGSTER_HOME was set later: two files of one name made an archive that nobody could restore."""
    shutil.copytree(settings.home / "dagster", tmp_path / "instance")
    write(settings.home / "dagster" / "dagster.yaml", b"the old one")
    write(tmp_path / "instance" / "dagster.yaml", b"in force")
    manifest = create_backup(settings, tmp_path / "home.tar", instance_folder=tmp_path / "instance", clock=CLOCK)
    assert any(told.startswith("dagster/dagster.yaml") for told in manifest.left_out)
    restore_backup(load_settings(home=tmp_path / "other"), tmp_path / "home.tar", clock=CLOCK)
    assert (tmp_path / "other" / "dagster" / "dagster.yaml").read_bytes() == b"in force"


@pytest.mark.parametrize("moment", ["looked through", "copied"])
def test_drafts_that_come_and_go_meanwhile_stop_no_backup(settings, tmp_path, monkeypatch, moment):
    drafts = [settings.home / "models" / ".writing-1" / "weights.onnx", settings.home / "outputs" / ".draft.sqlite"]
    write(drafts[0], b"half")
    sqlite(drafts[1], "CREATE TABLE t (n INTEGER)").close()
    find_files = create.find_files

    def run_goes_on(*arguments, **named):
        if moment == "copied":
            found = find_files(*arguments, **named)
        for draft in drafts:
            draft.unlink()
        return found if moment == "copied" else find_files(*arguments, **named)

    if moment == "looked through":
        names = [(path.relative_to(settings.home).as_posix(), path) for path in drafts]
        monkeypatch.setattr("health_pipeline.backup.contents._walk", lambda *_: iter(names))
    monkeypatch.setattr(create, "find_files", run_goes_on)
    manifest = take(settings, tmp_path / "home.tar")
    assert [told for told in manifest.left_out if "gone" in told] == [
        "models/.writing-1/weights.onnx: gone while the archive was written",
        "outputs/.draft.sqlite: gone while the archive was written",
    ]
    assert not drafts[1].exists()
    verify_backup(tmp_path / "home.tar")


def test_addresses_of_models_follow_a_home_that_moves(settings, tmp_path):
    take(settings, tmp_path / "home.tar")
    elsewhere = load_settings(home=tmp_path / "other")
    restore_backup(elsewhere, tmp_path / "home.tar", clock=CLOCK)
    with sqlite3.connect(tmp_path / "other" / "mlflow.db") as copy:
        found = copy.execute("SELECT source FROM model_versions ORDER BY version").fetchall()
    copy.close()
    assert found == [(f"{(tmp_path / 'other').as_uri()}/models/2022-01",), ("s3://elsewhere/model",)]
    assert hashes(elsewhere) == hashes(settings)


def test_a_home_that_holds_something_is_refused_and_put_aside_on_request(settings, tmp_path):
    take(settings, tmp_path / "home.tar")
    write(settings.home / "later.txt", b"made after the backup")
    with pytest.raises(BackupError, match="not empty"):
        restore_backup(settings, tmp_path / "home.tar", clock=CLOCK)
    assert (settings.home / "later.txt").exists()
    restored = restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert restored.former == tmp_path / "home.before-20240506T070809"
    assert (restored.former / "later.txt").exists()
    assert not (settings.home / "later.txt").exists()
    assert restored.carried == ("landing", "pseudonym.key", "serving/token")
    assert (settings.home / "pseudonym.key").read_bytes() == b"0" * 64
    assert (settings.home / "landing" / "admissions" / "2022-01.csv").exists()


def test_a_landing_zone_that_cannot_be_moved_costs_no_key(settings, tmp_path, monkeypatch):
    """It may be a mounted share. A home without its key would give every patient a new pseudonym, without a word."""
    take(settings, tmp_path / "home.tar")
    rename = Path.rename

    def on_another_disk(path, target):
        if path.name == "landing":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", on_another_disk)
    with pytest.raises(BackupError, match="landing zone cannot be moved") as caught:
        restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert str(settings.home / "landing") in str(caught.value)
    key = settings.home / "pseudonym.key"
    assert key.read_bytes() == b"0" * 64
    assert key.stat().st_mode & 0o777 == 0o600
    assert (settings.home / "serving" / "token").exists()


def change(archive, path):
    """The same archive with one byte of a file changed."""
    with tarfile.open(archive) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]
    with tarfile.open(archive, "w") as tar:
        for member, content in members:
            flipped = bytes([content[0] ^ 1]) + content[1:] if member.name == path else content
            tar.addfile(member, io.BytesIO(flipped))


@pytest.mark.parametrize("damage", ["changed", "cut", "foreign", "added", "absent"])
def test_a_damaged_archive_changes_nothing(settings, tmp_path, damage):
    archive = tmp_path / "home.tar"
    take(settings, archive)
    if damage == "changed":
        change(archive, "home/models/2022-01/model.onnx")
    elif damage == "cut":
        os.truncate(archive, archive.stat().st_size // 2)
    elif damage == "foreign":
        archive.write_bytes(b"PK" * 5000)
    elif damage == "added":
        with tarfile.open(archive, "a") as tar:
            tar.addfile(tarfile.TarInfo("home/more.txt"), io.BytesIO(b""))
    else:
        archive.unlink()
    before = contents(settings.home)
    with pytest.raises(BackupError):
        verify_backup(archive)
    with pytest.raises(BackupError):
        restore_backup(settings, archive, clock=CLOCK, replace=True)
    assert contents(settings.home) == before


def test_a_folder_that_cannot_be_read_is_not_left_out_without_a_word(settings, tmp_path, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if path == str(settings.home / "deployment"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(BackupError, match="Permission denied") as caught:
        take(settings, tmp_path / "home.tar")
    assert caught.value.where == str(settings.home / "deployment")
    assert not (tmp_path / "home.tar").exists()


@pytest.mark.parametrize("taken", [False, True])
def test_a_disk_whose_files_have_one_name_only_takes_a_backup(settings, tmp_path, monkeypatch, taken):
    target = tmp_path / "home.tar"

    def as_on_fat(_draft, target):
        if taken:
            target.write_bytes(b"of somebody else")
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", as_on_fat)
    if taken:
        with pytest.raises(BackupError):
            take(settings, target)
        assert target.read_bytes() == b"of somebody else"
    else:
        take(settings, target)
        verify_backup(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "home.tar"]


@pytest.fixture
def full_disk():
    """No file grows beyond 100 kB."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, former[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, former)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_not_taken_for_a_bad_archive(settings, tmp_path, full_disk):
    write(settings.home / "large", b"x" * 1_000_000)
    take(settings, tmp_path / "home.tar")
    full_disk()
    with pytest.raises(BackupError, match="cannot be unpacked: File too large") as caught:
        restore_backup(load_settings(home=tmp_path / "other"), tmp_path / "home.tar", clock=CLOCK)
    assert "free space" in caught.value.remedy
    assert not [path.name for path in tmp_path.iterdir() if "other" in path.name], "what was unpacked takes no place"


def test_a_full_disk_is_not_taken_for_a_changed_file(settings, tmp_path, full_disk):
    shutil.rmtree(settings.home)
    write(settings.home / "large", b"x" * 1_000_000)
    full_disk()
    with pytest.raises(BackupError, match="cannot be made: File too large"):
        take(settings, tmp_path / "home.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("path", ["../outside.txt", "/outside.txt", "models/../../outside.txt"])
def test_an_archive_cannot_write_outside_of_the_home(settings, tmp_path, path):
    archive = tmp_path / "home.tar"
    take(settings, archive)
    with tarfile.open(archive) as tar:
        content = tar.extractfile(MANIFEST).read().replace(b"models/2022-01/model.onnx", path.encode())
    with tarfile.open(archive, "w") as tar:
        about = tarfile.TarInfo(MANIFEST)
        about.size = len(content)
        tar.addfile(about, io.BytesIO(content))
    with pytest.raises(BackupError, match="outside the home"):
        restore_backup(load_settings(home=tmp_path / "other"), archive, clock=CLOCK)


def test_what_cannot_be_saved_is_refused(settings, tmp_path):
    with pytest.raises(BackupError, match="in the home"):
        take(settings, settings.home / "home.tar")
    write(tmp_path / "taken.tar", b"precious")
    with pytest.raises(BackupError, match="exists"):
        take(settings, tmp_path / "taken.tar")
    assert (tmp_path / "taken.tar").read_bytes() == b"precious"
    with pytest.raises(BackupError, match="nothing to save"):
        take(load_settings(home=tmp_path / "no home"), tmp_path / "none.tar")
    with pytest.raises(BackupError, match="DuckLake"):
        take(load_settings(home=settings.home, warehouse={"backend": "ducklake"}), tmp_path / "lake.tar")
    assert not list(tmp_path.glob("*.partial"))


def test_a_home_in_use_and_another_backend_are_refused(settings, tmp_path):
    take(settings, tmp_path / "home.tar")
    with Warehouse.from_settings(settings).read("a run"), pytest.raises(BackupError, match="in use by read 'a run'"):
        restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    encrypted = load_settings(home=tmp_path / "other", warehouse={"backend": "encrypted", "encryption_key": "k" * 20})
    with pytest.raises(BackupError, match="backend duckdb"):
        restore_backup(encrypted, tmp_path / "home.tar", clock=CLOCK)


def test_a_home_whose_records_a_daemon_holds_is_refused(settings, tmp_path):
    take(settings, tmp_path / "home.tar")
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM runs'); print(1, flush=1)"
    )
    database = settings.home / "dagster" / "storage" / "runs.db"
    words = [sys.executable, "-c", f"{program}; sys.stdin.read()", str(database)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        daemon.stdout.readline()
        with pytest.raises(BackupError, match=f"in use by process {daemon.pid}"):
            restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
        daemon.stdin.close()
    restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)


def test_an_encrypted_warehouse_stays_encrypted_in_the_archive(tmp_path):
    settings = load_settings(home=tmp_path / "home", warehouse={"backend": "encrypted", "encryption_key": "k" * 20})
    Warehouse.from_settings(settings).replace(ROWS, MONTHS, QUERY)
    stored = hashes(settings)
    take(settings, tmp_path / "home.tar")
    shutil.rmtree(settings.home)
    restore_backup(settings, tmp_path / "home.tar", clock=CLOCK)
    assert hashes(settings) == stored
    with pytest.raises(duckdb.Error), duckdb.connect(settings.warehouse_path):
        pass


def _restore(settings, archive):
    restore_backup(settings, archive, clock=CLOCK, replace=True)


def test_a_kill_at_any_moment_leaves_one_whole_home(settings, tmp_path):
    archive, tables = tmp_path / "home.tar", hashes(settings)
    write(settings.home / "models" / "large.bin", os.urandom(30_000_000))
    take(settings, archive)
    (settings.home / "models" / "large.bin").unlink()
    for milliseconds in (5, 30, 60, 90, 120):
        process = multiprocessing.get_context("fork").Process(target=_restore, args=(settings, archive))
        process.start()
        time.sleep(milliseconds / 1000)
        process.kill()
        process.join()
        assert hashes(settings) == tables
        for each in tmp_path.glob("home.before-*"):
            shutil.rmtree(each)
    restore_backup(settings, archive, clock=CLOCK, replace=True)
    assert (settings.home / "models" / "large.bin").stat().st_size == 30_000_000
    assert hashes(settings) == tables


class Killed(BaseException):
    """No code of ours runs after it."""


def kill_at(monkeypatch, number):
    """Die before the given change of names, counted from one."""
    left = [number]

    def dying(change):
        def changed(*arguments):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return change(*arguments)

        return changed

    monkeypatch.setattr(Path, "rename", dying(Path.rename))
    monkeypatch.setattr(restore, "_exchange", dying(restore._exchange))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_kill_between_two_changes_of_names_loses_neither_home_nor_key_nor_landing_zone(
    settings, tmp_path, monkeypatch, number
):
    take(settings, tmp_path / "home.tar")
    write(settings.home / "later.txt", b"made after the backup")
    with monkeypatch.context() as patched:
        kill_at(patched, number)
        with pytest.raises(Killed):
            restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert (settings.home / "pseudonym.key").read_bytes() == b"0" * 64
    assert (settings.home / "later.txt").exists() == (number < 3)
    later = frozen_clock(CLOCK() + dt.timedelta(minutes=1))
    restore_backup(settings, tmp_path / "home.tar", clock=later, replace=True)
    assert (settings.home / "pseudonym.key").read_bytes() == b"0" * 64
    assert (settings.home / "landing" / "admissions" / "2022-01.csv").exists()
    assert any((each / "later.txt").exists() for each in tmp_path.glob("home.before-*"))


def test_where_two_folders_cannot_be_exchanged_a_kill_is_told_of(settings, tmp_path, monkeypatch):
    """On NFS. Going on without the former home would leave its key behind, and every patient would look new."""

    def unknown(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(restore, "_exchange", unknown)
    take(settings, tmp_path / "home.tar")
    with monkeypatch.context() as patched:
        kill_at(patched, 5)  # staging aside, the exchange refused, staging back, the former home aside
        with pytest.raises(Killed):
            restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert not settings.home.exists()
    with pytest.raises(BackupError, match="cut off") as caught:
        restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert f"rename it to {settings.home}" in str(caught.value)
    (tmp_path / "home.before-20240506T070809").rename(settings.home)
    restored = restore_backup(settings, tmp_path / "home.tar", clock=CLOCK, replace=True)
    assert restored.carried == ("landing", "pseudonym.key", "serving/token")
