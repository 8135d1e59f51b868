"""A real web server of files on 127.0.0.1, failing as such servers do."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files` (path to bytes) and keeps what was asked: (path, headers).

    Args:
        files: What lies where.

    `faults` holds, by path, what is done to the next requests instead, in turn: a
    status, one with headers, `cut` (half of the rest, then the end), `slow` (a byte in
    a while), `long` (announces more than there is), `mute` (no answer), or an address
    to redirect to.
    """

    def __init__(self, files, *, ranges=True):
        self.files = dict(files)
        self.faults = {}
        self.got = []
        self.tag = '"one"'
        self.ended = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.got.append((self.path, dict(self.headers)))
                faults = server.faults.get(self.path.partition("?")[0], [])
                server.answer(self, faults.pop(0) if faults else None, ranges=ranges)

            def log_message(self, *args):
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self._httpd.handle_error = lambda *_: None
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()
        self.port = self._httpd.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def asked(self, path):
        """The headers of every request for a path."""
        return [headers for asked, headers in self.got if asked == path]

    def answer(self, handler, fault, *, ranges):
        """Answers one request."""
        if isinstance(fault, str) and "://" in fault:
            self._head(handler, 302, 0, location=fault)
            return
        if fault == "mute":
            self.ended.wait(30)
            return
        if isinstance(fault, tuple):
            status, headers = fault
            self._head(handler, status, 0, **headers)
            return
        body = self.files.get(handler.path.partition("?")[0])
        if isinstance(fault, int) or body is None:
            self._head(handler, fault if isinstance(fault, int) else 404, 0)
            return
        self._send(handler, body, fault, ranges=ranges)

    def _send(self, handler, body, fault, *, ranges):
        begin, headers = 0, {}
        wanted = handler.headers.get("range")
        if wanted and ranges and handler.headers.get("if-range") == self.tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["content-range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        if ranges:
            headers["etag"] = self.tag
        rest = body[begin:]
        size = len(rest) + (50 if fault == "long" else 0)
        self._head(handler, 206 if begin else 200, size, **headers)
        if fault == "slow":
            for at in range(len(rest)):
                if self.ended.wait(0.1):
                    return
                handler.wfile.write(rest[at : at + 1])
                handler.wfile.flush()
        rest = rest[: len(rest) // 2] if fault == "cut" else rest
        handler.wfile.write(rest)
        if fault in {"cut", "long"}:
            handler.wfile.flush()
            time.sleep(0.05)
            handler.close_connection = True

    def _head(self, handler, status, size, **headers):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(size))
        handler.end_headers()

    def close(self):
        """Stops listening."""
        self.ended.set()
        self._httpd.shutdown()
        self._httpd.server_close()
