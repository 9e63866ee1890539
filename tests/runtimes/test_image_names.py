"""The names of images that clients send, and the runtime of each."""

from __future__ import annotations

import os

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.config.settings import Config, RuntimeConfig
from sandboxd.errors import Invalid, NotFound
from sandboxd.runtimes import Runtimes, load
from sandboxd.runtimes.builtin import BUILTIN

from ..each_case import each_case
from .tree import Tree

CONFIG = Config(runtimes={"odd": RuntimeConfig(aliases=("CR.example:5000/Odd:1",), exec="./odd")})


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> Runtimes:
    """Every built-in runtime, on a host that has the tools."""
    tree = Tree(tmp_path_factory.mktemp("host"))
    tree.add({os.path.join("/usr/bin", names[0]): 0o755 for r in BUILTIN for names in r.tools})
    return load(CONFIG, root=tree.root, daemon_path="")


@each_case(
    ("image", "name"),
    [
        ("c", "c"),
        ("gcc", "c"),
        ("gcc:latest", "c"),
        ("GCC:Latest", "c"),
        ("c++", "cpp"),
        ("python", "python"),
        ("python:3.6-ubuntu18.04", "python"),
        ("index.docker.io/lablup/python:3.6", "python"),
        ("cr.backend.ai/stable/python:3.9-ubuntu20.04", "python"),
        ("localhost:5000/python", "python"),
        ("localhost:5000/team/python:3", "python"),
        ("lablup/kernel-python", "python"),
        ("lablup/python-tensorflow:1.12-py36", "python"),
        ("lua:5.3-alpine3.8", "lua"),
        ("golang:1.9-alpine3.8", "golang"),
        ("go", "golang"),
        ("nodejs:8-alpine3.8", "nodejs"),
        (f"library/rust@sha256:{'0' * 64}", "rust"),
        (f"library/rust:1.63@sha256:{'0' * 64}", "rust"),
        ("odd", "odd"),
        ("cr.example:5000/odd:1", "odd"),
    ],
)
def test_what_clients_send_names_a_runtime(runtimes: Runtimes, image: str, name: str) -> None:
    assert runtimes.resolve(image).name == name


def test_an_exact_alias_wins_over_the_name_in_a_reference(tree: Tree) -> None:
    tree.add({"/usr/bin/gcc": 0o755})
    config = Config(runtimes={"old": RuntimeConfig(aliases=("gcc:4",), exec="./main")})
    runtimes = load(config, root=tree.root, daemon_path="")
    assert runtimes.resolve("gcc:4").name == "old"
    assert runtimes.resolve("gcc:5").name == "c"


@each_case("image", ["", ":latest", "registry/", "c/", "@sha256:0", "a" * 513, "c\n", "\0"])
def test_a_text_that_is_no_reference_is_invalid(runtimes: Runtimes, image: str) -> None:
    with pytest.raises(Invalid):
        runtimes.resolve(image)


@each_case("image", ["fsharp", "python2000", "pytho", "gcc latest", "a" * 512])
def test_an_unknown_name_is_not_found_and_the_known_ones_are_listed(
    runtimes: Runtimes, image: str
) -> None:
    with pytest.raises(NotFound) as caught:
        runtimes.resolve(image)
    assert caught.value.kind == "environment image"
    assert caught.value.data["available"] == [*(r.name for r in BUILTIN), "odd"]
    assert "golang" in str(caught.value)


WORDS = st.sampled_from(["", "python", "gcc", "kernel-", "/", ":", "@", "é", "\n", "\ud800", " "])


@hypothesis.given(st.text() | st.lists(WORDS).map("".join))
def test_no_text_does_worse_than_being_refused(runtimes: Runtimes, image: str) -> None:
    try:
        runtime = runtimes.resolve(image)
    except (Invalid, NotFound) as error:
        assert str(error)
    else:
        assert runtime in [runtimes.resolve(one.name) for one in runtimes.describe()]
