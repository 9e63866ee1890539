"""The rule which commands need no shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from sandboxd.shim.plain_command import LENGTH_MAX, OWN, SHELL, argv, executable

from ..each_case import each_case


@each_case(
    ("command", "expected"),
    [
        ("./main", ["./main"]),
        ("  python3 -u\tmain.py --n=5 a:b,c@d%e+f \n", ["python3", "-u", "main.py", "--n=5",
                                                        "a:b,c@d%e+f"]),
        ("env A=1 ./x", ["env", "A=1", "./x"]),
    ],
)  # fmt: skip
def test_plain_command_is_its_argv(command: str, expected: list[str]) -> None:
    assert argv(SHELL, command, {"HOME": "/home/work"}) == expected


@each_case(
    "command",
    [
        "", " ", "A=1 ./x", "./x; ./y", "./x | ./y", "./x &", "./x > f", "./x < f", "./x 2>&1",
        "./x $A", "./x `y`", "./x *", "./x ?", "./x [a]", "./x ~", "./x ~/f", "./x a=~", "'./x'",
        '"./x"', "./x \\y", "./x {a,b}", "./x #", "./x !1", "./x\n./y", "(./x)", "./x ^y", "~/x",
        "x=~/y", "./x é", "%1", "./x\r", "./x\0", "echo", "echo a", "cd /", "exec ./x",
        "if", "time ./x", ". ./f", "true", "test -f f", "x" * (LENGTH_MAX + 1),
    ],
)  # fmt: skip
def test_command_with_anything_of_the_shell_is_left_to_it(command: str) -> None:
    assert argv(SHELL, command, {}) == []


@each_case("name", ["BASH_ENV", "BASH_FUNC_ls%%", "SHELLOPTS", "PWD", "SHLVL", "_", "ENV"])
def test_variable_that_the_shell_reads_or_changes_leaves_the_command_to_it(name: str) -> None:
    assert argv(SHELL, "./x", {name: "1"}) == []


def test_command_of_another_shell_is_left_to_it() -> None:
    assert argv("/bin/sh", "./x", {}) == []


def test_each_word_of_the_shells_own_is_known() -> None:
    listed = subprocess.run([SHELL, "-c", "compgen -bk"], check=True, capture_output=True)
    plain = {word for word in listed.stdout.decode().split() if argv(SHELL, word, {})}
    assert plain == set()
    assert {word for word in OWN if argv(SHELL, word, {})} == set()


ALPHABET = "ab.1/_-+:,@%=~{}[]()$`'\"\\|&;<>*?#! \t\n^é"


@hypothesis.given(st.lists(st.text(ALPHABET, min_size=1, max_size=6), min_size=1, max_size=3))
def test_words_are_those_that_the_shell_passes_on(parts: list[str]) -> None:
    """The shell prints the words, and nothing else happens."""
    command = "./print-words " + " ".join(parts)
    if expected := argv(SHELL, command, {}):
        function = 'command_not_found_handle() { printf "%s\\n" "$@"; }; '
        text = function + command.replace("./print-words", "print-words", 1)
        shell = subprocess.run([SHELL, "-c", text], check=True, capture_output=True, env={})
        assert shell.stdout.decode().split("\n")[1:-1] == expected[1:]


def test_executable_is_the_first_program_of_the_path(tmp_path: Path) -> None:
    for name, mode in {"a/x": 0o644, "b/x": 0o755, "c/x": 0o755, "a/d": 0o755}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if name == "a/d":
            path.mkdir()
        else:
            path.touch()
        path.chmod(mode)
    environ = {"PATH": ":".join(str(tmp_path / name) for name in "abc")}
    assert executable("x", environ) == str(tmp_path / "b" / "x")
    assert executable("d", environ) == executable("y", environ) == ""
    assert executable("./y", environ) == "./y"


@each_case("path", ["", ".", "bin", ":/bin"])
def test_path_from_the_working_directory_is_left_to_the_shell(path: str) -> None:
    assert executable("sh", {"PATH": path}) == ""


def test_without_a_path_the_shell_takes_its_own() -> None:
    assert executable("sh", {}) == ""
