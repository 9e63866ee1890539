"""The network of runs: the hosts of a profile by name, and nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandboxd.shim.broker_socket import PORT

from .programs import python
from .world import World, run

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")

CURL = "curl -sS --cacert ca.pem --max-time 20"


@pytest.fixture
def files(network: World) -> list[dict[str, str]]:
    return [{"name": "ca.pem", "content": network.ca.read_text()}]


@pytest.mark.parametrize(
    "url",
    [
        "http://index.example/hello", "https://index.example/hello", "https://INDEX.example/hello",
        "http://index.example./hello", "https://Index.Example./hello",
        "https://a.files.example/hello", "http://index.example:80/hello",
        "https://index.example:444/hello",
    ],
)  # fmt: skip
def test_host_of_the_profile_is_reached(
    http: httpx.Client, files: list[dict[str, str]], url: str
) -> None:
    result = run(http, "packages", f"{CURL} {url}", files=files)
    assert (result.out, result.code, result.log) == ("hello\n", 0, [])


def test_host_outside_the_profile_is_refused_and_the_log_says_so_once(http: httpx.Client) -> None:
    result = run(http, "packages", "for n in 1 2; do curl -sSf https://other.example; done; false")
    text = "the network refused a connection: other.example:443 is not in profile packages"
    assert result.log == [text]
    assert "403" in result.out
    assert result.advice == f"{text}; name a host of the profile"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://index.example:81/", "index.example:81"),
        ("http://index.example:22/", "index.example:22"),
        ("https://files.example/", "files.example:443"),
        ("https://a.b.files.example/", "a.b.files.example:443"),
        ("https://index.example.other.example/", "index.example.other.example:443"),
        ("http://11.0.0.2/", "11.0.0.2:80"),
        ("http://127.0.0.1:3128/", "127.0.0.1:3128"),
        ("http://localhost:3128/", "localhost:3128"),
        ("http://[::1]:80/", "[::1]:80"),
        ("http://[::ffff:11.0.0.2]:80/", "[::ffff:b00:2]:80"),
    ],
)
def test_target_that_only_resembles_one_of_the_profile_is_refused(
    http: httpx.Client, url: str, target: str
) -> None:
    result = run(http, "packages", f"curl -sSg --noproxy x {url}")
    assert len(result.log) == 1
    assert f"{target} is not in profile packages" in result.log[0].replace(
        "[::ffff:11.0.0.2]", "[::ffff:b00:2]"
    )


@pytest.mark.parametrize(
    "name",
    ["private", "own", "loopback", "metadata", "mapped", "translated", "translated-own"],
)
def test_name_of_an_address_that_is_not_public_is_refused(http: httpx.Client, name: str) -> None:
    result = run(http, "packages", f"curl -sS http://{name}.example/hello")
    assert f"{name}.example:80 has no public address" in result.out
    assert result.log == [
        f"the network refused a connection: {name}.example:80 has no public address"
    ]


def test_private_address_is_reached_if_the_profile_lists_it(http: httpx.Client) -> None:
    result = run(http, "internal", "curl -sS http://listed.example/hello http://10.99.0.2/hello")
    assert (result.out, result.log) == ("hello\nhello\n", [])


def test_host_that_does_not_answer_or_has_no_address_is_no_refusal(http: httpx.Client) -> None:
    urls = "http://far.example:81/ http://nowhere.example/"
    result = run(http, "packages", f"for u in {urls}; do curl -sSi $u; done")
    assert "far.example:81: Connection refused" in result.out
    assert "nowhere.example has no address" in result.out
    assert result.log == []


def test_connection_with_another_name_in_tls_is_refused(
    http: httpx.Client, files: list[dict[str, str]]
) -> None:
    command = f"{CURL} --connect-to other.example:443:index.example:443 https://other.example/hello"
    result = run(http, "packages", command, files=files)
    assert "hello" not in result.out
    assert result.log == [
        "the network refused a connection: index.example:443: the name in the ClientHello is "
        "'other.example'"
    ]


def test_no_name_in_tls_is_refused(http: httpx.Client) -> None:
    connect = f"-proxy 127.0.0.1:{PORT} -connect index.example:443 -noservername"
    result = run(http, "packages", f"openssl s_client {connect} </dev/null")
    assert "the ClientHello has no name" in result.log[0]
    assert "BEGIN CERTIFICATE" not in result.out


def test_second_hello_with_another_name_is_refused(
    http: httpx.Client, files: list[dict[str, str]]
) -> None:
    """The server on 444 asks for a second hello, and would take the name of that one."""
    program = """
