# What shell programs do: each part prints its name when it has worked.
set -e
[ "$(seq 1000 | sort -rn | head -1)" = 1000 ]; (exit 3) || [ $? = 3 ]
sleep 60 & kill $!; wait $! || [ $? = 143 ]
echo processes
trap 'got=1' USR1; kill -USR1 $$; [ "$got" = 1 ]; ! timeout 0.1 sleep 9
echo signals
mkfifo pipe; echo x > pipe & [ "$(cat pipe)" = x ]; wait
flock lock true; tar cf t.tar pipe lock; find . -name '*.tar' | xargs ls > list; sed -i s/tar/TAR/ list
[ "$(awk '{ print length }' list)" = 7 ]; mktemp > /dev/null
echo files
