"""Entity tags: the revision of a definition as ETag, and `If-Match` / `If-None-Match` on changes (RFC 9110).

A tag is `"<revision>"`. Where an answer also holds what changes without a revision (who uses a secret, the state of an
endpoint), `"<revision>-<check>"` tells these apart; `If-Match` takes either.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from zlib import crc32

from fastapi import Depends, Header, Response
from sqlalchemy import Connection

from dispatcher.api.problems import Problem
from dispatcher.control.errors import NotFound
from shared.storage.definitions.revisions import lock_edits

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LIST = re.compile(rf"\s*{_TAG.pattern}(?:\s*,\s*{_TAG.pattern})*\s*")


@dataclass(frozen=True, slots=True)
class Version:
    """The state of a definition in an answer; `derived` are values that may change without a new revision."""

    revision: int
    derived: tuple[object, ...] = ()

    @property
    def tag(self) -> str:
        """The ETag."""
        if not any(self.derived):
            return f'"{self.revision}"'
        return f'"{self.revision}-{crc32(repr(self.derived).encode()):08x}"'

    def put_on(self, response: Response) -> None:
        """Answer with the tag."""
        response.headers["ETag"] = self.tag


def names_tag(wanted: str, tag: str | None) -> bool:
    """Whether an If-None-Match names a tag, weak or strong, or is `*`."""
    if tag is None:
        return False
    return wanted.strip() == "*" or tag in {found.removeprefix("W/") for found in _TAG.findall(wanted)}


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a change, by its headers; without conditions None."""

    if_match: str | None
    if_none_match: str | None

    def check(self, connection: Connection, current: Callable[[], Version]) -> None:
        """Hold the caller's transaction to the conditions, and other edits off until it ends.

        `current` looks the definition up, and raises NotFound when there is none; it is not called without a condition.

        Raises:
            Problem: 412 when a condition does not hold, 400 when it can't be read.
        """
        if self.if_match is None and self.if_none_match is None:
            return
        lock_edits(connection)
        if self.if_none_match is not None:
            self._check_absent(current)
        if self.if_match is not None:
            self._check_same(self.if_match, current)

    def _check_absent(self, current: Callable[[], Version]) -> None:
        if self.if_none_match is None or self.if_none_match.strip() != "*":
            raise Problem(400, "bad-request", "If-None-Match on a change must be *, which means: only if there is none")
        try:
            current()
        except NotFound:
            return
        raise Problem(412, "precondition-failed", "it already exists, and If-None-Match: * only creates a new one")

    @staticmethod
    def _check_same(wanted: str, current: Callable[[], Version]) -> None:
        version = current()
        if wanted.strip() == "*":
            return
        if not _LIST.fullmatch(wanted):
            raise Problem(400, "bad-request", 'If-Match must be * or entity tags in quotes, such as "12"')
        if not {version.tag, f'"{version.revision}"'} & set(_TAG.findall(wanted)):
            raise Problem(
                412,
                "precondition-failed",
                f"it was changed: its ETag is now {version.tag}; reload it and retry",
                headers={"ETag": version.tag},
            )


async def _match(
    if_match: Annotated[
        str | None, Header(description="Change it only if its ETag is one of these; `*`: any ETag.")
    ] = None,
) -> Conditions:
    return Conditions(if_match, None)


async def _match_or_new(
    if_match: Annotated[
        str | None, Header(description="Change it only if its ETag is one of these; `*`: any ETag.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="`*`: only create a new secret, never replace one.")
    ] = None,
) -> Conditions:
    return Conditions(if_match, if_none_match)


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Not changed: the ETag is the one in If-None-Match. No body."}
}
IfMatch = Annotated[Conditions, Depends(_match)]
IfMatchOrNew = Annotated[Conditions, Depends(_match_or_new)]
