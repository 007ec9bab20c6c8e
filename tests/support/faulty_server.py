"""Run a web server on loopback that misbehaves by address: http://127.0.0.1:PORT/KIND/FILE."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def faulty_server(contents: dict[str, bytes]) -> Iterator[str]:
    """Yield the address of a server with the files `contents`, by name."""
    stopped = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            _, kind, name = self.path.split("/")
            plain = self.headers["Accept-Encoding"] == "identity"  # else a server may pack it
            body = contents[name] if plain else b"packed"
            bodies = {"good": body, "altered": bytes(len(body)), "page": b"<html>Sign in</html>"}
            with suppress(ConnectionError):
                if kind in bodies or kind == "cut":
                    self.respond(200, "Content-Length", len(bodies.get(kind, body)))
                    self.wfile.write(bodies.get(kind, body[: len(body) // 2]))
                elif kind == "loop":
                    self.respond(302, "Location", self.path)
                elif kind in ("endless", "drip", "stall"):
                    self.respond(200, "Content-Type", "application/gzip")  # and no length
                    while not stopped.is_set():
                        self.wfile.write({"endless": body, "drip": b"x", "stall": b""}[kind])
                        time.sleep(0 if kind == "endless" else 0.05)
                else:
                    self.send_error(404)

        def respond(self, status: int, header: str, value: object) -> None:
            self.send_response(status)
            self.send_header(header, str(value))
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            stopped.set()
            web.shutdown()
