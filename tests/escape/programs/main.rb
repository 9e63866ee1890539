# What Ruby programs do: each part prints its name when it has worked.
require 'socket'
raise unless [20, 22].map { |n| Thread.new { n } }.sum(&:value) == 42
puts 'threads'
raise unless `echo 2`.to_i == 2 && fork { exit 3 } && Process.wait2[1].exitstatus == 3
puts 'processes'
server = TCPServer.new('127.0.0.1', 0)
client = TCPSocket.new('127.0.0.1', server.addr[1])
server.accept.tap { |peer| peer.puts 'x' }.close
raise unless client.gets == "x\n"
puts 'sockets'
File.open('f', 'w') { |file| file.flock(File::LOCK_EX); file << 'x' }
raise unless File.size('f') == 1
puts 'files'
