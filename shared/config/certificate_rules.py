"""By which rules the certificate of another side is checked: the same on each Python.

Python 3.13 changed what `ssl.create_default_context` asks for. It began to refuse certificates that break a rule of
RFC 5280 without being any less genuine, such as those without an authority key identifier, which many private
authorities issue. And it began to trust an authority in the middle of a chain that is trusted by itself.
"""

from __future__ import annotations

import ssl

INCLUDED = ssl.VERIFY_X509_PARTIAL_CHAIN
"""A certificate that is trusted ends a chain, whoever signed it."""
EXCLUDED = ssl.VERIFY_X509_STRICT
"""The rules of RFC 5280 that many private authorities break."""


def apply_rules(context: ssl.SSLContext) -> None:
    """Let a context check certificates in the same way on each Python, and a name against alternative names alone.

    A common name is for people, and may say anything (RFC 9525, section 6.3).
    """
    context.hostname_checks_common_name = False
    context.verify_flags = (context.verify_flags | INCLUDED) & ~EXCLUDED
