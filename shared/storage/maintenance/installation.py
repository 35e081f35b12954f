"""Whether a database, the keys that its secrets are encrypted with, and the data directory beside it belong together.

Each remembers the others, so that a start on an emptied or another database, with other keys or in another data
directory is refused before anything is written. Only `adopt` joins what did not belong together before.
"""

from __future__ import annotations

import os
import secrets as random_text
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from shared.domain.errors import HooklineError
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.migrate import current_revision, is_served
from shared.storage.schema.tables import idempotency_keys, installation, metadata, secrets
from shared.vault import KEY_FILE, SecretUnreadable, Vault, has_keys

MARKER_FILE = "installation"
"""In the data directory: the token of the database that it belongs to."""
CHECK_TEXT = "hookline"
ADOPT = "`hookline init --adopt` with the same settings"
_ROW = 1


class StateLost(HooklineError):
    """Database, keys and data directory do not belong together; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A database's own row."""

    token: str
    key_check: bytes | None
    keys_in: str | None
    data_dir: str | None


def database_name(settings: Settings) -> str:
    """The database as people may read it, without a password."""
    return make_url(settings.sqlalchemy_url).render_as_string(hide_password=True)


def keys_name(settings: Settings) -> str:
    """The setting or file that the keys of this process come from."""
    if settings.secret_keys is not None:
        return "HOOKLINE_SECRET_KEYS"
    return str(settings.data_dir.resolve() / KEY_FILE)


def find_installation(connection: Connection) -> Installation | None:
    """The database's own row; None where no process of this version has started on it yet."""
    columns = (installation.c.token, installation.c.key_check, installation.c.keys_in, installation.c.data_dir)
    row = connection.execute(select(*columns).where(installation.c.id == _ROW)).first()
    return None if row is None else Installation(*row)


def check_before_migration(engine: Engine, settings: Settings, *, adopt: bool) -> None:
    """Refuse a database that is another program's, and a blank one beside a data directory that is in use.

    Raises:
        StateLost: naming both.
    """
    with read_transaction(engine) as connection:
        revision = current_revision(connection)
        foreign = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables)) if revision is None else []
    name = database_name(settings)
    if foreign:
        raise StateLost(f"the database {name} has tables that Hookline did not make: {', '.join(foreign[:5])}")
    if revision is not None and not (revision.isascii() and revision.isdigit()):
        raise StateLost(f"the database {name} is another program's: its schema is {revision!r}")
    if revision is None and not adopt and _keeps_state(settings) and _is_used(settings.data_dir):
        raise StateLost(
            f"the database {name} is empty, but the data directory {settings.data_dir.resolve()} is in use: bring the "
            f"database back, or move the data directory away to begin anew, or run {ADOPT} to begin with an empty "
            "database in this data directory"
        )


def check_missing_keys(engine: Engine, settings: Settings) -> None:
    """Refuse to make new keys where the database holds what only others can read.

    Raises:
        StateLost: naming the key file and the database.
    """
    if has_keys(settings):
        return
    with read_transaction(engine) as connection:
        present = set(inspect(connection).get_table_names())
        queries = [
            select(table.c[column]).where(table.c[column].is_not(None)).limit(1)
            for table, column in ((secrets, "ciphertext"), (idempotency_keys, "body"), (installation, "key_check"))
            if table.name in present
        ]
        encrypted = any(connection.execute(query).first() is not None for query in queries)
        known = find_installation(connection) if installation.name in present else None
    if encrypted:
        were = f" (they were in {known.keys_in})" if known is not None and known.keys_in else ""
        raise StateLost(
            f"there is no {keys_name(settings)}, but the database {database_name(settings)} holds values that are "
            f"encrypted with keys{were}: put that file back, or set HOOKLINE_SECRET_KEYS; if the keys are lost, put a "
            f"new key there and run {ADOPT}, and then put all secrets anew"
        )


def join(connection: Connection, settings: Settings, now: datetime, *, embedded: bool, adopt: bool) -> str:
    """Compare the database with the data directory and the keys, and have each remember the others.

    Args:
        connection: one that writes, on a migrated database.
        settings: the process's.
        now: the time.
        embedded: whether the streams are in this data directory's Valkey.
        adopt: whether to join what does not belong together.

    Returns:
        The token that `write_marker` is to write.

    Raises:
        StateLost: naming what does not belong together.
    """
    known = find_installation(connection)
    if known is None:
        known = Installation(random_text.token_hex(16), None, None, None)
        connection.execute(insert(installation).values(id=_ROW, token=known.token, created_at=now))
    if not adopt and _keeps_state(settings):
        _check_marker(settings, known, embedded=embedded)
    if has_keys(settings):
        _check_keys(connection, settings, Vault.open(settings), known, adopt=adopt)
    if embedded:
        here = str(settings.data_dir.resolve())
        connection.execute(update(installation).where(installation.c.id == _ROW).values(data_dir=here))
    return known.token


