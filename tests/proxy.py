"""A TCP port in front of a service on a unix socket, failing as networks do."""

import contextlib
import socket
import threading

PIECE_BYTES = 1 << 16


class Proxy:
    """Forwards connections; loses answers when told to.

    Args:
        target: Path of the unix socket to forward to.
    """

    def __init__(self, target):
        self._target = str(target)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.accepted = 0
        self.lost = 0
        self._losing = None
        self._links = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, words):
        """Cuts the connection once, instead of passing the next answer to `words`.

        The service has done by then what it was asked: only nobody hears of it.
        """
        self._losing = words

    def close(self):
        """Cuts every connection and takes no more."""
        # A listening socket wakes its waiting `accept` only when it is shut down.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for link in self._links:
            link.cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.accepted += 1
                self._links.append(_Link(self, client, self._target))

    def takes(self, asked):
        """Whether the answer to what was just asked is to be lost; true once."""
        if self._losing is None or self._losing not in asked:
            return False
        self._losing = None
        self.lost += 1
        return True


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy, client, target):
        self._proxy = proxy
        self._client = client
        self._service = socket.socket(socket.AF_UNIX)
        self._service.connect(target)
        self._losing = False
        for pump in (self._pump_questions, self._pump_answers):
            threading.Thread(target=pump, daemon=True).start()

    def cut(self):
        for end in (self._client, self._service):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump_questions(self):
        with contextlib.suppress(OSError):
            while asked := self._client.recv(PIECE_BYTES):
                self._losing = self._losing or self._proxy.takes(asked)
                self._service.sendall(asked)
        self.cut()

    def _pump_answers(self):
        with contextlib.suppress(OSError):
            while answer := self._service.recv(PIECE_BYTES):
                if self._losing:
                    break
                self._client.sendall(answer)
        self.cut()
