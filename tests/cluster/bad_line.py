"""Two hosts joined by a line of our own making: every packet between them passes through this process, which loses,
repeats, delays, reorders and spoils some.
"""
import atexit
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

from network import INTERFACE, Namespace

TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000


def open_tun(host):
    """The packets of a new interface of that host, as a file."""

    def work():
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", INTERFACE.encode(), IFF_TUN_WITHOUT_HEADER))
        return tun

    return host.inside(work)


class BadLine:
    """`loss`, `repeat`, `spoil` are shares of the packets; delays are seconds, drawn between the two: a wide range
    reorders."""

    def __init__(self, draw):
        self.draw = draw
        self.loss = self.repeat = self.spoil = 0.0
        self.delay = (0.0, 0.0)
        self.passed = 0
        self.hosts = []
        self.tuns = []
        self.ended = threading.Event()
        atexit.register(self.close)
        for i in range(2):
            host = Namespace(f"line{i}", f"10.77.3.{i + 1}")
            self.hosts.append(host)
            self.tuns.append(open_tun(host))
            host.ip("address", "add", f"{host.address}/24", "dev", INTERFACE)
            host.ip("link", "set", INTERFACE, "up")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        waiting = []  # (when it arrives, number, where, packet), the next one first
        while not self.ended.is_set():
            left = waiting[0][0] - time.monotonic() if waiting else 0.05
            readable = select.select(self.tuns, [], [], max(0.0, min(left, 0.05)))[0]
            for tun in readable:
                self._take(waiting, self.tuns[1 - self.tuns.index(tun)], os.read(tun, 1 << 16))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, tun, packet = heapq.heappop(waiting)
                try:
                    os.write(tun, packet)
                except OSError:
                    pass  # the host's queue is full: lost, as on any line

    def _take(self, waiting, to, packet):
        if self.draw.random() < self.loss:
            return
        if self.draw.random() < self.spoil:
            at = self.draw.randrange(len(packet))
            packet = packet[:at] + bytes([packet[at] ^ 0x10]) + packet[at + 1 :]
        for _ in range(2 if self.draw.random() < self.repeat else 1):
            self.passed += 1
            arrival = time.monotonic() + self.draw.uniform(*self.delay)
            heapq.heappush(waiting, (arrival, self.passed, to, packet))

    def close(self):
        if self.ended.is_set():
            return
        self.ended.set()
        self.thread.join()
        for tun in self.tuns:
            os.close(tun)
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)


def worn_line(seed):
    """A line on which TCP works hard."""
    line = BadLine(random.Random(seed))
    line.loss, line.repeat, line.spoil, line.delay = 0.003, 0.005, 0.003, (0.0, 0.002)
    return line
