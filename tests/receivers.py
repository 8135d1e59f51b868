"""Real servers that notifications are sent to: one of HTTP, one of SMTP."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from cli.machine import find_free_port
from tests.services import wait_until


class HookServer:
    """Takes webhooks on 127.0.0.1 and keeps what came: (headers, body).

    Args:
        answers: Status of each answer in turn; the last one goes on. A number below
            100 is a wait in seconds instead, with no answer at all.
        headers: Sent with every answer.
    """

    def __init__(self, *answers, **headers):
        self.got = []
        self._answers = list(answers or [204])
        self._more = headers
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                server.got.append((dict(self.headers), body))
                server.answer(self)

            def log_message(self, *args):
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        # Clients that cut it off are the point of some tests, and no news.
        self._httpd.handle_error = lambda *_: None
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._httpd.server_port}/hook"

    def answer(self, handler):
        """Answers one request."""
        many = len(self._answers) > 1
        status = self._answers.pop(0) if many else self._answers[0]
        if status < 100:
            time.sleep(status)
            return
        text = b"" if status == 204 else f"status {status} it is".encode()
        handler.send_response(status)
        for name, value in self._more.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def wait_for(self, count):
        """Waits until so many webhooks have come; returns them."""
        return wait_until(lambda: len(self.got) >= count and self.got, what="webhooks")

    def close(self):
        """Stops listening."""
        self._httpd.shutdown()
        self._httpd.server_close()


class MailServer:
    """Takes mail on 127.0.0.1 and keeps it: `got` holds envelopes.

    Args:
        name: Of the one who may sign in; None lets everybody send.
        password: Of that name.
        refuse: The answer to every recipient, such as `550 no such user`.
        tls: A server's TLS context, for STARTTLS.
    """

    def __init__(self, *, name=None, password=None, refuse=None, tls=None):
        self.got = []
        server = self

        class Handler:
            async def handle_RCPT(  # noqa: N802 - aiosmtpd's
                self, _server, _session, envelope, address, _options
            ):
                if refuse:
                    return refuse
                envelope.rcpt_tos.append(address)
                return "250 OK"

            async def handle_DATA(self, _server, _session, envelope):  # noqa: N802
                server.got.append(envelope)
                return "250 taken"

        def authenticate(_server, _session, _envelope, _mechanism, data):
            good = (data.login, data.password) == (name.encode(), password.encode())
            return AuthResult(success=good, handled=False)

        self.port = find_free_port("127.0.0.1")
        self._controller = Controller(
            Handler(),
            hostname="127.0.0.1",
            port=self.port,
            tls_context=tls,
            authenticator=authenticate if name else None,
            auth_required=bool(name),
            auth_require_tls=tls is not None,
        )
        self._controller.start()

    def close(self):
        """Stops listening."""
        self._controller.stop()
