"""Package managers and other tools through the broker: none of their settings names it.

All servers are of the suite's own and serve files; the tools verify their TLS with its certificate.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from ...needs import elsewhere, somewhere
from .world import World, run

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")


def profiles(_: World) -> str:
    """One profile for all tools."""
    return """
[network.profiles.packages]
hosts = ["index.example:443", "index.example:80", "*.files.example:443"]
"""


TRUST = {
    "PIP_CERT": "ca.pem", "GIT_SSL_CAINFO": "/home/work/ca.pem",
    "SSL_CERT_FILE": "/home/work/ca.pem", "CARGO_HTTP_CAINFO": "/home/work/ca.pem",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1", "npm_config_cafile": "/home/work/ca.pem",
}  # fmt: skip
"""The certificate of the suite; a server of the world needs none of it."""


def go(http: httpx.Client, network: World, command: str, image: str, **files: str) -> str:
    """The output of a command that must succeed."""
    named = [{"name": name.replace("__", "."), "content": text} for name, text in files.items()]
    ca = {"name": "ca.pem", "content": network.ca.read_text()}
    options = {"environ": TRUST, "limits": {"exec": {"wall_s": 100}}}
    result = run(http, "packages", command, image, files=[ca, *named], options=options)
    assert result.code == 0, result.out + str(result.log)
    assert result.log == []
    return result.out


@pytest.mark.needs("pip3")
def test_pip_installs_from_an_index_and_a_host_of_files(http: httpx.Client, network: World) -> None:
    name = "parcel-1.0-py3-none-any.whl"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        wheel.writestr("parcel.py", "text = 'from the parcel'\n")
        meta = "parcel-1.0.dist-info"
        wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{meta}/WHEEL", tag)
        wheel.writestr(f"{meta}/RECORD", f"parcel.py,,\n{meta}/METADATA,,\n{meta}/WHEEL,,\n")
    (network.www / "simple/parcel").mkdir(parents=True)
    (network.www / name).write_bytes(data.getvalue())
    page = f'<a href="https://a.files.example/{name}">{name}</a>'
    (network.www / "simple/parcel/index.html").write_text(page)
    install = "python3 -m pip install -q --target lib --index-url https://index.example/simple/"
    command = f"{install} parcel && PYTHONPATH=lib python3 -c 'import parcel; print(parcel.text)'"
    assert "from the parcel" in go(http, network, command, "python")


@pytest.mark.needs("npm")
def test_npm_ci_installs_by_its_lock_file(http: httpx.Client, network: World) -> None:
    data = io.BytesIO()
    files = {
        "package.json": '{"name":"parcel","version":"1.0.0"}',
        "index.js": "module.exports = 7",
    }
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    (network.www / "parcel-1.0.0.tgz").write_bytes(data.getvalue())
    url = "https://a.files.example/parcel-1.0.0.tgz"
    own = {"name": "own", "version": "1.0.0", "dependencies": {"parcel": "1.0.0"}}
    lock = {
        "name": "own", "version": "1.0.0", "lockfileVersion": 3,
        "packages": {"": own, "node_modules/parcel": {"version": "1.0.0", "resolved": url}},
    }  # fmt: skip
    out = go(
        http, network,
        "npm ci --registry=https://index.example/ --no-update-notifier --no-audit "
        "--no-fund --loglevel=error && node -p 'require(\"parcel\")'", "nodejs",
        package__json=json.dumps(own), **{"package-lock__json": json.dumps(lock)},
    )  # fmt: skip
    assert out.rstrip().endswith("7")


@pytest.mark.needs("git")
def test_git_clones_over_tls(http: httpx.Client, network: World) -> None:
    source = network.folder / "source"
    source.mkdir()
    (source / "file").write_text("of the repository\n")
    publish(source, network.www / "own.git")
    command = "git clone -q https://index.example/own.git own && cat own/file"
    assert go(http, network, command, "shell") == "of the repository\n"


def publish(source: Path, bare: Path) -> None:
    """Make a repository of the files in `source`, and a copy of it for clients of plain files."""
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example", "GIT_COMMITTER_NAME": "a",
                "GIT_COMMITTER_EMAIL": "a@example", "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip
    for line in ("init -q -b main", "add .", "commit -q -m first"):
        subprocess.run(["git", *line.split()], cwd=source, check=True, env=os.environ | identity)
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(bare)], check=True)
    subprocess.run(["git", "update-server-info"], cwd=bare, check=True)


@pytest.mark.world
@pytest.mark.needs("go")
def test_go_downloads_a_module(http: httpx.Client, network: World) -> None:
    base = network.www / "goproxy/parcel.example/parcel/@v"
    base.mkdir(parents=True)
    (base / "list").write_text("v1.0.0\n")
    (base / "v1.0.0.info").write_text('{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}')
    (base / "v1.0.0.mod").write_text("module parcel.example/parcel\n")
    with zipfile.ZipFile(base / "v1.0.0.zip", "w") as archive:
        top = "parcel.example/parcel@v1.0.0"
        archive.writestr(f"{top}/go.mod", "module parcel.example/parcel\n")
        archive.writestr(f"{top}/parcel.go", 'package parcel\nconst Text = "from the module"\n')
    main = 'package main\nimport "parcel.example/parcel"\nfunc main() { println(parcel.Text) }\n'
    module = "module own\nrequire parcel.example/parcel v1.0.0\n"
    command = (
        "export GOPROXY=https://index.example/goproxy GOFLAGS=-mod=mod "
        "GOSUMDB=off && go mod download && go run ."
    )
    out = go(http, network, command, "go", main__go=main, go__mod=module)
    assert "from the module" in out


@pytest.mark.world
@pytest.mark.needs("cargo")
def test_cargo_builds_with_a_crate_of_a_registry(http: httpx.Client, network: World) -> None:
    data = io.BytesIO()
    texts = {
        "Cargo.toml": '[package]\nname = "parcel"\nversion = "1.0.0"\n',
        "src/lib.rs": 'pub const TEXT: &str = "from the crate";\n',
    }
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"parcel-1.0.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    crate = data.getvalue()
    registry = network.folder / "registry"
    (registry / "pa/rc").mkdir(parents=True)
    (network.www / "crates").mkdir()
    (network.www / "crates/parcel-1.0.0.crate").write_bytes(crate)
    download = "https://a.files.example/crates/{crate}-{version}.crate"
    (registry / "config.json").write_text(json.dumps({"dl": download}))
    entry: dict[str, Any] = {
        "name": "parcel", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False,
        "cksum": hashlib.sha256(crate).hexdigest(),
    }  # fmt: skip
    (registry / "pa/rc/parcel").write_text(json.dumps(entry) + "\n")
    publish(registry, network.www / "registry.git")
    manifest = (
        '[package]\nname = "own"\nversion = "0.1.0"\n[[bin]]\nname = "own"\npath = "main.rs"\n'
        '[dependencies]\nparcel = { version = "1.0.0", registry = "suite" }\n'
    )
    command = (
        "export CARGO_NET_GIT_FETCH_WITH_CLI=true "
        "CARGO_REGISTRIES_SUITE_INDEX=https://index.example/registry.git && cargo build -q && "
        "./target/debug/own"
    )
    main = 'fn main() { println!("{}", parcel::TEXT) }\n'
    out = go(http, network, command, "rust", main__rs=main, Cargo__toml=manifest)
    assert "from the crate" in out


@pytest.mark.needs("apt-get", "dpkg-deb")
def test_apt_downloads_a_package(http: httpx.Client, network: World) -> None:
    tree = network.folder / "deb/DEBIAN"
    tree.mkdir(parents=True)
    fields = {"Package": "parcel", "Version": "1.0", "Architecture": "all", "Maintainer": "a <a@b>",
              "Description": "x"}  # fmt: skip
    control = "".join(f"{key}: {value}\n" for key, value in fields.items())
    (tree / "control").write_text(control)
    pool = network.www / "deb"
    pool.mkdir()
    subprocess.run(
        ["dpkg-deb", "-b", str(tree.parent), str(pool / "parcel.deb")], check=True,
        capture_output=True,
    )  # fmt: skip
    data = (pool / "parcel.deb").read_bytes()
    (pool / "Packages").write_text(
        f"{control}Filename: ./parcel.deb\nSize: {len(data)}\n"
        f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
    )
    dirs = "-o Dir::State=$PWD/state -o Dir::Cache=$PWD/cache -o Dir::Etc::Parts=/none"
    own = "-o Dir::Etc::SourceList=$PWD/list -o Dir::Etc::SourceParts=/none"
    apt = f"apt-get -q -o APT::Sandbox::User= -o Debug::NoLocking=1 {dirs} {own}"
    for scheme in ("http", "https"):
        trust = "-o Acquire::https::CAInfo=$PWD/ca.pem"
        command = (
            f"rm -rf state cache *.deb; mkdir -p state/lists/partial cache/archives/partial; "
            f"echo 'deb [trusted=yes] {scheme}://index.example/deb ./' >list; "
            f"{apt} {trust} update && {apt} {trust} download parcel && ls *.deb"
        )
        assert "parcel_1.0_all.deb" in go(http, network, command, "shell")


@pytest.mark.world
@pytest.mark.needs("mvn", "keytool")
def test_maven_asks_the_proxy(http: httpx.Client, network: World) -> None:
    """A repository of the suite's own over HTTP: Maven needs no key store for it."""
    base = network.www / "maven/own/parcel/1.0"
    base.mkdir(parents=True)
    parcel = (
        "<project><modelVersion>4.0.0</modelVersion><groupId>own</groupId>"
        "<artifactId>parcel</artifactId><version>1.0</version><packaging>pom</packaging></project>"
    )
    (base / "parcel-1.0.pom").write_text(parcel)
    pom = (
        "<project><modelVersion>4.0.0</modelVersion><parent><groupId>own</groupId>"
        "<artifactId>parcel</artifactId><version>1.0</version><relativePath/></parent>"
        "<artifactId>child</artifactId><packaging>pom</packaging><repositories><repository>"
        "<id>suite</id><url>http://index.example/maven</url></repository></repositories></project>"
    )
    settings = "<settings><mirrors><mirror><id>x</id><mirrorOf>none</mirrorOf><url>http://x</url>"
    settings += "</mirror></mirrors></settings>"
    command = "mvn -q -B -gs own.xml -s own.xml validate && echo valid"
    out = go(http, network, command, "java", pom__xml=pom, own__xml=settings)
    assert out.endswith("valid\n")


@pytest.mark.world
@pytest.mark.needs("java")
def test_gradle_asks_the_proxy(http: httpx.Client, network: World) -> None:
    if not somewhere("gradle"):
        elsewhere("the host has no gradle, which scripts/test-world installs")
    base = network.www / "gradle/own/parcel/1.0"
    base.mkdir(parents=True)
    parcel = (
        "<project><modelVersion>4.0.0</modelVersion><groupId>own</groupId>"
        "<artifactId>parcel</artifactId><version>1.0</version></project>"
    )
    (base / "parcel-1.0.pom").write_text(parcel)
    with zipfile.ZipFile(base / "parcel-1.0.jar", "w") as archive:
        archive.writestr("text", "from the jar")
    build = (
        "repositories { maven { url 'http://index.example/gradle' } }\n"
        "configurations { parts }\n"
        "dependencies { parts 'own:parcel:1.0' }\n"
        "task fetch(type: Copy) { from configurations.parts; into 'parts' }\n"
    )
    command = "gradle -q --no-daemon -g $PWD/home fetch && ls parts"
    assert go(http, network, command, "java", build__gradle=build).endswith("parcel-1.0.jar\n")
