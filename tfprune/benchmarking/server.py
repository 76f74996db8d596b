"""The local web server between this process and the page that runs one file in a browser."""

from __future__ import annotations

import functools
import http.server
import json
import pathlib
import queue
import secrets
import sys
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any

_HERE = pathlib.Path(__file__).parent
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}
_POLL = 10.0  # seconds after which a page that waits is told to ask again
_BEAT = 0.3  # seconds between signs of life
GONE = "gone"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the browser drops when it ends."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class PageServer:
    """Serves the page, LiteRT.js, the file and its inputs; carries questions and answers.

    It listens on this machine only, under a path that nobody else knows.

    Args:
        packages: the `node_modules` folder.
        model: bytes of the file.
        inputs: bytes of each input.
    """

    def __init__(self, packages: pathlib.Path, model: bytes, inputs: Sequence[bytes]):
        self.packages, self.model, self.inputs = packages, model, inputs
        self.asks: queue.Queue[dict[str, Any]] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()
        self.outputs: dict[int, bytes] = {}
        self.stopped = threading.Event()
        self.token = secrets.token_urlsafe(12)
        handler = functools.partial(_Handler, self)
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self.token}/page.html"

    def close(self) -> None:
        """Stop serving."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, page: PageServer, *arguments: Any):
        self._page = page
        super().__init__(*arguments)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the default prints every request."""

    def do_GET(self) -> None:
        """Answer what the page asks for."""
        path = self._path()
        if path == "next":
            self._next()
        elif path == "alive":
            self._alive()
        elif path == "model":
            self._send(self._page.model)
        elif path.startswith("input/"):
            self._send(self._page.inputs[int(path.removeprefix("input/"))])
        else:
            self._file(path)

    def do_POST(self) -> None:
        """Take what the page has found."""
        path = self._path()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "answer":
            self._page.answers.put(json.loads(body))
        elif path.startswith("output/"):
            self._page.outputs[int(path.removeprefix("output/"))] = body
        else:
            self.send_error(404)
            return
        self._send(b"")

    def _path(self) -> str:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        start = f"/{self._page.token}/"
        return path.removeprefix(start) if path.startswith(start) else ""

    def _next(self) -> None:
        try:
            ask = self._page.asks.get(timeout=_POLL)
        except queue.Empty:
            ask = {"do": "wait"}
        self._send(json.dumps(ask).encode(), "application/json")

    def _alive(self) -> None:
        self.send_response(200)
        self._isolate("text/event-stream")
        self.end_headers()
        self.close_connection = True
        try:
            while not self._page.stopped.wait(_BEAT):
                self.wfile.write(b":\n\n")
                self.wfile.flush()
        except OSError:
            self._page.answers.put(GONE)

    def _file(self, path: str) -> None:
        root = self._page.packages if path.startswith("node_modules/") else _HERE
        file = root / path.removeprefix("node_modules/")
        inside = file.resolve().is_relative_to(root.resolve())
        if not path or not inside or file.suffix not in _TYPES or not file.is_file():
            self.send_error(404)
            return
        self._send(file.read_bytes(), _TYPES[file.suffix])

    def _send(self, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(200)
        self._isolate(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _isolate(self, kind: str) -> None:
        """Isolate the page: its clock is then fine (5 us, not 100), and threads are allowed."""
        self.send_header("Content-Type", kind)
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-store")
