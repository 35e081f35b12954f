"""Brokers that no wheel carries, as an operator's host has them: RabbitMQ, and Redis with TLS or under Sentinel.

Each is skipped, with the name of the missing program, where the host has none. As in `tests.servers`: own folder, own
ports, stopped by its own process, nothing left behind.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from kombu import Connection
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from dispatcher.up.valkey import find_server
from shared.messaging.keys import is_cluster
from tests.authority import Authority
from tests.integration.processes import wait_until
from tests.servers import free_port

RABBIT_FOLDERS = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin"), Path("/usr/local/sbin"))
"""Where the programs are that do not insist on the system's own user, as those on PATH do."""
START_SECONDS = 90.0
STOP_SECONDS = 30.0


def rabbit_folder() -> Path:
    """The folder with RabbitMQ's programs; skips the test where there is none."""
    for folder in RABBIT_FOLDERS:
        if (folder / "rabbitmq-server").is_file() and shutil.which("erl"):
            return folder
    pytest.skip("there is no rabbitmq-server (Debian's package rabbitmq-server)")


@dataclass
class Rabbit:
    """A RabbitMQ of one node, which keeps its data from one start to the next."""

    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)
    _ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    _process: psutil.Popen | None = None

    @property
    def url(self) -> str:
        """The broker's URL, with the user that a new RabbitMQ has."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def environment(self) -> dict[str, str]:
        """What its programs need to find this node."""
        mapper, distribution = self._ports
        return {
            **os.environ,
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"hookline{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
        }

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.folder / "output.log").open("ab") as output:
            self._process = psutil.Popen(
                [self.programs / "rabbitmq-server"], env=self.environment, stdout=output, stderr=output
            )
        wait_until(self._answers, "answer of RabbitMQ", seconds=START_SECONDS, every_seconds=0.2)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output.log").read_text()
        with Connection(self.url, connect_timeout=5) as connection, suppress(*connection.connection_errors):
            connection.connect()
            return True
        return False

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` prints."""
        done = subprocess.run(
            [self.programs / "rabbitmqctl", "--quiet", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue or are held by workers."""
        lines = self.control("list_queues", "name", "messages", "--no-table-headers").splitlines()
        return sum(int(count) for name, _, count in (line.partition("\t") for line in lines) if name == queue)

    def stop(self) -> None:
        """Stop it in order; what is left after that is killed."""
        if self._process is not None and self._process.is_running():
            family = [self._process, *self._process.children(recursive=True)]
            self._process.terminate()
            self._end(family)

    def kill(self) -> None:
        """kill -9, of all its processes."""
        assert self._process is not None
        family = [self._process, *self._process.children(recursive=True)]
        for one in family:
            one.kill()
        self._end(family)

    def _end(self, family: list[psutil.Process]) -> None:
        _gone, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for one in alive:
            one.kill()
        psutil.wait_procs(alive)
        self._process = None

    def forget(self) -> None:
        """End the port mapper, which outlives the node."""
        subprocess.run(
            [shutil.which("epmd") or "epmd", "-kill"], env=self.environment, stdout=subprocess.DEVNULL, check=False
        )


@contextmanager
def redis_process(program: str, folder: Path, lines: Mapping[str, object], *arguments: str) -> Iterator[psutil.Popen]:
    """A server of Redis' kind on 127.0.0.1 with these lines of configuration; killed at the end, if it still runs."""
    folder.mkdir()
    config = folder / "server.conf"
    common = {"bind": "127.0.0.1", "dir": folder, "save": '""', "protected-mode": "no"}
    config.write_text("".join(f"{name} {value}\n" for name, value in {**common, **lines}.items()))
    with (folder / "output.log").open("wb") as output:
        process = psutil.Popen([program, config, *arguments], stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.is_running():
            process.kill()
        process.wait()


@contextmanager
def tls_redis(folder: Path, authority: Authority, **lines: object) -> Iterator[int]:
    """A Redis that speaks TLS alone, with a certificate for 127.0.0.1; its port. Skips where none is built with TLS."""
    program = next(filter(None, map(shutil.which, ("valkey-server", "redis-server"))), None)
    if program is None:
        pytest.skip("there is no redis-server (Debian's package redis-server); the wheel's Valkey has no TLS")
    issued, files = authority.issue("127.0.0.1"), {}
    for name, text in (("cert", issued.certificate), ("key", issued.key), ("ca-cert", authority.pem)):
        path = folder / f"{name}.pem"
        path.write_text(text)
        files[f"tls-{name}-file"] = path
    port = free_port()
    tls = {"port": 0, "tls-port": port, "tls-auth-clients": "no", **files}
    with redis_process(program, folder / "redis", {**tls, **lines}) as process:
        wait_until(lambda: listens(port) or not process.is_running(), "answer of Redis")
        if not listens(port):
            pytest.skip(f"{program} is built without TLS")
        yield port


def configure(redis: Redis, name: str, value: object) -> None:
    """Set an option of the server, or of all nodes of a cluster."""
    everywhere = {"target_nodes": RedisCluster.ALL_NODES} if is_cluster(redis) else {}
    redis.config_set(name, str(value), **everywhere)


def listens(port: int) -> bool:
    """Whether something takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Watched:
    """A master, a replica of it and three Sentinels that watch them; which is the master changes with time."""

    ports: tuple[int, int]
    sentinels: tuple[int, int, int]
    servers: dict[int, psutil.Popen]

    @property
    def hosts(self) -> str:
        """The Sentinels, as a URL has them."""
        return ",".join(f"127.0.0.1:{port}" for port in self.sentinels)

    def master(self) -> int:
        """The port of the server that the Sentinels name."""
        with Redis(port=self.sentinels[0], password=SENTINEL_PASSWORD) as sentinel:
            answer: Any = sentinel.sentinel_master(MASTER)
            return int(answer["port"])

    def in_step(self) -> bool:
        """Whether the Sentinels know each other and the replica, which holds what the master holds."""
        with Redis(port=self.sentinels[0], password=SENTINEL_PASSWORD) as sentinel:
            seen: Any = sentinel.sentinel_master(MASTER)
        with self.client(self.master()) as server:
            replicas: Any = server.info("replication")
        known = (seen["num-slaves"], seen["num-other-sentinels"], replicas["connected_slaves"])
        return known == (1, 2, 1) and bool(replicas["slave0"]["state"] == "online")

    def client(self, port: int) -> Redis:
        """A client of one of the servers."""
        return Redis(port=port, username=USER, password=PASSWORD)


USER, PASSWORD, SENTINEL_PASSWORD = "hook", "p@ss/w:rd%s3cret", "s3ntinel-p@ss"
MASTER = "hookline"
DOWN_AFTER_MS = 1000


@contextmanager
def watched_redis(folder: Path) -> Iterator[Watched]:
    """Servers and Sentinels, all of the wheel's Valkey, which all want a password."""
    ports = (free_port(), free_port())
    sentinels = (free_port(), free_port(), free_port())
    program = str(find_server())
    acl = f"user {USER} on >{PASSWORD} ~* &* +@all\nuser default off\n"
    with ExitStack() as stack:
        servers = {}
        for port in ports:
            acl_file = folder / f"{port}.acl"
            acl_file.write_text(acl)
            lines: dict[str, object] = {
                "port": port,
                "appendonly": "yes",
                "aclfile": acl_file,
                "masteruser": USER,
                "masterauth": f'"{PASSWORD}"',
                "repl-diskless-sync-delay": 0,
            }
            if port != ports[0]:
                lines["replicaof"] = f"127.0.0.1 {ports[0]}"
            servers[port] = stack.enter_context(redis_process(program, folder / str(port), lines))
            wait_until(lambda port=port: listens(port), "a server")  # type: ignore[misc]
        for port in sentinels:
            watch = {
                "port": port,
                "requirepass": SENTINEL_PASSWORD,
                f"sentinel monitor {MASTER}": f"127.0.0.1 {ports[0]} 2",
                f"sentinel auth-user {MASTER}": USER,
                f"sentinel auth-pass {MASTER}": PASSWORD,
                f"sentinel down-after-milliseconds {MASTER}": DOWN_AFTER_MS,
                f"sentinel failover-timeout {MASTER}": 5000,
            }
            stack.enter_context(redis_process(program, folder / f"sentinel-{port}", watch, "--sentinel"))
            wait_until(lambda port=port: listens(port), "a Sentinel")  # type: ignore[misc]
        watched = Watched(ports, sentinels, servers)
        wait_until(watched.in_step, "acquaintance of Sentinels and servers")
        yield watched


@contextmanager
def rabbit_server() -> Iterator[Rabbit]:
    """A running RabbitMQ on a folder of its own."""
    programs = rabbit_folder()
    with tempfile.TemporaryDirectory(prefix="hookline-rabbit-") as folder:
        rabbit = Rabbit(Path(folder), programs)
        (rabbit.folder / "plugins").write_text("[].\n")
        try:
            rabbit.start()
            yield rabbit
        finally:
            rabbit.stop()
            rabbit.forget()


@dataclass
class Cluster:
    """A Redis Cluster: primaries, with a replica each if it has any, by their ports."""

    primaries: tuple[int, ...]
    replicas: tuple[int, ...]
    servers: dict[int, psutil.Popen]
    _command: dict[int, list[str]] = field(default_factory=dict)

    def start_again(self, port: int) -> None:
        """Start a node that was killed, on what it had."""
        self.servers[port] = psutil.Popen(self._command[port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        """Kill the nodes that were started again."""
        for server in self.servers.values():
            if server.is_running():
                server.kill()
            server.wait()

    @property
    def hosts(self) -> str:
        """All its nodes, as a URL has them."""
        return ",".join(f"127.0.0.1:{port}" for port in (*self.primaries, *self.replicas))

    @property
    def url(self) -> str:
        """The URL for the streams."""
        return f"redis+cluster://{USER}:{quote(PASSWORD, safe='')}@{self.hosts}"

    def client(self, port: int) -> Redis:
        """A client of one of the servers."""
        return Redis(port=port, username=USER, password=PASSWORD)

    def all_is_well(self) -> bool:
        """Whether each running node sees all slots covered, and each replica holds what its primary does."""
        return all(self._agrees(port) for port, server in self.servers.items() if server.is_running())

    def _agrees(self, port: int) -> bool:
        with self.client(port) as server:
            state: Any = server.execute_command("CLUSTER INFO")
            link: Any = server.info("replication")
        return bool(state["cluster_state"] == "ok" and link.get("master_link_status", "up") == "up")

    def owner(self, key: str) -> int:
        """The port of the primary that a running node names for a key."""
        asked = next(port for port, server in self.servers.items() if server.is_running())
        with self.client(asked) as server:
            slot: Any = server.execute_command("CLUSTER KEYSLOT", key)
            ranges: Any = server.execute_command("CLUSTER SLOTS")
        for first, last, primary, *_replicas in ranges:
            if first <= slot <= last:
                return int(primary[1])
        raise AssertionError(f"no node has the slot {slot}")


NODE_TIMEOUT_MS = 1000
SLOTS = 16384


@contextmanager
def redis_cluster(folder: Path, *, replicas: bool) -> Iterator[Cluster]:
    """Three primaries, each with a replica or none, all of the wheel's Valkey, which want a password."""
    ports = [free_port() for _ in range(6 if replicas else 3)]
    primaries, followers = tuple(ports[:3]), tuple(ports[3:])
    program = str(find_server())
    with ExitStack() as stack:
        servers = {}
        for port in ports:
            acl_file = folder / f"{port}.acl"
            acl_file.write_text(f"user {USER} on >{PASSWORD} ~* &* +@all\nuser default off\n")
            lines: dict[str, object] = {
                "port": port,
                "cluster-enabled": "yes",
                "cluster-port": free_port(),
                "cluster-node-timeout": NODE_TIMEOUT_MS,
                "appendonly": "yes",
                "aclfile": acl_file,
                "masteruser": USER,
                "masterauth": f'"{PASSWORD}"',
                "repl-diskless-sync-delay": 0,
            }
            servers[port] = stack.enter_context(redis_process(program, folder / str(port), lines))
            wait_until(lambda port=port: listens(port), "a server")  # type: ignore[misc]
        commands = {port: [program, str(folder / str(port) / "server.conf")] for port in ports}
        cluster = Cluster(primaries, followers, servers, commands)
        stack.callback(cluster.end)
        names = _introduced(cluster, stack)
        for port, primary in zip(followers, primaries, strict=bool(followers)):
            with cluster.client(port) as server:
                wait_until(lambda: _follows(server, names[primary]), "acquaintance with a primary")  # noqa: B023
        wait_until(cluster.all_is_well, "agreement of the cluster's nodes")
        yield cluster


def _introduced(cluster: Cluster, stack: ExitStack) -> dict[int, str]:
    """Give each primary its slots and have all nodes meet; their names by port."""
    clients = {port: stack.enter_context(cluster.client(port)) for port in cluster.servers}
    names: dict[int, Any] = {}
    for number, port in enumerate(clients):
        clients[port].execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        names[port] = clients[port].execute_command("CLUSTER MYID")
    share = -(-SLOTS // len(cluster.primaries))
    for number, port in enumerate(cluster.primaries):
        last = min(SLOTS, (number + 1) * share) - 1
        clients[port].execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
    first, *others = clients
    for port in others:
        bus: Any = clients[port].config_get("cluster-port")
        clients[first].execute_command("CLUSTER MEET", "127.0.0.1", port, bus["cluster-port"])
    return names


def _follows(server: Any, primary: str) -> bool:
    try:
        server.execute_command("CLUSTER REPLICATE", primary)
    except ResponseError:  # the two have not met yet
        return False
    return True
