"""Two hosts and a router between them, as network namespaces: 10.77.1.2 - router - 10.77.2.2.

Needs root and iproute2. Forwarding off is a network that swallows everything and tells nobody; a link down is one that
the hosts notice.
"""
import atexit
import ctypes
import os
import socket
import subprocess
import threading

from nodes import Unexpected

CLONE_NEWNET = 0x40000000
INTERFACE = "pl0"

_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments):
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        raise Unexpected("the program ip is missing: install iproute2, or set PLEIAD_NO_NETNS=1") from None
    if done.returncode != 0:
        raise Unexpected(
            f"ip {' '.join(arguments)}: {done.stderr.strip()} (network namespaces need root; PLEIAD_NO_NETNS=1 "
            "leaves these tests out)"
        )


class Namespace:
    def __init__(self, name, address=None):
        self.name = f"pleiad-{os.getpid()}-{name}"
        self.address = address
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments):
        ip("-n", self.name, *arguments)

    def prefix(self):
        """In front of a command that is to run here."""
        return ("ip", "netns", "exec", self.name)

    def flags(self):
        return ["--comm-transports", "tcp", "--comm-interface", INTERFACE]

    def inside(self, work):
        """What `work()` returns, run by a thread of this namespace."""
        out = {}

        def run():
            try:
                with open(f"/run/netns/{self.name}", "rb") as place:
                    if _libc.setns(place.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns {self.name}")
                out["value"] = work()
            except OSError as failure:
                out["failure"] = failure

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if "failure" in out:
            raise out["failure"]
        return out["value"]

    def open_socket(self):
        return self.inside(socket.socket)


class TwoHosts:
    def __init__(self):
        self.namespaces = []
        atexit.register(self.close)
        self.router = self._namespace("router")
        self.hosts = [self._namespace(f"host{i}", f"10.77.{i + 1}.2") for i in range(2)]
        for i, host in enumerate(self.hosts):
            side = self._side(i)
            self.router.ip("link", "add", side, "type", "veth", "peer", "name", INTERFACE, "netns", host.name)
            self.router.ip("address", "add", f"10.77.{i + 1}.1/24", "dev", side)
            self.router.ip("link", "set", side, "up")
            host.ip("address", "add", f"{host.address}/24", "dev", INTERFACE)
            self.plug_in(i)
        self.forward(True)

    def _namespace(self, name, address=None):
        made = Namespace(name, address)
        self.namespaces.append(made)
        return made

    def _side(self, host):
        return f"side{host}"

    def forward(self, on):
        """Whether packets between the hosts arrive. Nobody is told when they do not."""

        def write():
            with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as switch:
                switch.write("1" if on else "0")
            return True

        self.router.inside(write)

    def unplug(self, host):
        self.hosts[host].ip("link", "set", INTERFACE, "down")

    def plug_in(self, host):
        self.hosts[host].ip("link", "set", INTERFACE, "up")
        # A link that was down has lost its route.
        self.hosts[host].ip("route", "replace", "default", "via", f"10.77.{host + 1}.1")

    def close(self):
        for namespace in self.namespaces:
            subprocess.run(["ip", "netns", "del", namespace.name], capture_output=True, check=False)
        self.namespaces = []