def check_keys(engine: Engine, settings: Settings, vault: Vault) -> None:
    """Compare a process's keys with those that the database was written with, as far as it can be asked now.

    Raises:
        StateLost: naming both.
    """
    try:
        with write_transaction(engine) as connection:
            if not is_served(current_revision(connection)):
                return
            known = find_installation(connection)
            if known is not None:
                _check_keys(connection, settings, vault, known, adopt=False)
    except SQLAlchemyError:
        return  # what comes next reports it


def keys_fault(connection: Connection, vault: Vault) -> str | None:
    """Why this process's keys are not those of the database; None where they are. For a served schema."""
    known = find_installation(connection)
    if known is None or known.key_check is None or _reads(vault, known.key_check):
        return None
    return f"the database's secrets are encrypted with other keys (those of {known.keys_in})"


def rotate_key_check(engine: Engine, vault: Vault) -> None:
    """Encrypt the known text with the newest key, as `secrets rotate` does with the secrets."""
    with write_transaction(engine) as connection:
        known = find_installation(connection)
        if known is None or known.key_check is None or not _reads(vault, known.key_check):
            return
        if not vault.is_newest(known.key_check):
            anew = vault.rotate(known.key_check)
            connection.execute(update(installation).where(installation.c.id == _ROW).values(key_check=anew))


def write_marker(settings: Settings, token: str) -> None:
    """Have the data directory remember the database with this token."""
    if not _keeps_state(settings):
        return
    path = settings.data_dir / MARKER_FILE
    if read_marker(settings.data_dir) == token:
        return
    draft = path.with_name(f"{MARKER_FILE}.{os.getpid()}")
    draft.write_text(f"{token}\n", encoding="ascii")
    draft.replace(path)


def read_marker(data_dir: Path) -> str | None:
    """The token of the database that a data directory belongs to; None in a new one. Raises StateLost."""
    path = data_dir / MARKER_FILE
    try:
        return path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise StateLost(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'is not ASCII text'}") from exc


def _keeps_state(settings: Settings) -> bool:
    """Whether anything of the data directory has to go with the database."""
    return None in (settings.redis_url, settings.secret_keys, settings.database_url)


def _is_used(data_dir: Path) -> bool:
    return read_marker(data_dir) is not None or (data_dir / "valkey" / "appendonlydir").is_dir()


def _check_marker(settings: Settings, known: Installation, *, embedded: bool) -> None:
    marker, here = read_marker(settings.data_dir), settings.data_dir.resolve()
    if marker is not None and marker != known.token:
        raise StateLost(
            f"the data directory {here} belongs to another database than {database_name(settings)}: set the one that "
            f"it belongs to, or run {ADOPT} if this database is to take its place"
        )
    elsewhere = known.data_dir is not None and known.data_dir != str(here)
    if marker is None and embedded and elsewhere and settings.database_url is not None:
        raise StateLost(
            f"the database {database_name(settings)} belongs to the data directory {known.data_dir}, and not to "
            f"{here}: its events are there. Set HOOKLINE_DATA_DIR, or run {ADOPT} to go on without them"
        )


def _check_keys(connection: Connection, settings: Settings, vault: Vault, known: Installation, *, adopt: bool) -> None:
    """Compare the keys, or remember them where none are remembered yet."""
    if known.key_check is not None and _reads(vault, known.key_check):
        return
    if not adopt:
        stored = known.key_check or connection.scalar(
            select(secrets.c.ciphertext).order_by(secrets.c.updated_at.desc()).limit(1)
        )
        if stored is not None and not _reads(vault, stored):
            were = f"those of {known.keys_in}" if known.keys_in else "other keys"
            raise StateLost(
                f"the secrets in the database {database_name(settings)} are encrypted with {were}, which "
                f"{keys_name(settings)} does not have: add them there; if they are lost, run {ADOPT}, and then put all "
                "secrets anew"
            )
    check = {"key_check": vault.encrypt(CHECK_TEXT), "keys_in": keys_name(settings)}
    connection.execute(update(installation).where(installation.c.id == _ROW).values(**check))


def _reads(vault: Vault, stored: bytes) -> bool:
    try:
        vault.decrypt(stored)
    except SecretUnreadable:
        return False
    return True
