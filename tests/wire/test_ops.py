"""The table of the warden's requests: each request, argument, descriptor, reply, and the order."""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack
from typing import Any, get_type_hints

import pytest

from sandboxd.api.processes.warden_client import WardenClient
from sandboxd.config.settings import STEP_LIMITS
from sandboxd.errors import Invalid
from sandboxd.model import STEPS, Attachment, Step, Workspace
from sandboxd.warden.requests.daemon_requests import DaemonRequests
from sandboxd.warden.requests.dispatcher import acts_of
from sandboxd.warden.requests.folder_requests import FolderRequests
from sandboxd.warden.requests.provisioning import Provisioning
from sandboxd.warden.requests.replies import refusal
from sandboxd.warden.requests.run_requests import RunRequests
from sandboxd.warden.requests.slot_requests import SlotRequests
from sandboxd.warden.requests.workspace_requests import WorkspaceRequests
from sandboxd.wire import messages
from sandboxd.wire.kinds import Descriptor
from sandboxd.wire.ops import COMMANDS_MAX, OPS, Op, RequestChecker, check_reply

from ..api.fake_warden import FakeActs
from ..each_case import each_case
from ..wire_values import BAD, FOLDER, SESSION, VALID, steps


@pytest.fixture
def files() -> Iterator[dict[str, int]]:
    """A descriptor of each file type that a message could carry."""
    with ExitStack() as stack:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = {
            "regular": os.memfd_create("x"), "directory": os.open("/", os.O_RDONLY),
            "device": os.open("/dev/null", os.O_RDONLY), "socket": pair[0].fileno(),
        }  # fmt: skip
        fds["pipe"], other = os.pipe()
        stack.callback(messages.close_all, [other, *(fds[k] for k in fds if k != "socket")])
        for end in pair:
            stack.callback(end.close)
        yield fds


def request(op: Op, **changes: Any) -> dict[str, Any]:
    """A good request, but for the `changes`."""
    return {"op": op.name, "id": 1} | {name: VALID[name] for name in op.arguments} | changes


def suited(descriptors: Sequence[Descriptor], files: dict[str, int]) -> list[int]:
    """A descriptor of a type that is allowed for each of `descriptors`."""
    return [
        next(fd for fd in files.values() if os.fstat(fd).st_mode & 0o170000 in descriptor.types)
        for descriptor in descriptors
    ]


def check(message: dict[str, Any], fds: Sequence[int] = ()) -> Any:
    return RequestChecker().check(message, fds)


EVERY_OP = each_case("op", OPS.values())
EVERY_ARGUMENT = each_case("op, name", [(op, name) for op in OPS.values() for name in op.arguments])


@EVERY_OP
def test_good_request_is_accepted_with_all_its_arguments(op: Op, files: dict[str, int]) -> None:
    accepted = check(request(op), suited(op.sends, files))
    assert accepted.op is op
    assert set(accepted.arguments) == {*op.arguments, *(one.name for one in op.sends)}


def test_arguments_are_parsed_into_values_of_the_model() -> None:
    arguments = check(request(OPS["start"])).arguments
    assert arguments["steps"] == tuple(Step(name, "true", STEP_LIMITS) for name in STEPS)
    assert arguments["stdin"] is None
    assert check(request(OPS["lease"], workspace=None)).arguments["workspace"] is None
    arguments = check(request(OPS["adopt"], session=SESSION.upper())).arguments
    assert arguments["workspace"] == Workspace("/srv/ci/x", "src", 1000, 100, "ab")
    assert arguments["session"] == SESSION
    assert arguments["attachments"] == (Attachment(FOLDER, "data", False),)
    assert arguments["runs"] == {1, 2}


@EVERY_ARGUMENT
def test_request_without_one_of_its_arguments_is_refused(op: Op, name: str) -> None:
    message = request(op)
    del message[name]
    with pytest.raises(Invalid, match=f"argument {name} is missing"):
        check(message)


