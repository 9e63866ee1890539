"""The servers of the tests of the network: run as a script in a namespace of its own.

    python servers.py ROOT CERTIFICATE KEY ADDRESS...

On each address it serves the files below ROOT over HTTP (80) and TLS (443), and TLS that asks for a
second ClientHello on 444. Some paths are special:

    /-/headers      the headers of the request, as JSON
    /-/redirect     to the URL in the query
    /-/endless      bytes without end
    /-/switch       an answer 101, whatever was asked for
    /-/chunks       a body in chunks: the query has their SIZE and their COUNT
    /-/first        one chunk, and the end of the body after a request for /-/last
    /-/wrong        a chunk that is longer than its size
    POST, PUT       the count of the bytes of the body
"""

from __future__ import annotations

import contextlib
import functools
import json
import ssl
import sys
import threading
import urllib.parse
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LAST = threading.Event()


class Handler(SimpleHTTPRequestHandler):
    """Files, and the special paths."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve a path."""
        path, _, query = self.path.partition("?")
        path = path.rstrip("/")
        if path.startswith("/-/headers"):
            self.answer(json.dumps({key.lower(): value for key, value in self.headers.items()}))
        elif path == "/-/redirect":
            self.send_response(302)
            self.send_header("Location", urllib.parse.unquote(query))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path == "/-/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(65536))
        elif path == "/-/switch":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.wfile.write(b"switched")
            self.close_connection = True
        elif path in ("/-/chunks", "/-/first", "/-/wrong"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.send_chunks(path, query)
        elif path == "/-/last":
            LAST.set()
            self.answer("")
        else:
            super().do_GET()

    def send_chunks(self, path: str, query: str) -> None:
        """Send the body of a path whose answer is in chunks."""
        if path == "/-/chunks":
            size, count = (int(word) for word in query.split(","))
            for number in range(count):
                self.wfile.write(
                    b"%x;n=%d\r\n%b\r\n" % (size, number, bytes([number % 251]) * size)
                )
            self.wfile.write(b"0\r\nX-Count: %d\r\n\r\nbehind" % count)
        elif path == "/-/wrong":
            self.wfile.write(b"5\r\nhello!\r\n0\r\n\r\n")
        else:
            self.wfile.write(b"6\r\nfirst\n\r\n")
            LAST.wait()
            self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        """Count the body, if it comes to its end."""
        with contextlib.suppress(OSError, ValueError):
            self._count()

    def _count(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            count = 0
            while size := int(self.rfile.readline(), 16):
                count += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            count, left = 0, int(self.headers.get("Content-Length", "0"))
            while left and (data := self.rfile.read(min(left, 65536))):
                count, left = count + len(data), left - len(data)
        self.answer(str(count))

    do_PUT = do_POST

    def answer(self, text: str) -> None:
        """Send a text."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class TlsServer(ThreadingHTTPServer):
    """A server whose handshakes wait in threads of their own."""

    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS first."""
        with contextlib.suppress(OSError):
            super().finish_request(
                self.context.wrap_socket(request, server_side=True), client_address
            )


def main() -> None:
    """Serve until the end."""
    root, certificate, key, *addresses = sys.argv[1:]
    handler = functools.partial(Handler, directory=root)
    ThreadingHTTPServer.daemon_threads = True
    for address in addresses:
        servers = [ThreadingHTTPServer((address, 80), handler)]
        for port, curve in ((443, ""), (444, "secp384r1")):
            tls = TlsServer((address, port), handler)
            tls.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.context.load_cert_chain(certificate, key)
            if curve:
                tls.context.set_ecdh_curve(curve)
            servers.append(tls)
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
