"""A whole Hookline on hosts of its own, one for each part: a drill cuts some off in the middle of a load, and mends it.

A cut is silent: nobody gets an error before a time-out of its own. `runs` counts what came of it as for every drill;
here is counted what only several hosts show: whether the others go on, and whether all come back without a restart.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx

from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.maintenance.first_start import prepare
from tests.authority import TRUSTS_NOBODY
from tests.faults.load import Load
from tests.faults.network import Network, network
from tests.faults.receiver import Arrival, receiving
from tests.faults.runs import Fault, Result, account, await_end
from tests.faults.stage import ADMIN_KEY, Stage, selects, stage_settings, start_parts
from tests.integration.processes import wait_until
from tests.servers import POSTGRES_PROGRAM, postgres_server, valkey_server

WORKERS = ("worker0", "worker1")
POSTGRES_PORT, VALKEY_PORT, API_PORT, METRICS_PORT = 5432, 6379, 8080, 9100
BACK_SECONDS = 90.0
FIRST_SECONDS = 20.0
SETTLING_SECONDS = 1.0
"""What was on its way when a host was cut off still arrives for so long."""
LAST_SWEEP = re.compile(r"^hookline_pump_last_sweep\S* ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Cut:
    """Which hosts are cut off, and what that may do."""

    hosts: tuple[str, ...]
    goes_on: bool
    """Whether deliveries arrive all the same."""
    doubles: bool = False
    """Whether a request may be made twice, of those that a cut host had in hand."""
    pumps: int = 1


CUTS = {
    "cut off a worker's host": Cut(("worker0",), goes_on=True, doubles=True),
    "cut off the dispatcher's host": Cut(("pump0",), goes_on=False),
    "two dispatchers, cut off one's host": Cut(("pump0",), goes_on=True, pumps=2),
    "cut off the API's host": Cut(("api",), goes_on=False),
    "cut off the data's host": Cut(("data",), goes_on=False, doubles=True),
}


@dataclass(frozen=True)
class CutResult:
    """What a cut showed besides the counts of every drill."""

    counted: Result
    went_on: int
    """Requests while hosts were cut off, by those that were not; what was on its way at the cut left out."""
    silence_seconds: float
    """The longest time without a request from the cut on."""
    back_seconds: dict[str, float]
    """For each part how long after the mending it was at work again; without those that never were."""


@dataclass
class HostStage(Stage):
    """Parts that run on hosts of their own."""

    network: Network = field(kw_only=True)

    def place(self, name: str) -> AbstractContextManager[None]:
        """The host of this name."""
        return self.network.hosts[name].inside()

    def address(self, name: str) -> str:
        """Of the host of this name."""
        return self.network.hosts[name].address


@contextmanager
def host_stage(folder: Path, *, pumps: int = 1) -> Iterator[HostStage]:
    """Data, API, pumps, two workers and a receiver on a host each; this thread is on the operator's."""
    folder.chmod(0o755)
    (folder / "postgres").mkdir()
    (folder / "valkey").mkdir()
    parts = ("api", *(f"pump{number}" for number in range(pumps)), *WORKERS)
    with ExitStack() as stack:
        lines = stack.enter_context(network(("operator", "data", "receivers", *parts)))
        data, receivers = lines.hosts["data"], lines.hosts["receivers"]
        with receivers.inside():
            receiver = stack.enter_context(receiving(receivers.address))
        with data.inside():
            stack.enter_context(_postgres(folder / "postgres" / "data", data.address, allowed=lines.SUBNET))
            stack.enter_context(
                valkey_server(data_dir=folder / "valkey", host=data.address, port=VALKEY_PORT, append_only=True)
            )
        stack.enter_context(lines.hosts["operator"].inside())
        settings = _settings(folder, lines)
        engine = open_engine(settings)
        wait_until(lambda: selects(engine), "answer of PostgreSQL")
        engine.dispose()
        prepare(settings)
        scene = HostStage(settings, folder, receiver, {}, network=lines)
        stack.callback(scene.stop)
        start_parts(scene, parts)
        yield scene


def _settings(folder: Path, lines: Network) -> Settings:
    data, api = lines.hosts["data"].address, lines.hosts["api"].address
    return stage_settings(
        folder,
        database_url=f"postgresql+psycopg://postgres@{data}:{POSTGRES_PORT}/postgres",
        redis_url=f"redis://{data}:{VALKEY_PORT}/0",
        broker_url=f"redis://{data}:{VALKEY_PORT}/1",
        allowed_networks=lines.SUBNET,
        host=api,
        port=API_PORT,
        url=f"http://{api}:{API_PORT}",
        metrics_host="0.0.0.0",
        metrics_port=METRICS_PORT,
    )


