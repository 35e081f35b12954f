"""Hosts on one machine: network namespaces on a switch of their own, whose cables can be cut and mended.

Nothing of the machine's own network is touched, and no name is left behind: the kernel takes a namespace down with the
last process that is in it or holds it open.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace, held open by a file descriptor of this process."""

    number: int
    handle: int

    @property
    def address(self) -> str:
        """The only one, but for its own loopback."""
        return f"10.77.0.{self.number}"

    @property
    def link_address(self) -> str:
        """Of the network card."""
        return f"02:00:00:00:00:{self.number:02x}"

    @property
    def port(self) -> str:
        """The switch's end of the cable."""
        return f"port{self.number}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and whatever processes and threads it starts, are on this host until the block ends."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(self.handle)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)


class Network:
    """Hosts by name, each with a cable to the switch."""

    SUBNET = "10.77.0.0/24"

    def __init__(self, names: Sequence[str], stack: ExitStack) -> None:
        self._switch = _new_host(0, stack)
        self.hosts = {name: _new_host(number, stack) for number, name in enumerate(names, start=1)}
        with self._switch.inside():
            _ip("link add name switch type bridge", "link set switch up")
        for host in self.hosts.values():
            self._connect(host)

    def cut(self, name: str) -> None:
        """Let nothing through from now on, either way. Nobody is told: connections hang, and no new one is refused."""
        self._set_port(self.hosts[name], forwarding=False)

    def mend(self, name: str) -> None:
        """Let everything through again."""
        self._set_port(self.hosts[name], forwarding=True)

    def _set_port(self, host: Host, *, forwarding: bool) -> None:
        state = "3" if forwarding else "0"  # BR_STATE_FORWARDING, BR_STATE_DISABLED
        with self._switch.inside():
            _run("bridge", "link", "set", "dev", host.port, "state", state)

    def _connect(self, host: Host) -> None:
        with self._switch.inside():
            there = f"/proc/{os.getpid()}/fd/{host.handle}"
            _ip(
                f"link add {host.port} type veth peer name eth0 address {host.link_address} netns {there}",
                f"link set {host.port} master switch up",
            )
        # Known for good: as on a longer way, who is cut off is not reported as unreachable by the next router.
        others = (other for other in self.hosts.values() if other is not host)
        with host.inside():
            _ip(
                "link set lo up",
                f"address add {host.address}/24 dev eth0",
                "link set eth0 up",
                *(f"neighbour add {one.address} lladdr {one.link_address} dev eth0 nud permanent" for one in others),
            )


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Hosts of these names that reach each other and nothing else. Raises OSError, CalledProcessError without root."""
    with ExitStack() as stack:
        yield Network(names, stack)


@cache
def impossible() -> str | None:
    """Why there can be no such network here, if so."""
    if not shutil.which("ip") or not shutil.which("bridge"):
        return "needs ip and bridge (Debian's iproute2)"
    try:
        with network(("one", "other")) as tried:
            tried.cut("one")
    except (OSError, subprocess.CalledProcessError) as exc:
        return f"needs the right to make network namespaces and bridges (root): {exc}"
    return None


def _new_host(number: int, stack: ExitStack) -> Host:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(_libc.unshare(_NEW_NETWORK))
        try:
            handle = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            _enter(home)
    finally:
        os.close(home)
    stack.callback(os.close, handle)
    return Host(number, handle)


def _enter(handle: int) -> None:
    _check(_libc.setns(handle, _NEW_NETWORK))


def _check(answer: int) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(*lines: str) -> None:
    _run("ip", "-batch", "-", given="\n".join(lines))


def _run(*command: str, given: str = "") -> None:
    subprocess.run(command, input=given.encode(), check=True, capture_output=True)
