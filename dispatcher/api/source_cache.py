"""The sources of an API process by the tokens in their URLs: looked up, compiled, and remembered for a few seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial

from anyio import CapacityLimiter
from sqlalchemy import Engine

from dispatcher.api.remembered import Remembered
from dispatcher.api.threads import run_in
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind, encode_id
from shared.domain.sources.model import Source, SourceKind
from shared.domain.sources.parsing import source_of
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.sources import AddressedSource, find_addressed
from shared.vault import SecretUnreadable, Vault

REMEMBERED_SECONDS = 5.0
"""How long an edited or deleted source may still take requests as it was."""
SECONDS_OF_A_REFUSAL = 1.0
"""In which one is kept: strangers must not make the database busy, nor push what matters out of a source's history."""

_TOKEN = re.compile(r"[0-9a-f]{32}")

log = get_logger("hookline.api")


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A source that takes requests."""

    number: int
    source: Source
    secrets: dict[str, str] = field(repr=False)
    """By name, the present one first."""
    enabled: bool

    @property
    def public_id(self) -> str:
        """Its id outside."""
        return encode_id(IdKind.SOURCE, self.number)


class SourceCache:
    """The sources of one process, and the tokens that are none's: both take equally long to be told apart.

    Threads of the pool call `look_up`, and the event loop all else.
    """

    def __init__(self, engine: Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault
        self._known = Remembered[str, tuple[KnownSource | None]](REMEMBERED_SECONDS)
        self._refusals = Remembered[int, bool](SECONDS_OF_A_REFUSAL)

    async def addressed(self, token: str, threads: CapacityLimiter) -> KnownSource | None:
        """The source of a token, remembered or looked up in one of these threads.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away.
        """
        if _TOKEN.fullmatch(token) is None:  # must not be remembered: it may be as long as a request's head
            return None
        known = self._known.get(token)
        return await run_in(threads, partial(self.look_up, token)) if known is None else known[0]

    def look_up(self, token: str) -> KnownSource | None:
        """The source of a token, from the database; None when it has none, or can't be read."""
        with read_transaction(self._engine) as connection:
            found = find_addressed(connection, token)
        source = None if found is None else self._compiled(found)
        self._known.put(token, (source,))
        return source

    def _compiled(self, found: AddressedSource) -> KnownSource | None:
        stored = found.stored
        try:
            source = source_of(stored.name, SourceKind(stored.kind), found.entity, stored.definition)
            secrets = {name: self._vault.decrypt(stored) for name, stored in found.ciphertexts.items()}
        except (InvalidDefinition, SecretUnreadable, ValueError) as exc:
            log.error("source.unreadable", entity=found.entity, source=stored.name, error=type(exc).__name__)
            return None
        return KnownSource(stored.id, source, secrets, stored.enabled)

    def keeps_refusal(self, number: int) -> bool:
        """Whether a refusal may be kept in a source's history now; at most one in a second is."""
        if self._refusals.get(number) is not None:
            return False
        self._refusals.put(number, True)
        return True

    def clear(self) -> None:
        """Forget all: sources were changed here."""
        self._known.clear()
