"""Files that a table, a manifest or a patient's pseudonym rests on are on the disk before anything refers to them."""

import errno
import os

import pytest

from health_pipeline.defs.instance import instance_folder
from health_pipeline.deployment import LocalTarget
from health_pipeline.durable import write_atomically
from health_pipeline.privacy.pseudonym import KEY_FILE, load_key
from health_pipeline.serving.release import pack_release
from health_pipeline.settings import load_settings
from health_pipeline_tests.deployment.conftest import free_port
from health_pipeline_tests.serving.bundles import facts_of, linear_bundle


@pytest.fixture
def synced(monkeypatch):
    """Inodes that were synced; a file has the same one before and after it gets its name."""
    found: set[int] = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (found.add(os.fstat(number).st_ino), fsync(number)))
    return found


def is_durable(path, synced):
    content = [*path.rglob("*"), path] if path.is_dir() else [path]
    return {each.stat().st_ino for each in (*content, path.parent)} <= synced


def test_a_model(tmp_path, synced):
    linear_bundle().save(tmp_path / "models" / "one")
    assert is_durable(tmp_path / "models" / "one", synced)


def test_a_release_packed_and_published(tmp_path, synced):
    settings = load_settings(home=tmp_path, serving={"port": free_port()})
    target, bundle = LocalTarget(settings), linear_bundle()
    target.check()
    digest = bundle.save(tmp_path / "models" / "one")
    release = pack_release(tmp_path / "models" / "one", facts_of(bundle, digest), target.build_root)
    assert is_durable(target.build_root / release.release_id, synced)
    target.publish(target.build(release))
    assert is_durable(tmp_path / "releases" / release.release_id, synced)


def test_the_key_of_the_pseudonyms(tmp_path, synced):
    load_key(load_settings(home=tmp_path))
    assert is_durable(tmp_path / KEY_FILE, synced)


def test_the_configuration_of_an_instance(tmp_path, synced, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    folder = instance_folder(load_settings(home=tmp_path))
    assert is_durable(folder / "dagster.yaml", synced)


def test_a_full_disk_leaves_the_old_content_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "traffic.json"
    write_atomically(path, b"old")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
