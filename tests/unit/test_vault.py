"""Secrets at rest: what is stored says nothing, keys rotate, and the key file is nobody else's from its first byte."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config.setting_types import InvalidSetting
from shared.settings import load_settings
from shared.vault import KEY_FILE, SecretUnreadable, Vault, load_or_create_keys


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
KEYS = "must hold Fernet keys (32 bytes in url-safe base64), newest first"


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_encrypted_is_decrypted(text: str) -> None:
    assert Vault([NEW]).decrypt(Vault([NEW]).encrypt(text)) == text


def test_what_is_stored_says_nothing_and_is_never_the_same_twice() -> None:
    vault = Vault([NEW])
    once, twice = vault.encrypt("s3cret-value"), vault.encrypt("s3cret-value")
    assert once != twice
    assert b"s3cret" not in once


def test_every_key_decrypts_and_the_newest_encrypts() -> None:
    by_old = Vault([OLD]).encrypt("value")
    vault = Vault([NEW, OLD])
    assert vault.decrypt(by_old) == "value"
    assert Vault([NEW]).decrypt(vault.encrypt("value")) == "value"
    with pytest.raises(SecretUnreadable):
        Vault([OLD]).decrypt(vault.encrypt("value"))


def test_a_rotated_secret_needs_the_newest_key_only() -> None:
    rotated = Vault([NEW, OLD]).rotate(Vault([OLD]).encrypt("value"))
    assert Vault([NEW]).decrypt(rotated) == "value"
    with pytest.raises(SecretUnreadable):
        Vault([OLD]).decrypt(rotated)


@pytest.mark.parametrize(
    "stored",
    [Vault([OTHER]).encrypt("value"), b"", b"garbage", b"\xff\x00", Vault([NEW]).encrypt("value")[:-2]],
    ids=["of another key", "blank", "garbage", "bytes", "cut"],
)
def test_what_no_key_fits_is_unreadable(stored: bytes) -> None:
    for read in (Vault([NEW, OLD]).decrypt, Vault([NEW, OLD]).rotate):
        with pytest.raises(SecretUnreadable, match="HOOKLINE_SECRET_KEYS lacks the key that it was written with"):
            read(stored)


@pytest.mark.parametrize(
    "keys", [[], [""], ["short"], [NEW, "short"], ["ü" * 44], ["*" * 44]], ids=lambda keys: str(len(keys))
)
def test_what_is_no_key_is_refused_without_being_repeated(keys: list[str]) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Vault(keys)
    assert str(caught.value).startswith("HOOKLINE_SECRET_KEYS: must be Fernet keys")
    assert not any(key in str(caught.value) for key in keys if key)


def test_a_vault_does_not_show_its_keys() -> None:
    assert NEW not in repr(Vault([NEW]))


@pytest.mark.parametrize("separator", [",", " , ", "\n", ",\n"])
def test_the_settings_name_several_keys(separator: str) -> None:
    vault = Vault.open(load_settings(secret_keys=f"{NEW}{separator}{OLD}\n"))
    assert vault.decrypt(Vault([OLD]).encrypt("value")) == "value"
    assert Vault([NEW]).decrypt(vault.encrypt("value")) == "value"


def test_without_configured_keys_the_data_directory_has_one(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    path = load_or_create_keys(settings)
    assert path == tmp_path / KEY_FILE
    stored = Vault.open(settings).encrypt("value")
    written = path.read_bytes()
    assert load_or_create_keys(settings) == path
    assert path.read_bytes() == written
    assert Vault.open(settings).decrypt(stored) == "value"
    assert names(tmp_path) == [KEY_FILE]


def test_a_key_can_be_added_to_the_file_by_hand(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    path = load_or_create_keys(settings)
    assert path is not None
    stored = Vault.open(settings).encrypt("value")
    path.write_text(f"{NEW}\n{path.read_text()}")
    assert Vault([NEW]).decrypt(Vault.open(settings).rotate(stored)) == "value"


def test_configured_keys_leave_the_data_directory_alone(tmp_path: Path) -> None:
    assert load_or_create_keys(load_settings(data_dir=tmp_path, secret_keys=NEW)) is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_key_file_is_its_owners_from_the_first_byte(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    generate = Fernet.generate_key

    def watched() -> bytes:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir())
        return generate()

    monkeypatch.setattr(Fernet, "generate_key", watched)
    before = os.umask(umask)
    try:
        path = load_or_create_keys(load_settings(data_dir=tmp_path))
    finally:
        os.umask(before)
    assert path is not None
    assert seen == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1


def test_a_key_that_was_not_written_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(Fernet, "generate_key", fail)
    with pytest.raises(OSError, match="no space left"):
        load_or_create_keys(load_settings(data_dir=tmp_path))
    assert names(tmp_path) == []


def test_processes_that_start_at_the_same_time_agree_on_one_key(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    barrier, stored = threading.Barrier(8), list[bytes]()

    def start() -> None:
        barrier.wait()
        load_or_create_keys(settings)
        stored.append(Vault.open(settings).encrypt("value"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [Vault.open(settings).decrypt(one) for one in stored] == ["value"] * 8
    assert names(tmp_path) == [KEY_FILE]


def refusal(data_dir: Path) -> str:
    with pytest.raises(InvalidSetting) as caught:
        Vault.open(load_settings(data_dir=data_dir))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_key_file_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    assert refusal(tmp_path) == f"HOOKLINE_SECRET_KEYS: is not set, and there is no {path}"
    for text in ("", "\n", "no-key", f"{NEW}\nno-key"):
        path.write_text(text)
        assert refusal(tmp_path) == f"{path}: {KEYS}"
    path.write_bytes(b"\xff\xfe")
    assert refusal(tmp_path) == f"HOOKLINE_SECRET_KEYS: is not set, and {path} can't be read"
    path.unlink()
    path.mkdir()
    assert refusal(tmp_path) == f"HOOKLINE_SECRET_KEYS: is not set, and {path} can't be read"


def test_what_the_newest_key_reads_is_told_from_what_needs_an_older_one() -> None:
    vault = Vault([NEW, OLD])
    assert vault.keys == 2
    assert vault.is_newest(vault.encrypt("value"))
    assert not vault.is_newest(Vault([OLD]).encrypt("value"))
    assert not vault.is_newest(b"garbage")
    assert vault.is_newest(vault.rotate(Vault([OLD]).encrypt("value")))


def test_a_vault_at_first_use_needs_no_keys_before_that(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    without = Vault.open_at_first_use(settings)
    with pytest.raises(SecretUnreadable, match="HOOKLINE_SECRET_KEYS: is not set"):
        without.decrypt(Vault([NEW]).encrypt("value"))
    (tmp_path / KEY_FILE).write_text(f"{NEW}\n")
    assert without.decrypt(Vault([NEW]).encrypt("value")) == "value"
