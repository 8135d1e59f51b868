"""A TCP port in front of a service, failing as networks do."""

import contextlib
import socket
import threading

PIECE_BYTES = 1 << 16


class Proxy:
    """Forwards connections; loses answers, or everything, when told to.

    Args:
        target: Path of the unix socket to forward to, or (host, port).
    """

    def __init__(self, target):
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.accepted = 0
        self.lost = 0
        self._losing = None
        self._then = lambda: None
        self._passes = threading.Event()
        self._passes.set()
        self._links = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, words, after=b"", then=lambda: None):
        """Cuts the connection once, instead of passing the next answer to `words`.

        The service has done by then what it was asked: only nobody hears of it.

        Args:
            words: What the question holds.
            after: What the same connection must have asked since its last COMMIT.
            then: Called when the answer is lost.
        """
        self._losing = words, after
        self._then = then

    def partition(self):
        """Lets nothing through any more: neither passed nor refused, as a dead link."""
        self._passes.clear()

    def heal(self):
        """Lets everything through again, what was held up first."""
        self._losing = None
        self._passes.set()

    def cut(self):
        """Cuts every connection that there is."""
        links, self._links = self._links, []
        for link in links:
            link.cut()

    def close(self):
        """Cuts every connection and takes no more."""
        self.heal()
        # A listening socket wakes its waiting `accept` only when it is shut down.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def wait_for_passage(self):
        """Returns when something may pass."""
        self._passes.wait()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.accepted += 1
                try:
                    self._links.append(_Link(self, client, self._target))
                except OSError:  # the service is down
                    client.close()

    def tell_lost(self):
        """Does what was to be done once the answer is lost."""
        self._then()

    def takes(self, asked, before):
        """Whether the answer to what was just asked is to be lost; true once.

        Args:
            asked: The question.
            before: What the connection has asked since the last time it matched.
        """
        if self._losing is None:
            return False
        words, after = self._losing
        if words not in asked or after not in before + asked:
            return False
        self._losing = None
        self.lost += 1
        return True


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy, client, target):
        self._proxy = proxy
        self._client = client
        self._service = _connect(target)
        self._losing = False
        for pump in (self._pump_questions, self._pump_answers):
            threading.Thread(target=pump, daemon=True).start()

    def cut(self):
        for end in (self._client, self._service):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump_questions(self):
        before = b""
        with contextlib.suppress(OSError):
            while asked := self._client.recv(PIECE_BYTES):
                self._proxy.wait_for_passage()
                self._losing = self._losing or self._proxy.takes(asked, before)
                before = (
                    b"" if b"COMMIT\0" in asked else (before + asked)[-PIECE_BYTES:]
                )
                self._service.sendall(asked)
        self.cut()

    def _pump_answers(self):
        with contextlib.suppress(OSError):
            while answer := self._service.recv(PIECE_BYTES):
                self._proxy.wait_for_passage()
                if self._losing:
                    self._proxy.tell_lost()
                    break
                self._client.sendall(answer)
        self.cut()


def _connect(target):
    if isinstance(target, tuple):
        return socket.create_connection(target)
    service = socket.socket(socket.AF_UNIX)
    service.connect(str(target))
    return service
