"""The endpoint of a command: its address, its certificate, and a server that redirects."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.cli.connection.daemon_socket import find_daemon, running_daemon
from sandboxd.errors import ConfigError, Refused

from .. import needs


class Answers(http.server.BaseHTTPRequestHandler):
    """A server that answers `GET /`, and redirects the rest."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.path == "/" else 302)
        self.send_header("Content-Length", "2")
        self.send_header("Location", "https://elsewhere.example/")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def certificate(tmp_path: Path, server: http.server.HTTPServer) -> Path:
    """The server's, which only itself has signed."""
    if not needs.somewhere("openssl"):
        needs.missing("openssl makes the certificate")
    path, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return path


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOXD_ACCESS_KEY", "AKIA")
    monkeypatch.setenv("SANDBOXD_SECRET_KEY", "secret")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


def test_certificate_that_does_not_verify_is_one_line_with_the_remedy(
    server: http.server.HTTPServer, certificate: Path
) -> None:
    url = f"https://127.0.0.1:{server.server_port}"
    with pytest.raises(ConfigError, match=r"self-signed certificate.*SSL_CERT_FILE") as refusal:
        find_daemon(url)
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith(url)


def test_certificate_of_an_authority_that_the_user_names_is_accepted(
    server: http.server.HTTPServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client = find_daemon(f"https://localhost:{server.server_port}")
    assert client is not None
    client.close()


def test_certificate_of_another_host_is_refused(
    server: http.server.HTTPServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(ConfigError, match=r"not valid for '127\.0\.0\.1'"):
        find_daemon(f"https://127.0.0.1:{server.server_port}")


def test_endpoint_of_the_environment_serves_where_no_socket_is_named(
    server: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("SANDBOXD_ENDPOINT", url)
    client = running_daemon(None)
    assert client.socket == url
    with pytest.raises(Refused, match="redirects to 'https://elsewhere"):
        client.call("GET", "/session/x")
    client.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://127.0.0.1", "is no endpoint"), ("http://", "is no endpoint"),
        ("https://user:password@127.0.0.1", "is no endpoint"),
        ("http://127.0.0.1/prefix", "has no path"), ("http://[::1", "Invalid"),
        ("http://127.0.0.1:1", "no daemon answers"),
    ],
)  # fmt: skip
def test_address_that_is_no_endpoint_is_refused_with_the_reason(address: str, reason: str) -> None:
    for find in (find_daemon, running_daemon):
        with pytest.raises(ConfigError, match=reason):
            find(address)


def test_endpoint_without_keys_is_refused_before_any_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SANDBOXD_ACCESS_KEY")
    monkeypatch.delenv("SANDBOXD_SECRET_KEY")
    with pytest.raises(ConfigError, match="needs a keypair"):
        find_daemon("http://127.0.0.1:1")
