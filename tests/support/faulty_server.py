"""A web server on loopback that misbehaves in the way that the address names.

The address is http://127.0.0.1:PORT/KIND/FILE.
"""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# beside "good", the one that behaves
KINDS = ["missing", "altered", "page", "cut", "loop", "endless", "drip", "stall"]


@contextmanager
def faulty_server(contents: dict[str, bytes]) -> Iterator[str]:
    """Its address. `contents` are the files that it has, by name."""
    stopped = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            _, kind, name = self.path.split("/")
            content = contents[name]
            with suppress(ConnectionError):
                match kind:
                    case "good":
                        self.answer(content)
                    case "altered":  # the right length, but other bytes
                        self.answer(bytes(len(content)))
                    case "page":
                        self.answer(b"<html>Sign in</html>")
                    case "cut":
                        self.answer(content, until=len(content) // 2)
                    case "loop":
                        self.send_response(302)
                        self.send_header("Location", self.path)
                        self.end_headers()
                    case "endless" | "drip" | "stall":
                        self.go_on(kind, content)
                    case _:
                        self.send_error(404)

        def answer(self, body: bytes, until: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:until])

        def go_on(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.end_headers()  # without a length: the body ends when the connection does
            while not stopped.is_set():
                self.wfile.write({"endless": content, "drip": b"x", "stall": b""}[kind])
                time.sleep(0 if kind == "endless" else 0.05)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            stopped.set()
            web.shutdown()
