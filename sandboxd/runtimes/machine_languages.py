"""The built-in runtimes of assemblers and of languages that describe circuits."""

from __future__ import annotations

from .commands import assembled, binary, built, otherwise, when
from .values import Runtime

_MAIN = binary("./main")

_VERILOG_BUILD = """\
set --
for file in ./*.v ./*.sv; do
  [ -f "$file" ] && set -- "$@" "$file"
done
exec iverilog -g2012 -o main.vvp "$@\""""

_VHDL_BUILD = """\
set --
for file in ./*.vhdl ./*.vhd; do
  [ -f "$file" ] && set -- "$@" "$file"
done
ghdl -i --std=08 "$@" && exec ghdl -m --std=08 main"""

MACHINE = (
    Runtime(
        "asm-nasm",
        "Assembly (NASM, x86-64)",
        aliases=("nasm", "asm", "assembly"),
        tools=(("nasm",), ("gcc",)),
        build=assembled("nasm -f elf64", "asm"),
        exec=_MAIN,
        packages=("nasm", "gcc", "libc6-dev"),
    ),
    Runtime(
        "asm-yasm",
        "Assembly (Yasm, x86-64)",
        aliases=("yasm",),
        tools=(("yasm",), ("gcc",)),
        build=assembled("yasm -f elf64", "asm"),
        exec=_MAIN,
        packages=("yasm", "gcc", "libc6-dev"),
    ),
    Runtime(
        "asm-gas",
        "Assembly (GNU as)",
        aliases=("gas", "gnu-as"),
        tools=(("as",), ("gcc",)),
        build=assembled("as", "s"),
        exec=_MAIN,
        packages=("binutils", "gcc", "libc6-dev"),
    ),
    Runtime(
        "llvm-ir",
        "LLVM assembly",
        aliases=("llvm", "llc", "ll"),
        tools=(("llc",), ("gcc",)),
        build=assembled("llc -relocation-model=pic -filetype=obj", "ll"),
        exec=_MAIN,
        packages=("llvm", "gcc", "libc6-dev"),
    ),
    Runtime(
        "verilog",
        "Verilog (Icarus)",
        aliases=("iverilog", "systemverilog"),
        tools=(("iverilog",), ("vvp",)),
        build=built(("main.v", "main.sv"), _VERILOG_BUILD),
        exec=when(["main.vvp"], "exec vvp -n main.vvp") + otherwise("exec", "main.vvp"),
        packages=("iverilog",),
    ),
    Runtime(
        "vhdl",
        "VHDL (GHDL)",
        aliases=("ghdl",),
        tools=(("ghdl",),),
        build=built(("main.vhdl", "main.vhd"), _VHDL_BUILD),
        exec=when(["work-obj08.cf"], "exec ghdl -r --std=08 main")
        + otherwise("exec", "work-obj08.cf"),
        packages=("ghdl",),
    ),
)
