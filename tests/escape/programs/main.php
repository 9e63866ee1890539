<?php // What PHP programs do: each part prints its name when it has worked.
function check($condition) { if (!$condition) { exit(1); } }
check((int) shell_exec('echo 2') === 2);
$child = proc_open(['cat'], [['pipe', 'r'], ['pipe', 'w']], $pipes);
fwrite($pipes[0], 'x'); fclose($pipes[0]); check(stream_get_contents($pipes[1]) === 'x');
echo "processes\n";
$server = stream_socket_server('tcp://127.0.0.1:0');
$client = stream_socket_client('tcp://' . stream_socket_get_name($server, false));
fwrite(stream_socket_accept($server), "x\n"); check(fgets($client) === "x\n");
echo "sockets\n";
$file = fopen('f', 'w'); check(flock($file, LOCK_EX)); fwrite($file, 'x'); fclose($file);
check(filesize('f') === 1 && tempnam('/tmp', 'x') !== false);
echo "files\n";
