"""Pseudonyms: patient ids become HMAC-SHA-256 hashes, computed inside DuckDB.

The key comes from the setting ``privacy.pseudonym_key`` or, for a laptop, from a file in the home that only its owner
may read. It reaches DuckDB as statement parameters (the two padded key blocks of RFC 2104), so that it stands in no SQL
text, log, error or metadata. The same key gives the same pseudonym for ever: a changed key cuts patients in two.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from health_pipeline.durable import sync
from health_pipeline.errors import SettingsError
from health_pipeline.settings import PREFIX, Settings

KEY_FILE = "pseudonym.key"
SETTING = f"{PREFIX}PRIVACY__PSEUDONYM_KEY"
SHORTEST_KEY = 16
HEX_DIGITS = 32
_BLOCK = 64  # SHA-256 block size in bytes


def load_key(settings: Settings) -> bytes:
    """The key of the patient hash; generates one in the home on first use.

    Raises:
        SettingsError: the key is too short, or others may read its file.
    """
    given = settings.privacy.pseudonym_key
    if given is not None:
        return _long_enough(given.get_secret_value().encode(), SETTING)
    path = settings.home / KEY_FILE
    if not path.exists():
        _generate(path)
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SettingsError("others may read the pseudonym key", where=str(path), remedy=f"chmod 600 {path}")
    return _long_enough(path.read_bytes().strip(), str(path))


def _long_enough(key: bytes, where: str) -> bytes:
    if len(key) < SHORTEST_KEY:
        raise SettingsError(
            f"the pseudonym key is shorter than {SHORTEST_KEY} characters",
            where=where,
            remedy="use a random one, for example from: python -c 'import secrets; print(secrets.token_hex(32))'",
        )
    return key


def _generate(path: Path) -> None:
    """Write a new key; of several processes that begin at once, one wins and all use its key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        sync(draft)
        if not path.exists():
            try:
                os.link(draft, path)
            except FileExistsError:
                return
            sync(path.parent)
    finally:
        draft.unlink()


def pseudonym(patient_id: str, key: bytes) -> str:
    """The patient key of one patient: first 32 hex digits of HMAC-SHA-256 over the trimmed id."""
    return hmac.new(key, patient_id.strip().encode(), hashlib.sha256).hexdigest()[:HEX_DIGITS]


def pseudonym_parameters(key: bytes) -> dict[str, bytes]:
    """Statement parameters that :func:`pseudonym_sql` refers to."""
    block = (key if len(key) <= _BLOCK else hashlib.sha256(key).digest()).ljust(_BLOCK, b"\0")
    return {
        "pseudonym_inner": bytes(byte ^ 0x36 for byte in block),
        "pseudonym_outer": bytes(byte ^ 0x5C for byte in block),
    }


def pseudonym_sql(expression: str) -> str:
    """SQL of the patient key of a trimmed VARCHAR expression; needs the parameters of :func:`pseudonym_parameters`."""
    inner = f"unhex(sha256($pseudonym_inner || encode({expression})))"
    return f"left(sha256($pseudonym_outer || {inner}), {HEX_DIGITS})"
