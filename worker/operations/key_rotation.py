"""What `celery -A worker secrets rotate` does: read, encrypt anew, and replace what is still as it was read.

Goes through everything in small batches, again until a pass finds nothing under an older key. Encrypting happens
outside transactions, so that nobody waits. Must not print, log or return anything of a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine

from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.maintenance import reencryption
from shared.storage.maintenance.installation import rotate_key_check
from shared.storage.maintenance.reencryption import EncryptedValue
from shared.vault import SecretUnreadable, Vault
from worker.operations.audit import record_change

BATCH = 100
"""Values that are read, and replaced, in one transaction."""
MAX_PASSES = 10
"""A second pass finds what was written under an older key during the first. One that still finds some after so many
means that a process runs with an older key in front, which the result says."""

Read = Callable[[Connection, tuple[Any, ...] | None, int], list[EncryptedValue]]
Replace = Callable[[Connection, EncryptedValue, bytes], bool]


@dataclass(slots=True)
class Tally:
    """What became of the values of one kind."""

    rotated: int = 0
    current: int = 0
    """Under the newest key when the last pass read them, those rotated before included."""
    stale: int = 0
    """Under an older key when the last pass read them."""
    unreadable: list[EncryptedValue] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rotation:
    """The result of a rotation."""

    keys: int
    secrets: Tally
    answers: Tally

    @property
    def old_keys_removable(self) -> bool:
        """Whether everything can be read with the newest key alone; an answer that nobody can read needs no key."""
        return not self.secrets.unreadable and not self.secrets.stale and not self.answers.stale

    def to_json(self) -> dict[str, Any]:
        """The result for programs."""
        return {
            "keys": self.keys,
            "secrets": {
                "rotated": self.secrets.rotated,
                "current": self.secrets.current,
                "stale": self.secrets.stale,
                "unreadable": [{"entity": value.entity, "name": value.name} for value in self.secrets.unreadable],
            },
            "answers": {
                "rotated": self.answers.rotated,
                "current": self.answers.current,
                "stale": self.answers.stale,
                "unreadable": len(self.answers.unreadable),
            },
            "old_keys_removable": self.old_keys_removable,
        }

    def lines(self) -> list[str]:
        """The result for people."""
        said = [
            f"rotated {_counted(self.secrets.rotated, 'secret')} and {_counted(self.answers.rotated, 'kept answer')}; "
            f"under the newest key are {_counted(self.secrets.current, 'secret')} and "
            f"{_counted(self.answers.current, 'answer')}"
        ]
        if self.answers.unreadable:
            lost = _counted(len(self.answers.unreadable), "kept answer")
            said.append(f"{lost} can't be read with any key: deleted after 24 h")
        if self.old_keys_removable:
            said.append(
                "there is one key only: nothing to remove"
                if self.keys == 1
                else "the older keys can be removed, once every process runs with the newest one in front"
            )
        return said

    def faults(self) -> list[str]:
        """What keeps the older keys from being removed."""
        faults = [
            f"{value.entity}/{value.name} can't be read with any key of HOOKLINE_SECRET_KEYS: add its key, or put its "
            "value again"
            for value in self.secrets.unreadable
        ]
        if self.secrets.stale or self.answers.stale:
            faults.append(
                "values are still encrypted with an older key: start every process with the newest one in front, and "
                "run this again"
            )
        return faults


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def rotate(engine: Engine, vault: Vault) -> Rotation:
    """Encrypt everything anew under the vault's newest key, and write to the audit log that it was done."""
    secrets = _all(engine, vault, reencryption.list_encrypted_secrets, reencryption.replace_secret_ciphertext)
    answers = _all(engine, vault, reencryption.list_encrypted_answers, reencryption.replace_answer_ciphertext)
    rotate_key_check(engine, vault)
    if secrets.rotated or answers.rotated:
        _note(engine, secrets.rotated + answers.rotated)
    return Rotation(vault.keys, secrets, answers)


def _all(engine: Engine, vault: Vault, read: Read, replace: Replace) -> Tally:
    """Go through everything until a pass finds nothing stale: others may write under an older key meanwhile."""
    tally = Tally()
    for _ in range(MAX_PASSES):
        tally = _pass(engine, vault, read, replace, rotated_before=tally.rotated)
        if not tally.stale:
            break
    return tally


def _pass(engine: Engine, vault: Vault, read: Read, replace: Replace, *, rotated_before: int) -> Tally:
    tally, after = Tally(rotated=rotated_before), None
    while True:
        with read_transaction(engine) as connection:
            batch = read(connection, after, BATCH)
        if not batch:
            return tally
        after = batch[-1].key
        stale = [value for value in batch if not vault.is_newest(value.stored)]
        tally.current += len(batch) - len(stale)
        _reseal(engine, vault, stale, replace, tally)


def _reseal(engine: Engine, vault: Vault, stale: list[EncryptedValue], replace: Replace, tally: Tally) -> None:
    anew: list[tuple[EncryptedValue, bytes]] = []
    for value in stale:
        try:
            anew.append((value, vault.rotate(value.stored)))
        except SecretUnreadable:
            tally.unreadable.append(value)
    tally.stale += len(anew)
    if anew:
        with write_transaction(engine) as connection:
            tally.rotated += sum(replace(connection, value, ciphertext) for value, ciphertext in anew)


def _note(engine: Engine, count: int) -> None:
    with write_transaction(engine) as connection:
        detail = {"name": "secrets", "rotated": count}
        record_change(
            connection, "secrets.rotate", entity_id=None, target="secrets", detail=detail, now=datetime.now(UTC)
        )
