"""A database, its keys and its data directory that do not belong together are told at start, and nothing is changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import delete, insert, select, text, update

from dispatcher.up.composition import CannotStart, check_keys, run_up
from dispatcher.up.valkey import EmbeddedUnavailable, EmbeddedValkey
from shared.config.setting_types import InvalidSetting
from shared.domain.errors import HooklineError
from shared.settings import Settings, load_settings
from shared.storage.database.clock import database_time
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.maintenance.first_start import prepare
from shared.storage.maintenance.installation import MARKER_FILE, StateLost
from shared.storage.schema.tables import api_keys, audit_log, entities, installation, secrets, users
from shared.vault import KEY_FILE, Vault
from worker.operations.key_rotation import rotate


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """A data directory that was started once, as `hookline up` does it, and holds a secret."""
    settings = load_settings(data_dir=tmp_path / "data", port=0)
    settings.data_dir.mkdir(mode=0o700)
    assert start(settings) is not None
    add_secret(settings)
    return settings


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def start(settings: Settings, *, adopt: bool = False) -> str | None:
    return prepare(settings, embedded=settings.redis_url is None, make_keys=True, adopt=adopt).key


def add_secret(settings: Settings) -> None:
    engine = open_engine(settings)
    with write_transaction(engine) as connection:
        now = database_time(connection)
        entity = insert(entities).values(name="acme", created_at=now).returning(entities.c.id)
        values = {"name": "TOKEN", "revision": 1, "created_at": now, "updated_at": now}
        number = connection.execute(entity).scalar_one()
        connection.execute(
            insert(secrets).values(entity_id=number, ciphertext=Vault.open(settings).encrypt("value"), **values)
        )
    engine.dispose()


def refusal(settings: Settings) -> str:
    """How `hookline up` refuses, in one line; it leaves the keys, and what the directory remembers, as they are."""
    left_alone = (settings.data_dir / name for name in (KEY_FILE, MARKER_FILE))
    files = {path: path.read_bytes() for path in left_alone if path.is_file()}
    with pytest.raises(HooklineError) as caught:
        run_up(settings, workers=1, say=lambda _line: None)
    assert isinstance(caught.value, StateLost | CannotStart | InvalidSetting | EmbeddedUnavailable)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in files} == files
    return str(caught.value)


def test_a_backup_may_be_brought_back_at_another_place_without_the_marker(own: Settings, tmp_path: Path) -> None:
    restored = load_settings(data_dir=tmp_path / "restored")
    restored.data_dir.mkdir(mode=0o700)
    for name in ("hookline.db", KEY_FILE):
        shutil.copy(own.data_dir / name, restored.data_dir / name)
    assert start(restored) is None


def test_a_second_start_is_fine_also_after_the_directory_has_moved(own: Settings) -> None:
    assert start(own) is None
    moved = load_settings(data_dir=own.data_dir.rename(own.data_dir.with_name("elsewhere")))
    assert start(moved) is None


def test_a_lost_key_file_is_not_replaced(own: Settings) -> None:
    path = own.data_dir / KEY_FILE
    key = path.read_bytes()
    path.unlink()
    told = refusal(own)
    assert str(path) in told
    assert "hookline.db" in told
    assert not path.exists()
    path.write_bytes(Fernet.generate_key())
    told = refusal(own)
    assert str(path) in told
    assert "hookline.db" in told
    path.write_bytes(key)
    assert start(own) is None


def test_a_lost_key_is_noticed_where_this_version_has_not_started_before(own: Settings) -> None:
    engine = open_engine(own)
    with write_transaction(engine) as connection:
        connection.execute(delete(installation))
    (own.data_dir / MARKER_FILE).unlink()
    key = (own.data_dir / KEY_FILE).read_bytes()
    (own.data_dir / KEY_FILE).unlink()
    assert "holds values that are encrypted with keys" in refusal(own)
    (own.data_dir / KEY_FILE).write_bytes(Fernet.generate_key())
    assert "are encrypted with other keys" in refusal(own)
    (own.data_dir / KEY_FILE).write_bytes(key)
    assert start(own) is None
    engine.dispose()


def test_one_goes_on_with_new_keys_on_purpose_only(own: Settings) -> None:
    path = own.data_dir / KEY_FILE
    path.write_bytes(Fernet.generate_key())
    assert "hookline init --adopt" in refusal(own)
    prepare(own, adopt=True)
    assert start(own) is None


@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_an_empty_database_in_a_directory_that_is_in_use_is_refused(own: Settings, how: str) -> None:
    path = own.data_dir / "hookline.db"
    for beside in own.data_dir.glob("hookline.db-*"):
        beside.unlink()
    path.unlink() if how == "removed" else os.truncate(path, 0)
    told = refusal(own)
    assert str(path) in told
    assert f"the data directory {own.data_dir} is in use" in told
    with pytest.raises(StateLost):
        prepare(own)  # `hookline init` by itself does not get around it
    assert prepare(own, adopt=True) is not None
    assert start(own) is None


def test_an_empty_database_beside_an_old_versions_events_is_refused(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, port=0)
    (tmp_path / "valkey" / "appendonlydir").mkdir(parents=True)
    assert "is empty, but the data directory" in refusal(settings)


def test_another_data_directory_on_the_same_database_is_refused(own: Settings, tmp_path: Path) -> None:
    other = tmp_path / "other"
    keys = SecretStr((own.data_dir / KEY_FILE).read_text(encoding="ascii").strip())
    url = f"sqlite:///{own.data_dir / 'hookline.db'}"
    strange = load_settings(data_dir=other, database_url=url, port=0)
    told = refusal(strange)
    assert str(other / KEY_FILE) in told
    assert "hookline.db" in told
    assert not (other / KEY_FILE).exists()
    same_keys = load_settings(data_dir=other, database_url=url, secret_keys=keys, port=0)
    told = refusal(same_keys)
    assert str(own.data_dir) in told
    assert str(other) in told
    # With streams elsewhere nothing of the directory matters but the keys.
    assert start(same_keys.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) is None


def test_another_installations_database_is_refused(own: Settings, tmp_path: Path) -> None:
    second = load_settings(data_dir=tmp_path / "second", port=0)
    second.data_dir.mkdir(mode=0o700)
    start(second)
    shutil.copy(second.data_dir / "hookline.db", own.data_dir / "hookline.db")
    assert "belongs to another database than" in refusal(own)


@pytest.mark.parametrize("made", ["CREATE TABLE users (n int)", "CREATE TABLE alembic_version (version_num text)"])
def test_another_programs_database_is_refused(tmp_path: Path, made: str) -> None:
    settings = load_settings(data_dir=tmp_path / "data", database_url=f"sqlite:///{tmp_path / 'theirs.db'}", port=0)
    engine = open_engine(settings)
    with write_transaction(engine) as connection:
        connection.execute(text(made))
        if "alembic" in made:
            connection.execute(text("INSERT INTO alembic_version VALUES ('ae1027a6acf')"))
    engine.dispose()
    assert "theirs.db" in refusal(settings)


def test_an_api_and_workers_with_other_keys_do_not_start(own: Settings) -> None:
    key = Fernet.generate_key().decode()
    with pytest.raises(StateLost, match="HOOKLINE_SECRET_KEYS does not have"):
        check_keys(own.model_copy(update={"secret_keys": SecretStr(key)}), Vault([key]))
    environment = {
        **os.environ,
        "HOOKLINE_DATABASE_URL": own.sqlalchemy_url,
        "HOOKLINE_REDIS_URL": "redis://127.0.0.1:1/0",
        "HOOKLINE_SECRET_KEYS": key,
    }
    worker = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", "deliver"]
    ended = subprocess.run(worker, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "HOOKLINE_SECRET_KEYS does not have" in ended.stderr.strip().splitlines()[-1]


def test_rotation_takes_the_check_along(own: Settings) -> None:
    path = own.data_dir / KEY_FILE
    old, new = path.read_text(encoding="ascii").strip(), Fernet.generate_key().decode()
    engine = open_engine(own)
    assert rotate(engine, Vault([new, old])).old_keys_removable
    engine.dispose()
    path.write_text(f"{new}\n", encoding="ascii")
    assert start(own) is None


@pytest.mark.parametrize(
    ("name", "folder"), [("metrics", False), ("valkey", False), ("up.lock", True), ("installation", True)]
)
def test_a_file_of_the_wrong_kind_is_one_clear_line(own: Settings, name: str, folder: bool) -> None:
    path = own.data_dir / name
    path.unlink(missing_ok=True)
    path.mkdir() if folder else path.touch()
    told = refusal(own)
    assert str(own.data_dir) in told


def test_a_configuration_of_valkey_that_is_a_folder_is_one_clear_line(own: Settings) -> None:
    (own.data_dir / "valkey" / "valkey.conf").mkdir(parents=True)
    assert "valkey.conf" in refusal(own)


def test_keys_that_can_not_be_read_are_told_at_once(own: Settings) -> None:
    path = own.data_dir / KEY_FILE
    path.write_bytes(b"\xff")
    assert str(path) in refusal(own)


def test_a_data_directory_that_everybody_writes_to_is_refused(own: Settings) -> None:
    own.data_dir.chmod(0o777)
    assert "everybody can write into the data directory" in refusal(own)


def test_a_data_directory_of_ours_is_closed_to_others(own: Settings) -> None:
    own.data_dir.chmod(0o775)
    (own.data_dir / "metrics").touch()
    assert "metrics" in refusal(own)
    assert own.data_dir.stat().st_mode & 0o777 == 0o700


def test_a_server_that_is_no_child_of_ours_is_not_taken_for_valkey(own: Settings) -> None:
    valkey = EmbeddedValkey(own)
    valkey.claim()
    script = "import redis,sys,subprocess\nsubprocess.run(sys.argv[1:])"
    stranger = subprocess.Popen([sys.executable, "-c", script, *valkey.argv], pass_fds=(valkey.lock_fd,))
    try:
        client_answers(own)
        assert not asyncio.run(valkey.answers())
    finally:
        shutdown(own)
        stranger.wait(30)
        valkey.release()


def client_answers(settings: Settings) -> None:
    deadline = time.monotonic() + 30
    with redis.Redis.from_url(settings.stream_url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return


def shutdown(settings: Settings) -> None:
    with redis.Redis.from_url(settings.stream_url) as client:
        client.shutdown(nosave=True)


def test_a_deleted_admin_stays_deleted(own: Settings) -> None:
    engine = open_engine(own)
    with write_transaction(engine) as connection:
        now = database_time(connection)
        boss = insert(users).values(name="boss", is_admin=True, created_at=now).returning(users.c.id)
        key = {"name": "k", "digest": b"1" * 32, "hint": "hlk-", "created_at": now}
        connection.execute(insert(api_keys).values(user_id=connection.execute(boss).scalar_one(), **key))
        connection.execute(delete(users).where(users.c.name == "admin"))
    assert start(own) is None
    configured = own.model_copy(update={"admin_api_key": SecretStr("hlk-0123456789abcdefghij")})
    assert start(configured) is None
    with read_transaction(engine) as connection:
        assert connection.scalars(select(users.c.name)).all() == ["boss"]
    with write_transaction(engine) as connection:
        connection.execute(update(users).values(is_admin=False))
    assert start(own) is not None
    with read_transaction(engine) as connection:
        rows = connection.execute(select(audit_log.c.action, audit_log.c.detail).order_by(audit_log.c.id)).all()
    engine.dispose()
    made = [
        ("user.create", {"name": "admin", "is_admin": True}),
        ("key.create", {"name": "first admin key", "user": "admin"}),
    ]
    assert [tuple(row) for row in rows] == made * 2
