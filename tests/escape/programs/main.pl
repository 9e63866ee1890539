# What Perl programs do: each part prints its name when it has worked.
use strict; use warnings; use Fcntl qw(:flock); use IO::Select; use IO::Socket::INET; use POSIX ();
$| = 1;
`echo 2` == 2 or die; my $pid = fork; exit 3 if !$pid; waitpid $pid, 0; $? >> 8 == 3 or die;
print "processes\n";
my $got; $SIG{USR1} = sub { $got = shift }; kill USR1 => $$; select undef, undef, undef, 0.01;
$got eq 'USR1' or die; $SIG{ALRM} = sub { die "late\n" }; eval { alarm 1; sleep 9 }; $@ eq "late\n" or die;
print "signals\n";
open my $file, '+>', 'f' or die; flock $file, LOCK_EX or die; print $file "x"; close $file; -s 'f' == 1 or die;
mkdir 'd' or die; rename 'd', 'e' or die; opendir my $dir, '.' or die; (grep { $_ eq 'e' } readdir $dir) or die;
print "files\n";
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die;
my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->sockport) or die;
IO::Select->new($server)->can_read(5) or die; my $peer = $server->accept; print $peer "x\n"; close $peer;
<$client> eq "x\n" or die;
print "sockets\n";
