"""Secrets at rest: encrypted with Fernet keys that rotate, never written anywhere in the clear."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.config.setting_types import InvalidSetting, split_keys
from shared.domain.errors import HooklineError
from shared.settings import Settings

KEY_FILE = "secret.keys"


class SecretUnreadable(HooklineError):
    """A stored secret can't be decrypted: HOOKLINE_SECRET_KEYS lacks the key that it was written with."""


class Vault:
    """Encrypts with the newest key and decrypts with any (https://cryptography.io, MultiFernet).

    Any thread may use it. The keys are parsed at the first use; two threads that do so at the same moment get equal
    values, of which one is kept.
    """

    def __init__(self, keys: list[str] | Callable[[], list[str]]) -> None:
        """Take the keys, newest first, or a function that reads them at the first use.

        Raises:
            InvalidSetting: when a key is not a Fernet key; with a function, not here but at the first use.
        """
        self._keys = keys
        if not callable(keys):
            self._fernets  # noqa: B018 - checks the keys now

    @cached_property
    def _fernets(self) -> list[Fernet]:
        keys = self._keys() if callable(self._keys) else self._keys
        try:
            fernets = [Fernet(key) for key in keys]
            MultiFernet(fernets)  # refuses an empty list
        except ValueError as exc:
            raise InvalidSetting(
                "HOOKLINE_SECRET_KEYS: must be Fernet keys (32 bytes, url-safe base64), comma-separated, newest first"
            ) from exc
        return fernets

    @cached_property
    def _fernet(self) -> MultiFernet:
        return MultiFernet(self._fernets)

    @property
    def keys(self) -> int:
        """How many keys it has."""
        return len(self._fernets)

    @classmethod
    def open(cls, settings: Settings) -> Vault:
        """The vault under the configured keys, or under the data directory's.

        Raises:
            InvalidSetting: when there is no key, or a key is not a Fernet key.
        """
        return cls(_configured_keys(settings))

    @classmethod
    def open_at_first_use(cls, settings: Settings) -> Vault:
        """The same vault for a process that may never need it, since a worker that only evaluates has no keys.

        Without keys, `decrypt` raises SecretUnreadable, as for a secret of another key.
        """
        return cls(lambda: _configured_keys(settings))

    def encrypt(self, text: str) -> bytes:
        """The ciphertext to store for a secret's value."""
        return self._fernet.encrypt(text.encode())

    def decrypt(self, stored: bytes) -> str:
        """The value of a stored secret. Raises SecretUnreadable when no key fits."""
        try:
            return self._fernet.decrypt(stored).decode()
        except InvalidSetting as exc:
            raise SecretUnreadable(str(exc)) from exc
        except InvalidToken as exc:
            raise SecretUnreadable(SecretUnreadable.__doc__) from exc

    def can_decrypt(self, stored: bytes) -> bool:
        """Whether some key fits a stored secret."""
        try:
            self._fernet.decrypt(stored)
        except (InvalidSetting, InvalidToken):
            return False
        return True

    def is_newest(self, stored: bytes) -> bool:
        """Whether the newest key alone can read it, so that the others are not needed for it."""
        try:
            self._fernets[0].decrypt(stored)
        except InvalidToken:
            return False
        return True

    def rotate(self, stored: bytes) -> bytes:
        """The ciphertext of the same value under the newest key. Raises SecretUnreadable when no key fits."""
        try:
            return self._fernet.rotate(stored)
        except InvalidToken as exc:
            raise SecretUnreadable(SecretUnreadable.__doc__) from exc


def _configured_keys(settings: Settings) -> list[str]:
    """The keys of HOOKLINE_SECRET_KEYS, or of the data directory's file. Raises InvalidSetting when there are none."""
    if settings.secret_keys is not None:
        return split_keys(settings.secret_keys.get_secret_value())
    path = settings.data_dir / KEY_FILE
    try:
        keys = split_keys(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise InvalidSetting(f"HOOKLINE_SECRET_KEYS: is not set, and there is no {path}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSetting(f"HOOKLINE_SECRET_KEYS: is not set, and {path} can't be read") from exc
    try:
        Vault(keys)
    except InvalidSetting as exc:
        raise InvalidSetting(f"{path}: must hold Fernet keys (32 bytes in url-safe base64), newest first") from exc
    return keys


def has_keys(settings: Settings) -> bool:
    """Whether keys are configured, or lie in the data directory, whether or not they can be used."""
    return settings.secret_keys is not None or os.path.lexists(settings.data_dir / KEY_FILE)


def load_or_create_keys(settings: Settings) -> Path | None:
    """Make sure that the embedded default has a key, in a file with mode 0600.

    The file appears complete, by a link to a temporary one: no process reads half a key, and a crash leaves no empty
    file.

    Returns:
        The key file, or None when HOOKLINE_SECRET_KEYS is set.
    """
    if settings.secret_keys is not None:
        return None
    path = settings.data_dir / KEY_FILE
    if not path.exists():
        descriptor, draft = tempfile.mkstemp(prefix=f"{KEY_FILE}.", dir=settings.data_dir)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(Fernet.generate_key() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                path.hardlink_to(draft)
        finally:
            Path(draft).unlink()
    return path
