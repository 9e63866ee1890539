#!/bin/sh
# Asks for a name and says what is in the sandbox. Needs nothing but a shell.
set -eu

printf 'Who is asking? '
read -r name || name=nobody
[ -n "$name" ] || name=nobody

echo
echo "Hello, $name. This is what a program in the sandbox finds:"
echo "  user       $(id -un), uid $(id -u), in $(pwd)"
echo "  processes  $(find /proc -maxdepth 1 -name '[0-9]*' | wc -l)"
echo "  network    $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\n' ' ')"
echo "  limits     $(ulimit -n) open files, core files of $(ulimit -c) blocks"
echo "  space      $(df -hP . | awk 'NR == 2 { print $4 }') free"

if [ -w /usr ]; then
    echo "  /usr can be written to, which is wrong" >&2
    exit 1
fi
echo "inventory: done" >&2
