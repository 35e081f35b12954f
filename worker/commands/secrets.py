"""`celery -A worker secrets …`: bring all that is stored encrypted under the newest key.

Declares the command; it imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.output import as_json, complain, opened, operators_group, print_json, say


@operators_group("secrets")
def secrets() -> None:
    """Hookline: rotate the keys of secrets at rest."""


@secrets.command()
@as_json
def rotate(as_json: bool) -> None:
    """Encrypt every stored secret again, with the first of HOOKLINE_SECRET_KEYS.

    You may run it while Hookline works, and repeat it. Give every process the new key first: a process without it
    cannot read what this writes.

    Exits with 0 if the older keys are not needed any more, with 1 if some values cannot be read, or are still encrypted
    with an older key.
    """
    from shared.vault import Vault
    from worker.operations.key_rotation import rotate

    with opened() as (settings, engine):
        vault = Vault.open(settings)
        done = rotate(engine, vault)
    if as_json:
        print_json(done.to_json())
    else:
        for line in done.lines():
            say(line)
    for fault in done.faults():
        complain(fault)
    click.get_current_context().exit(0 if done.old_keys_removable else 1)