@EVERY_ARGUMENT
def test_request_with_a_bad_argument_is_refused(op: Op, name: str) -> None:
    for value in BAD[name]:
        with pytest.raises(Invalid):
            check(request(op, **{name: value}))


@EVERY_OP
def test_request_with_an_argument_too_many_is_refused(op: Op) -> None:
    for name in {*VALID, "stdin", "path"} - op.arguments.keys():
        with pytest.raises(Invalid, match=f"unknown argument '{name}'"):
            check(request(op, **{name: VALID.get(name)}))


@each_case("name", [None, 7, [], {}, "", "exec", "READY", "__class__", "_release"])
def test_request_that_is_not_in_the_table_is_refused(name: Any) -> None:
    with pytest.raises(Invalid):
        check({"op": name, "id": 1})


@EVERY_OP
def test_request_without_a_number_is_refused(op: Op) -> None:
    ids: tuple[Any, ...] = (None, "1", 1.0, True, -1, 1 << 53, [], {})
    for id in ids:
        with pytest.raises(Invalid, match="whole number"):
            check(request(op, id=id))


@EVERY_OP
def test_request_with_a_descriptor_too_many_is_refused(op: Op, files: dict[str, int]) -> None:
    fds = suited(op.sends, files)
    with pytest.raises(Invalid, match="descriptors"):
        check(request(op), [*fds, files["regular"]])


@each_case("kind", ["directory", "device", "pipe"])
@each_case("terminal", [False, True])
def test_descriptor_that_leads_out_of_a_jail_is_refused(
    files: dict[str, int], kind: str, terminal: bool
) -> None:
    with pytest.raises(Invalid, match="file type"):
        check(request(OPS["start"], terminal=terminal), [files[kind]])


def test_workspace_without_the_connection_of_its_user_is_refused(files: dict[str, int]) -> None:
    for fds in ([], [files["regular"]], [files["directory"]]):
        with pytest.raises(Invalid):
            check(request(OPS["grant"]), fds)


def test_interactive_run_with_a_file_or_a_socket_is_refused(files: dict[str, int]) -> None:
    assert check(request(OPS["start"], interactive=True), []).arguments["stdin"] is None
    for changes, fds in (({}, [files["regular"]]), ({"terminal": True}, [files["socket"]])):
        with pytest.raises(Invalid):
            check(request(OPS["start"], interactive=True, **changes), fds)


def test_terminal_needs_a_socket_and_other_runs_must_have_none(files: dict[str, int]) -> None:
    start, terminal = request(OPS["start"]), request(OPS["start"], terminal=True)
    assert check(start, [files["regular"]]).arguments["stdin"] == files["regular"]
    assert check(terminal, [files["socket"]]).arguments["stdin"] == files["socket"]
    for message, fds in (
        (start, [files["socket"]]), (terminal, [files["regular"]]), (terminal, []),
    ):  # fmt: skip
        with pytest.raises(Invalid):
            check(message, fds)


def test_commands_and_environment_fill_their_room_exactly() -> None:
    """A NUL stands behind each command, and "=" and a NUL in each variable."""
    room = COMMANDS_MAX - len("true\0") * 2 - len("A=b\0") - 1
    last = [*steps()[:2], steps("x" * room)[2]]
    check(request(OPS["start"], steps=last))
    last[2]["command"] += "x"
    with pytest.raises(Invalid, match=str(COMMANDS_MAX + 1)):
        check(request(OPS["start"], steps=last))


@EVERY_OP
def test_request_comes_again_only_where_that_is_allowed(op: Op, files: dict[str, int]) -> None:
    checker, fds = RequestChecker(), suited(op.sends, files)
    checker.check(request(op), fds)
    if not op.once:
        checker.check(request(op), fds)
        return
    with pytest.raises(Invalid, match="not allowed any more"):
        checker.check(request(op), fds)