@contextmanager
def _postgres(data_dir: Path, address: str, *, allowed: str) -> Iterator[None]:
    """A PostgreSQL that listens on this address for a network."""
    with postgres_server(data_dir=data_dir, durable=True):
        pass  # makes its files
    with (data_dir / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {allowed} trust\n")
    owner = data_dir.stat()
    command = [POSTGRES_PROGRAM, "-D", str(data_dir), "-h", address, "-p", str(POSTGRES_PORT), "-k", ""]
    with (data_dir.parent / "log").open("ab") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, user=owner.st_uid, group=owner.st_gid, cwd=data_dir
        )
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)  # waits for nobody
        server.wait(timeout=30)


def run_cut(name: str, *, rate: float, cut_seconds: float, seed: int) -> CutResult:
    """One cut on a stage of its own, under load from before it until all are back.

    Args:
        rate: events a second.
        cut_seconds: how long the hosts are cut off.
        seed: of the moment of the cut.
    """
    cut, chance = CUTS[name], random.Random(f"{seed}/{name}")
    with (
        tempfile.TemporaryDirectory(prefix="hookline-hosts-") as folder,
        host_stage(Path(folder), pumps=cut.pumps) as scene,
    ):
        count = int(rate * (FIRST_SECONDS + cut_seconds + BACK_SECONDS))
        load = Load(scene.settings.url, ADMIN_KEY, count, rate=rate)
        load.start()
        wait_until(lambda: {one.sender for one in scene.receiver.arrivals()} >= _senders(scene), "work of all workers")
        time.sleep(chance.uniform(0.2, 1.5))
        began = time.monotonic()
        for host in cut.hosts:
            scene.network.cut(host)
        time.sleep(cut_seconds)
        for host in cut.hosts:
            scene.network.mend(host)
        mended = time.monotonic()
        back = _await_return(scene, load, mended)
        load.finish()
        load.join()
        engine = open_engine(scene.settings)
        await_end(scene, engine, len(load.accepted))
        counted = account(name, scene, engine, load, faults=[Fault(began, mended)], doubles=cut.doubles)
        engine.dispose()
        arrivals = scene.receiver.arrivals()
        went_on = _went_on(arrivals, {scene.address(host) for host in cut.hosts}, began, mended)
        troubles = [f"{part} was not back after {BACK_SECONDS:g} s" for part in scene.parts if part not in back]
        if strays := _strays(scene, cut, arrivals):
            troubles.append(f"{strays} deliveries were sent twice without a cut host's doing")
        if cut.goes_on and not went_on:
            troubles.append("nobody went on")
        return CutResult(replace(counted, troubles=tuple(troubles)), went_on, _silence(arrivals, began), back)


def _senders(scene: HostStage) -> set[str]:
    return {scene.address(name) for name in WORKERS}


def _await_return(scene: HostStage, load: Load, mended: float) -> dict[str, float]:
    """When each part is at work again, in seconds after the mending; without those that are not in time."""
    waited = {name: partial(_works, scene, load, name, mended) for name in scene.parts}
    back: dict[str, float] = {}
    while waited and time.monotonic() < mended + BACK_SECONDS:
        for name in [name for name, works in waited.items() if works()]:
            back[name] = time.monotonic() - mended
            del waited[name]
        time.sleep(0.1)
    return back


def _works(scene: HostStage, load: Load, name: str, mended: float) -> bool:
    """Whether a part has done something that began after the mending."""
    accepted = load.accepted.copy()
    if name == "api":
        return any(at > mended for at in accepted.values())
    if name in WORKERS:
        address = scene.address(name)
        return any(one.sender == address and accepted.get(one.event, 0.0) > mended for one in scene.receiver.arrivals())
    return _swept_at(scene, name) > mended


def _swept_at(scene: HostStage, name: str) -> float:
    """When a pump last swept, by CLOCK_MONOTONIC."""
    with suppress(httpx.TransportError):
        text = httpx.get(
            f"http://{scene.address(name)}:{METRICS_PORT}/metrics", timeout=2, trust_env=False, verify=TRUSTS_NOBODY
        ).text
        if found := LAST_SWEEP.search(text):
            return float(found[1]) - time.time() + time.monotonic()
    return 0.0


def _went_on(arrivals: list[Arrival], cut_off: set[str], began: float, mended: float) -> int:
    return sum(began + SETTLING_SECONDS < one.at < mended and one.sender not in cut_off for one in arrivals)


def _silence(arrivals: list[Arrival], began: float) -> float:
    times = [began, *(one.at for one in arrivals if one.at > began)]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def _strays(scene: HostStage, cut: Cut, arrivals: list[Arrival]) -> int:
    """Deliveries sent more than once without a cut host's doing; where the data is cut off, any may be."""
    if "data" in cut.hosts:
        return 0
    cut_off = {scene.address(host) for host in cut.hosts}
    senders: dict[str, list[str]] = {}
    for one in arrivals:
        senders.setdefault(one.event, []).append(one.sender)
    return sum(len(several) > 1 and not cut_off & set(several) for several in senders.values())
