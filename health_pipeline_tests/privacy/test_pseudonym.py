"""Pseudonyms: a keyed hash whose key nobody sees."""

import hashlib
import hmac
import multiprocessing
import stat
from concurrent.futures import ProcessPoolExecutor

import duckdb
import pytest

from health_pipeline.errors import SettingsError
from health_pipeline.privacy import load_key, pseudonym, pseudonym_parameters, pseudonym_sql
from health_pipeline.privacy.pseudonym import KEY_FILE
from health_pipeline.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.mark.parametrize("key", [b"0123456789abcdef", b"k" * 64, b"longer than a block " * 9, bytes(range(1, 65))])
@pytest.mark.parametrize("person", ["P1", "", "Zoë 7", "x" * 500])
def test_duckdb_computes_hmac_sha_256(key, person):
    (found,) = duckdb.execute(
        f"SELECT {pseudonym_sql('person')} FROM (SELECT $person AS person)",
        {"person": person, **pseudonym_parameters(key)},
    ).fetchone()
    assert found == hmac.new(key, person.encode(), hashlib.sha256).hexdigest()[:32]
    assert found == pseudonym(person, key)


def test_a_key_is_generated_once_for_its_owner_only(settings):
    key = load_key(settings)
    path = settings.home / KEY_FILE
    assert len(key) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(settings) == key
    assert [each.name for each in settings.home.iterdir()] == [KEY_FILE]


def test_processes_that_begin_at_once_share_one_key(settings):
    # A multiprocessing.Pool ends its processes by force, and can wait for ever for one that it has just started.
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        keys = list(pool.map(load_key, [settings] * 8))
    assert len(set(keys)) == 1
    assert [each.name for each in settings.home.iterdir()] == [KEY_FILE]


def test_a_key_that_others_may_read_is_refused(settings):
    load_key(settings)
    (settings.home / KEY_FILE).chmod(0o640)
    with pytest.raises(SettingsError, match="others may read") as caught:
        load_key(settings)
    assert caught.value.remedy.startswith("chmod 600")


def test_a_short_key_is_refused_without_showing_it(settings):
    given = Settings(home=settings.home, privacy={"pseudonym_key": "short"})
    with pytest.raises(SettingsError, match="shorter than 16") as caught:
        load_key(given)
    assert "'short'" not in str(caught.value)
    assert "short" not in repr(given.privacy.pseudonym_key)
    load_key(settings)
    (settings.home / KEY_FILE).write_text("\n")
    with pytest.raises(SettingsError, match="shorter than 16"):
        load_key(settings)
