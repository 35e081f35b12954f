"""What a page asks before a key is revoked, wherever the key is listed."""

from __future__ import annotations

from dispatcher.console.confirmation import Question
from dispatcher.console.rendering import utc
from dispatcher.control.identity import KeyView


def revocation(key: KeyView, section: str, back: str, above: str) -> Question:
    """Whether to revoke a key; `above` is what the page is called that *Cancel* leads to."""
    used = "never" if key.last_used_at is None else utc(key.last_used_at)
    return Question(
        what="key",
        name=key.name,
        section=section,
        words="Whatever uses it is refused from now on, and sessions that were begun with it end. It can't be brought "
        "back: make another one first where something still needs it.",
        back=back,
        trail=[(above, back)],
        verb="Revoke",
        facts=[("Begins with", f"{key.hint}…"), ("User", key.user), ("Used last", used)],
        icon="ban",
    )
