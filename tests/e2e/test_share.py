"""Programs that size themselves by the limits of their session, and say nothing about it."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from .daemon import run

Make = Callable[..., str]

HEAP = """
public class Main {
    public static void main(String[] a) {
        System.out.println(Runtime.getRuntime().maxMemory() >> 20);
        System.out.println(Runtime.getRuntime().availableProcessors());
    }
}
"""


def output(http: httpx.Client, id: str, command: str, memory: str = "512m") -> list[str]:
    limits = {"mem": memory, "cpus": 1, "wall_s": 600}
    options = {"exec": command, "limits": {"exec": limits}}
    outcome = run(http, id, options)
    assert outcome.text("stderr") == ""
    return outcome.text("stdout").split()


@pytest.mark.needs("javac", "java")
def test_java_sizes_its_heap_by_the_limit_of_memory(http: httpx.Client, session: Make) -> None:
    source = f"cat > Main.java <<'E'\n{HEAP}\nE\njavac Main.java 2>&1; java Main"
    heap, processors = output(http, session(), source)
    assert 100 < int(heap) <= 256, "a part of 512 MiB, whatever the host has"
    assert processors == "1"


@pytest.mark.needs("java", "javac")
def test_java_collects_garbage_within_the_limit(http: httpx.Client, session: Make) -> None:
    source = """cat > Main.java <<'E'
public class Main {
    public static void main(String[] a) {
        long sum = 0;
        byte[][] live = new byte[60][];
        for (int i = 0; i < 4000; i++) {
            live[i % live.length] = new byte[1 << 20];
            sum += live[i % live.length].length;
        }
        System.out.println(sum);
    }
}
E
javac Main.java && exec java Main"""
    assert output(http, session(), source) == [str(4000 << 20)]


@pytest.mark.needs("node")
@pytest.mark.parametrize("memory", ["64m", "128m", "256m", "512m"])
def test_node_sizes_its_heap_by_the_limit_of_memory(
    http: httpx.Client, session: Make, memory: str
) -> None:
    ask = "node -p 'require(\"v8\").getHeapStatistics().heap_size_limit / 2 ** 20'"
    (heap,) = output(http, session(), ask, memory)
    assert float(heap) < int(memory.removesuffix("m"))


GO = """
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

func main() {
	fmt.Println(runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1)>>20)
}
"""


@pytest.mark.needs("go")
def test_go_sizes_its_threads_and_heap_by_the_limits(http: httpx.Client, session: Make) -> None:
    id = session()
    build = f"cat > main.go <<'E'\n{GO}\nE\nGOCACHE=/tmp/cache go build -o main main.go"
    assert output(http, id, build, "1g") == []
    assert output(http, id, "./main", "256m") == ["1", "230"]
    assert output(http, id, "./main", "512m") == ["1", "460"]


def test_pools_of_python_have_the_size_of_the_share(http: httpx.Client, session: Make) -> None:
    source = """cat > pools.py <<'E'
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
with multiprocessing.Pool() as pool:
    print(len(pool._pool), *pool.map(abs, [-3]))
print(ProcessPoolExecutor()._max_workers)
E
/usr/bin/python3 pools.py"""
    assert output(http, session(), source) == ["1", "3", "1"]


@pytest.mark.needs("lscpu", "nproc", "getconf")
def test_tools_say_the_share_of_cpus(http: httpx.Client, session: Make) -> None:
    ask = "nproc; getconf _NPROCESSORS_ONLN; lscpu | sed -n 's/^CPU(s): *//p'"
    assert output(http, session(), ask) == ["1", "1", "1"]
    python = "/usr/bin/python3 -c 'import os; print(os.cpu_count())'"
    assert output(http, session(), python) == ["1"]
    assert output(http, session(), "grep -c ^processor /proc/cpuinfo") == ["1"]


def test_variables_of_the_user_win(http: httpx.Client, session: Make) -> None:
    id = session(environ={"OMP_NUM_THREADS": "7"})
    assert output(http, id, "echo $OMP_NUM_THREADS $GOMAXPROCS $GOMEMLIMIT", "100m") == [
        "7", "1", str(90 << 20),
    ]  # fmt: skip


@pytest.mark.parametrize("other", ["16m", "300m"])
def test_limit_in_the_cgroup_is_that_of_the_step(
    http: httpx.Client, session: Make, other: str
) -> None:
    ask = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null"
    size = int(other.removesuffix("m")) << 20
    assert output(http, session(), f"{ask}; :", other) == [str(size)]
