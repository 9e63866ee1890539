"""A program on a terminal of its own: prompts come before the question, and the rest stays."""

from __future__ import annotations

import pytest

from ..sandbox import Result, Sandbox

C = r"""
#include <stdio.h>
int main(void) {
    int number;
    printf("number? ");
    if (scanf("%d", &number) != 1) return 9;
    printf("twice: %d\n", 2 * number);
    return 0;
}
"""
COMPILED = f"cat > main.c <<'EOF'\n{C}EOF\ngcc -o main main.c"
PERL = """perl -e 'print "number? "; $n = <STDIN>; print "twice: ", 2 * $n, "\\n"'"""
RUBY = """ruby -e 'print "number? "; n = gets.to_i; print "twice: ", 2 * n, "\\n"'"""
AWK = """awk 'BEGIN { printf "number? "; getline n < "-"; print "twice: " 2 * n }'"""
PYTHON = """/usr/bin/python3 -c 'print("number? ", end=""); print("twice:", 2 * int(input()))'"""


def converse(sandbox: Sandbox, command: str, *answers: str | None, **more: object) -> Result:
    return sandbox.run(command, answers=list(answers), interactive=True, **more)


@pytest.mark.parametrize(
    ("program", "build"),
    [
        pytest.param("./main", COMPILED, marks=pytest.mark.needs("gcc"), id="c"),
        pytest.param(PERL, None, marks=pytest.mark.needs("perl"), id="perl"),
        pytest.param(RUBY, None, marks=pytest.mark.needs("ruby"), id="ruby"),
        pytest.param(AWK, None, marks=pytest.mark.needs("awk"), id="awk"),
        pytest.param(PYTHON, None, id="python"),
    ],
)
def test_prompt_is_there_before_the_question(
    sandbox: Sandbox, program: str, build: str | None
) -> None:
    positions = []
    result = sandbox.run(
        program, build=build, answers=["21\n"], interactive=True,
        on_wait=lambda _: positions.append(1), memory=512 << 20,
    )  # fmt: skip
    assert result.stdout == "number? twice: 42\n"
    assert (result.waited, result.exit, result.stderr) == (1, 0, "")
