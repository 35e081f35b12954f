"""What `celery -A worker entities quotas` reads: the limits of entities, and what they use of them."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.domain.quotas import EVENTS_PER_SECOND, Quota, limits_of
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.entities import list_entities
from shared.storage.definitions.quotas import read_own_limits, read_uses
from worker.operations.audit import Row
from worker.operations.lookup import resolve_entity

_PAGE = 500


def list_quotas(engine: Engine, entity: str | None) -> list[Row]:
    """The quotas of one entity, or of all, in the order of their ids; `own` says whether a limit was set for it.

    Raises:
        InvalidDefinition: for an entity that does not exist.
    """
    rows: list[Row] = []
    with read_transaction(engine) as connection:
        among = None if entity is None else [resolve_entity(connection, entity).id]
        page = list_entities(connection, among=among, after=0, limit=_PAGE)
        while page:
            for one in page:
                own, uses = read_own_limits(connection, one.id), read_uses(connection, one.id)
                limits = limits_of(own)
                rows += [_row(one.name, quota.value, uses[quota], limits[quota], quota in own) for quota in Quota]
                rate = own.get(EVENTS_PER_SECOND)
                rows.append(_row(one.name, EVENTS_PER_SECOND, None, rate, rate is not None))
            page = list_entities(connection, among=among, after=page[-1].id, limit=_PAGE) if len(page) == _PAGE else []
    return rows


def _row(entity: str, quota: str, used: int | None, limit: int | None, own: bool) -> Row:
    return {"entity": entity, "quota": quota, "used": used, "limit": limit, "own": own}