import ssl
sock, head = connect(b"index.example:444")
def client(name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    return context.wrap_bio(into, out, server_hostname=name), into, out
def step(tls):
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
tls, into, out = client("index.example")
step(tls)
sock.sendall(out.read())
into.write(sock.recv(65536))
step(tls)
second = out.read()
evil = second.replace(b"index.example", b"other.example")
assert evil != second
sock.sendall(evil)
try:
    print("answer", sock.recv(65536)[:1])
except ConnectionResetError:
    print("reset")
"""
    result = python(http, program)
    assert "the name in the ClientHello is 'other.example'" in result.log[0], result.out


def test_tunnel_without_tls_is_refused(http: httpx.Client) -> None:
    program = """
for text in (b"GET /hello HTTP/1.1\\r\\nHost: other.example\\r\\n\\r\\n", b"SSH-2.0-x\\r\\n"):
    sock, head = connect(b"index.example:443")
    sock.sendall(text)
    print(head, sock.recv(9999))
"""
    result = python(http, program)
    assert "index.example:443: the client does not speak TLS" in result.log[0]
    assert "hello" not in result.out


def test_redirect_to_another_host_is_a_new_request(http: httpx.Client) -> None:
    url = "http://index.example/-/redirect?http://other.example/hello"
    result = run(http, "packages", f"curl -sSL '{url}'")
    assert "other.example:80 is not in profile packages" in result.log[0]
    assert "hello" not in result.out


def test_body_is_sent_whole_in_both_forms(http: httpx.Client) -> None:
    command = (
        "head -c 3000000 /dev/zero >big; curl -sS -T big http://index.example/up; echo; "
        "curl -sS -T - http://index.example/up <big; echo; "
        "curl -sS -H 'Expect: 100-continue' --data-binary @big http://index.example/up"
    )
    assert run(http, "packages", command).out == "3000000\n3000000\n3000000"


def test_session_without_a_profile_has_no_proxy_and_no_way(http: httpx.Client) -> None:
    result = run(
        http, "", f"env | grep -ci proxy; curl -sS -x 127.0.0.1:{PORT} http://index.example"
    )
    assert result.out.startswith("0\n")
    assert "Could" in result.out or "Failed to connect" in result.out


def test_two_sessions_have_their_own_profiles(http: httpx.Client) -> None:
    narrow = {"profile": "packages", "hosts": ["a.files.example:443"]}
    for profile, refused in (("internal", "internal"), (narrow, "packages")):
        result = run(http, profile, "curl -sSI https://index.example/")
        assert f"index.example:443 is not in profile {refused}" in result.log[0]


def test_socket_of_the_broker_is_the_only_change(http: httpx.Client) -> None:
    program = """
import errno, glob
for family, kind, address in (
    (socket.AF_INET, socket.SOCK_DGRAM, ("8.8.8.8", 53)),
    (socket.AF_INET, socket.SOCK_STREAM, ("11.0.0.2", 80)),
    (socket.AF_INET6, socket.SOCK_DGRAM, ("2001:4860:4860::8888", 53)),
):
    with socket.socket(family, kind) as sock:
        sock.settimeout(5)
        try:
            sock.connect(address)
            print("a way to", address)
        except OSError as error:
            print(errno.errorcode[error.errno])
for kind in (socket.SOCK_RAW,):
    try:
        socket.socket(socket.AF_INET, kind, socket.IPPROTO_TCP)
        print("raw")
    except OSError as error:
        print(errno.errorcode[error.errno])
for host in ("127.0.0.1", ""):
    with socket.socket() as sock:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            sock.bind((host, PORT))
            sock.listen()
            print("taken")
        except OSError as error:
            print(errno.errorcode[error.errno])
print(len(open("/proc/net/route").readlines()), [name for _, name in socket.if_nameindex()][0])
print(len(glob.glob("/proc/self/fd/*")))
"""
    lines = python(http, program).out.split("\n")
    assert lines[0] == lines[1] == "ENETUNREACH"
    assert lines[2] in ("ENETUNREACH", "EADDRNOTAVAIL", "EACCES")
    assert lines[3] in ("EPERM", "EACCES")
    assert lines[4:6] == ["EADDRINUSE", "EADDRINUSE"]
    assert lines[6] == "2 lo"


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ("other", 400), ({"profile": "packages", "hosts": ["other.example:443"]}, 400),
        ("closed", 403), ({"profile": "closed", "hosts": ["index.example:80"]}, 403), (7, 400),
    ],
)  # fmt: skip
def test_network_that_is_not_offered_is_refused_at_creation(
    http: httpx.Client, wanted: Any, status: int
) -> None:
    answer = http.post("/session", json={"image": "shell", "config": {"network": wanted}})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_description_says_what_was_granted(http: httpx.Client) -> None:
    network = {"profile": "packages", "hosts": ["INDEX.example:443"]}
    created = http.post("/session", json={"image": "shell", "config": {"network": network}}).json()
    granted = {"profile": "packages", "hosts": ["index.example:443"]}
    session = created["sessionId"]
    assert created["network"] == granted
    assert http.get(f"/session/{session}").json()["sandbox"]["network"] == granted
    assert http.delete(f"/session/{session}").status_code == 200
