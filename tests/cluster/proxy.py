"""A TCP proxy that treats what passes as a bad network would."""
import socket
import threading
import time


class Proxy:
    """Listens at a free port and passes on to `port`. How is set at any time, for what passes from then on."""

    def __init__(self, port):
        self.port_behind = port
        self.pause = 0.0  # seconds before each piece
        self.piece = 1 << 16  # bytes of a piece at most
        self.cuts = []  # for each connection to come: the number of bytes after which it is cut
        self.spoil_next = False  # change a byte of the next piece
        self.flowing = threading.Event()  # cleared: bytes are held back
        self.flowing.set()
        self.connections = 0
        self.lock = threading.Lock()
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                front, _ = self.listener.accept()
                back = socket.create_connection(("127.0.0.1", self.port_behind), 5)
            except OSError:
                if self.listener.fileno() < 0:
                    return
                front.close()  # nobody is behind
                continue
            back.settimeout(None)
            with self.lock:
                self.connections += 1
                budget = [self.cuts.pop(0) if self.cuts else None]
                self.open += [front, back]
            for one in (front, back):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Either thread may cut both ends at once: nothing is touched here from the first start on.
            for one, other in ((front, back), (back, front)):
                threading.Thread(target=self._pass_on, args=(one, other, budget), daemon=True).start()

    def _pass_on(self, source, target, budget):
        try:
            while data := source.recv(1 << 16):
                for at in range(0, len(data), self.piece):
                    self._send(target, data[at : at + self.piece], budget)
        except OSError:
            pass
        for one in (source, target):
            self._cut(one)

    def _send(self, target, piece, budget):
        if self.pause:
            time.sleep(self.pause)
        self.flowing.wait()
        with self.lock:
            if self.spoil_next:
                self.spoil_next = False
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            if budget[0] is not None:
                piece = piece[: budget[0]]
                budget[0] -= len(piece)
        target.sendall(piece)
        if budget[0] == 0:
            raise OSError("cut")

    @staticmethod
    def _cut(one):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()

    def cut_all(self):
        """Ends all connections at once."""
        with self.lock:
            gone, self.open = self.open, []
        for one in gone:
            self._cut(one)

    def close(self):
        self.listener.close()
        self.flowing.set()
        self.cut_all()
