"""Expectations of programs in a run: interfaces, multicast, and the variables of all runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.jail import network
from sandboxd.shim import environment

from ..sandbox import Sandbox

PYTHON = "exec /usr/bin/python3 - <<'E'\n{}\nE"

INTERFACES = """
import ctypes
class Interface(ctypes.Structure):
    pass
Interface._fields_ = [("next", ctypes.POINTER(Interface)), ("name", ctypes.c_char_p)]
first = ctypes.POINTER(Interface)()
libc = ctypes.CDLL(None, use_errno=True)
print(libc.getifaddrs(ctypes.byref(first)))
names = set()
while first:
    names.add(first.contents.name.decode())
    first = first.contents.next
print("lo" in names)
"""


def test_getifaddrs_lists_the_loopback(sandbox: Sandbox) -> None:
    result = sandbox.run(PYTHON.format(INTERFACES))
    assert result.stdout.split() == ["0", "True"], result.stderr


def test_node_lists_the_loopback(sandbox: Sandbox) -> None:
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    result = sandbox.run("node -p 'os.networkInterfaces().lo[0].address'", memory=2 << 30)
    assert result.stdout == "127.0.0.1\n", result.stderr


MULTICAST = """
import socket, struct
listener = socket.socket(socket.{family}, socket.SOCK_DGRAM)
listener.bind(("", 15353))
listener.settimeout(5)
group = socket.inet_pton(socket.{family}, "{group}")
listener.setsockopt({option}, group + struct.pack("I", 0))
socket.socket(socket.{family}, socket.SOCK_DGRAM).sendto(b"hello", ("{group}", 15353))
print(listener.recv(10).decode())
"""
OPTION_V4, OPTION_V6 = "0, socket.IP_ADD_MEMBERSHIP", "41, socket.IPV6_JOIN_GROUP"
GROUPS = [("AF_INET", "224.0.0.251", OPTION_V4), ("AF_INET6", "ff02::fb", OPTION_V6)]


@pytest.mark.parametrize(("family", "group", "option"), GROUPS)
def test_program_hears_the_multicast_group_that_it_has_joined(
    sandbox: Sandbox, family: str, group: str, option: str
) -> None:
    program = PYTHON.format(MULTICAST.format(family=family, group=group, option=option))
    result = sandbox.run(program)
    assert result.stdout == "hello\n", result.stderr


def test_variables_of_all_runs_can_be_replaced(sandbox: Sandbox) -> None:
    ask = "echo $LSAN_OPTIONS $npm_config_fetch_retries"
    assert sandbox.run(ask).stdout == "detect_leaks=0 0\n"
    own = {"LSAN_OPTIONS": "detect_leaks=1", "npm_config_fetch_retries": "3"}
    assert sandbox.run(ask, environ=own).stdout == "detect_leaks=1 3\n"


def test_python_is_unbuffered_only_where_somebody_may_be_asked(sandbox: Sandbox) -> None:
    ask = "echo [$PYTHONUNBUFFERED]"
    assert sandbox.run(ask, build=ask, clean=ask).stdout == "[]\n[]\n[1]\n"
    assert sandbox.run(ask, stdin=b"").stdout == "[]\n"
    assert sandbox.run(ask, environ={"PYTHONUNBUFFERED": ""}).stdout == "[]\n"


SANITIZED = "echo 'int main(void) { return 0; }' > main.c; gcc -fsanitize=address -o main main.c"


def test_sanitized_program_works_with_sanitizer_options_of_the_project(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    for name in ("ASAN_OPTIONS", "LSAN_OPTIONS"):
        own = {name: "exitcode=9"}
        result = sandbox.run("./main", build=SANITIZED, environ=own)
        assert result.exit == 0, result.stderr
    monkeypatch.setitem(environment.VARIABLES, "LSAN_OPTIONS", "detect_leaks=1")
    assert sandbox.run("./main", build=SANITIZED, environ=own).exit != 0


def test_npm_says_at_once_that_the_registry_has_no_address(sandbox: Sandbox) -> None:
    """With its own retries npm goes on for 70 seconds, longer than the time limit here."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    package = '{"name": "x", "version": "1.0.0", "dependencies": {"left-pad": "1.3.0"}}'
    command = f"echo '{package}' > package.json; npm install"
    result = sandbox.run(command, memory=2 << 30, wall_s=60)
    assert result.verdict["outcome"] == "failure"
    assert "npm error syscall getaddrinfo" in result.stderr
    assert "no network" in result.verdict["advice"]


def test_pip_says_at_once_that_the_index_has_no_address(sandbox: Sandbox) -> None:
    """With its own retries pip needs eight seconds for this, and prints each of them."""
    if not Path("/usr/lib/python3/dist-packages/pip").exists():
        pytest.skip("python3-pip is not installed")
    result = sandbox.run("python3 -m pip download six", memory=1 << 30, wall_s=60)
    assert "No matching distribution found for six" in result.stderr
    assert "Retrying" not in result.stderr


def test_tools_with_a_network_try_again_as_they_do_elsewhere() -> None:
    assert not environment.OFFLINE.keys() & environment.of_step(
        STEP_LIMITS, False, {}, network=True
    )
    assert environment.OFFLINE.keys() <= environment.of_step(STEP_LIMITS, False, {}).keys()


def test_multicast_has_no_route_without_the_route_of_the_jail(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = network._ROUTE.replace(network._GROUPS, bytes([240, 0, 0, 0]))
    monkeypatch.setattr(network, "_ROUTE", route)
    family, group, option = GROUPS[0]
    program = PYTHON.format(MULTICAST.format(family=family, group=group, option=option))
    assert "No such device" in sandbox.run(program).stderr
