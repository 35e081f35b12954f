"""PgBouncer in front of a database of the tests, as an operator's host has it; skipped where there is none."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.integration.processes import wait_until
from tests.servers import free_port

STOP_SECONDS = 20


@contextmanager
def pgbouncer(database_url: str, *, pool_mode: str, pool_size: int = 5) -> Iterator[str]:
    """A PgBouncer of the machine's package in front of a database; gives the database's URL through it."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("there is no pgbouncer (Debian's package pgbouncer)")
    url, port = make_url(database_url), free_port()
    with tempfile.TemporaryDirectory(prefix="hookline-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        config = Path(folder, "pgbouncer.ini")
        server = f"host={url.query['host']} port={url.query.get('port', 5432)} user={url.username}"
        config.write_text(
            f"[databases]\n{url.database} = {server}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\nmax_client_conn = 500\n"
        )
        config.chmod(0o644)
        # It refuses to run as root, and the socket is in a folder of PostgreSQL's own user.
        owner = pwd.getpwuid(Path(str(url.query["host"])).stat().st_uid).pw_name
        user = ["-u", owner] if os.getuid() == 0 else []
        written = Path(folder, "log")
        with written.open("wb") as log:
            process = subprocess.Popen([program, *user, str(config)], stdout=log, stderr=subprocess.STDOUT)
        try:
            pooled = url.set(host="127.0.0.1", port=port, query={})
            plain = pooled.set(drivername="postgresql").render_as_string(hide_password=False)
            try:
                wait_until(lambda: _answers(plain), "PgBouncer")
            except AssertionError as exc:
                exc.add_note(written.read_text())
                raise
            yield pooled.render_as_string(hide_password=False)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.execute("SELECT 1", prepare=False)
    except psycopg.OperationalError:
        return False
    return True