@EVERY_OP
def test_request_that_belongs_before_another_is_refused_after_it(
    op: Op, files: dict[str, int]
) -> None:
    for name, earlier in OPS.items():
        checker, fds = RequestChecker(), suited(op.sends, files)
        checker.check(request(earlier), suited(earlier.sends, files))
        if op.before == name or (op is earlier and op.once):
            with pytest.raises(Invalid, match="not allowed any more"):
                checker.check(request(op), fds)
        else:
            checker.check(request(op), fds)


def test_sessions_are_adopted_before_the_api_is_ready_and_it_is_ready_once() -> None:
    assert {op.name: op.before for op in OPS.values() if op.before} == {"adopt": "ready"}
    assert [op.name for op in OPS.values() if op.once] == ["ready"]


def test_refused_request_does_not_count_for_the_order() -> None:
    checker = RequestChecker()
    with pytest.raises(Invalid):
        checker.check(request(OPS["ready"], extra=1), ())
    checker.check(request(OPS["adopt"]), ())
    checker.check(request(OPS["ready"]), ())


def reply(op: Op) -> dict[str, Any]:
    return {"id": 1, "ok": True} | {name: VALID[name] for name in op.reply}


@EVERY_OP
def test_reply_has_exactly_the_fields_of_the_table(op: Op, files: dict[str, int]) -> None:
    fds, good = suited(op.returns, files), reply(op)
    assert check_reply(op, good, fds) == {name: VALID[name] for name in op.reply}
    with pytest.raises(Invalid, match="unknown field"):
        check_reply(op, good | {"extra": 1}, fds)
    for name in op.reply:
        with pytest.raises(Invalid, match=f"field {name} is missing"):
            check_reply(op, {key: value for key, value in good.items() if key != name}, fds)
        for value in BAD[name]:
            with pytest.raises(Invalid):
                check_reply(op, good | {name: value}, fds)


@EVERY_OP
def test_reply_has_exactly_the_descriptors_of_the_table(op: Op, files: dict[str, int]) -> None:
    fds, good = suited(op.returns, files), reply(op)
    needed = [fd for one, fd in zip(op.returns, fds, strict=True) if not one.optional]
    check_reply(op, good, needed)
    wrong = [[*fds, files["regular"]], *(fds[:n] for n in range(len(needed)))]
    wrong += [[*fds[:n], files["directory"], *fds[n + 1 :]] for n in range(len(fds))]
    for some in wrong:
        with pytest.raises(Invalid, match="descriptor"):
            check_reply(op, good, some)


def test_run_that_is_not_there_comes_without_descriptors(files: dict[str, int]) -> None:
    op = OPS["follow"]
    assert check_reply(op, reply(op) | {"there": False}, []) == {"there": False}
    with pytest.raises(Invalid, match="descriptors"):
        check_reply(op, reply(op) | {"there": False}, suited(op.returns, files))


WARDEN = (
    DaemonRequests, Provisioning, SlotRequests, RunRequests, FolderRequests, WorkspaceRequests,
)  # fmt: skip


@each_case("subjects", [WARDEN, (FakeActs,)])
@EVERY_OP
def test_act_takes_the_arguments_of_the_table(op: Op, subjects: tuple[type, ...]) -> None:
    act = acts_of(*subjects)[op.name]
    expected = ["self", *(["reply"] if op.later else []), *op.arguments]
    assert list(inspect.signature(act).parameters) == expected + [one.name for one in op.sends]
    hints = get_type_hints(act)
    for name, kind in op.arguments.items():
        parsed = get_type_hints(kind.parse)["return"]
        assert hints[name] == (Set[int] if name == "runs" else parsed)


@EVERY_OP
def test_client_has_a_method_for_each_request(op: Op) -> None:
    assert inspect.iscoroutinefunction(getattr(WardenClient, op.name))


def test_refusal_that_quotes_the_request_fits_a_packet() -> None:
    """Otherwise one request of a compromised api would end the warden."""
    message = request(OPS["lease"], session="\x01" * (messages.PACKET - 300))
    with pytest.raises(Invalid) as refused:
        check(message)
    messages.encode(refusal(refused.value))
