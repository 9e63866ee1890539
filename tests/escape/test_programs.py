"""The control: ordinary programs of every runtime of this host work under all restrictions."""

from __future__ import annotations

import pytest

from sandboxd.config import Config
from sandboxd.runtimes import load
from sandboxd.warden.requests import Requests

from ..sandbox import lease

C = r"""
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static int value; static volatile sig_atomic_t got;
static void *thread(void *p) { (void)p; value = 42; return NULL; }
static void handler(int n) { got = n; }
int main(void) {
  pthread_t t; pthread_create(&t, NULL, thread, NULL); pthread_join(t, NULL);
  int p[2]; if (pipe(p)) return 1;
  if (fork() == 0) { dup2(p[1], 1); execl("/bin/sh", "sh", "-c", "echo 7", (char *)0); }
  char b[2]; if (read(p[0], b, 1) != 1) return 2; int s; wait(&s);
  signal(SIGUSR1, handler); raise(SIGUSR1);
  int sv[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) return 3;
  if (mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
    return 4;
  int f = open("lock", O_CREAT | O_RDWR, 0644); struct flock l = {.l_type = F_WRLCK};
  if (fcntl(f, F_SETLK, &l)) return 5;
  struct timespec ts; clock_gettime(CLOCK_MONOTONIC, &ts);
  if (system("exit 3") != 3 << 8) return 6;
  printf("%d\n", value + (b[0] == '7') + (got == SIGUSR1)); return 0; }
"""
CPP = r"""
#include <atomic>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <thread>
#include <vector>
int main() { std::atomic<int> n{0}; std::vector<std::thread> all;
  for (int i = 0; i < 8; i++) all.emplace_back([&] { n += 5; });
  for (auto &t : all) t.join();
  try { throw std::runtime_error("x"); } catch (std::exception &) { n += 4; }
  std::ofstream("f") << n; std::ifstream in("f"); int m; in >> m; std::cout << m << std::endl; }
"""
PYTHON = """
import asyncio, concurrent.futures, multiprocessing, os, sqlite3, subprocess, tempfile, threading
def square(n): return n * n
async def main():
    server = await asyncio.start_server(lambda r, w: (w.write(b'1'), w.close()), '127.0.0.1', 0)
    reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())
    return int(await reader.read())
if __name__ == '__main__':
    with concurrent.futures.ThreadPoolExecutor() as pool: a = sum(pool.map(square, range(4)))
    with multiprocessing.get_context('fork').Pool(2) as pool: b = sum(pool.map(square, range(4)))
    c = int(subprocess.run(['sh', '-c', 'echo 14'], capture_output=True).stdout)
    with tempfile.NamedTemporaryFile() as f: db = sqlite3.connect(f.name).execute('select 2')
    print(a + b + c + db.fetchone()[0] + asyncio.run(main()) + 1)
"""
NODE = """
const { execSync } = require('child_process'), fs = require('fs'), net = require('net');
const { Worker } = require('worker_threads'), zlib = require('zlib');
fs.writeFileSync('f', zlib.gzipSync('40'));
const n = Number(zlib.gunzipSync(fs.readFileSync('f'))) + Number(execSync('echo 2'));
const server = net.createServer(c => c.end('1')).listen(0, '127.0.0.1', () =>
  net.connect(server.address().port, '127.0.0.1').on('data', d => {
    server.close();
    new Worker('require("worker_threads").parentPort.postMessage(1)', { eval: true })
      .on('message', m => console.log(n + Number(d) + m)); }));
"""
JAVA = """
import java.nio.file.*; import java.util.concurrent.*; import java.util.stream.*;
public class Main { public static void main(String[] a) throws Exception {
  var pool = Executors.newFixedThreadPool(4);
  int n = pool.submit(() -> IntStream.range(0, 9).parallel().sum()).get(); pool.shutdown();
  Files.writeString(Path.of("f"), "6");
  var p = new ProcessBuilder("sh", "-c", "exit 2").start();
  System.out.println(n + Integer.parseInt(Files.readString(Path.of("f"))) + p.waitFor()); } }
"""
GO = """
package main
import ("fmt"; "net"; "os/exec"; "sync"; "io")
func main() { var w sync.WaitGroup; n := make(chan int, 9)
  for i := 0; i < 8; i++ { w.Add(1); go func() { defer w.Done(); n <- 5 }() }
  w.Wait(); close(n); s := 0; for v := range n { s += v }
  out, err := exec.Command("echo", "3").Output(); if err != nil { panic(err) }
  l, err := net.Listen("tcp", "127.0.0.1:0"); if err != nil { panic(err) }
  go func() { c, _ := l.Accept(); c.Write([]byte("x")); c.Close() }()
  c, err := net.Dial("tcp", l.Addr().String()); if err != nil { panic(err) }
  b, _ := io.ReadAll(c); fmt.Println(s + int(out[0]-'0') + len(b)) }
"""
RUST = """
use std::{fs, process::Command, sync::mpsc, thread};
fn main() { let (tx, rx) = mpsc::channel();
  for _ in 0..8 { let tx = tx.clone(); thread::spawn(move || tx.send(5).unwrap()); } drop(tx);
  fs::write("f", "2").unwrap(); let f: i32 = fs::read_to_string("f").unwrap().parse().unwrap();
  let s = Command::new("sh").args(["-c", "exit 2"]).status().unwrap().code().unwrap();
  println!("{}", rx.iter().sum::<i32>() + f + s); }
"""
PROGRAMS: dict[str, tuple[str, str, int]] = {
    # runtime -> file, text, what it prints
    "c": ("main.c", C, 44),
    "cpp": ("main.cpp", CPP, 44),
    "python": ("main.py", PYTHON, 46),
    "nodejs": ("main.js", NODE, 44),
    "java": ("Main.java", JAVA, 44),
    "golang": ("main.go", GO, 44),
    "rust": ("main.rs", RUST, 44),
    "perl": ("main.pl", 'my $x = `echo 2`; fork or exit; wait; print 42 + $x, "\\n";', 44),
    "ruby": (
        "main.rb",
        "puts [20, 22].map { |n| Thread.new { n } }.sum(&:value) + `echo 2`.to_i",
        44,
    ),
    "lua": ("main.lua", "print(42 + tonumber(io.popen('echo 2'):read()))", 44),
    "php": ("main.php", "<?php echo 42 + (int)shell_exec('echo 2'), PHP_EOL;", 44),
    "shell": ("main.sh", "echo $(( $(echo 42 | cat) + 2 ))", 44),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_of_each_runtime_is_built_and_works(requests: Requests, name: str) -> None:
    runtimes = load(Config())
    told = next(r for r in runtimes.describe() if r.name == name)
    if not told.available:
        pytest.skip(told.reason)  # the runtime is then not offered either
    runtime = runtimes.resolve(name)
    file, text, expected = PROGRAMS[name]
    sandbox = lease(requests, size=1 << 30, inodes=65536)
    try:
        result = sandbox.run(
            runtime.exec,
            clean=f"cat > {file} <<'PROGRAM'\n{text}\nPROGRAM\n",
            build=runtime.build or None,
            environ=dict(runtime.environ),
            memory=2 << 30, pids=256, cpus=2, wall_s=120,
        )  # fmt: skip
    finally:
        requests.free(sandbox.slot)
    assert (result.stdout.strip(), result.exit) == (str(expected), 0), result.stderr
