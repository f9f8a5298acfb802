# Says what a handler was given, a `key value` a line, on the connection. With `datagram` it takes one datagram and
# answers its sender; with `listener` it accepts one connection, and answers that.
use strict;
use warnings;
use Fcntl;
use Socket;

my $how = $ARGV[0] // "";
my ($out, $from) = (\*STDOUT, undef);
open(my $socket, "+<&=", 0) or die "descriptor 0: $!";
if ($how eq "datagram") {
    $from = recv($socket, my $data, 65536, 0) // die "recv: $!";
} elsif ($how eq "listener") {
    accept(my $client, $socket) or die "accept: $!";
    $out = $client;
}
my $answer = "";
sub say_of { my ($key, $value) = @_; $answer .= "$key $value\n"; }

sub content { open(my $file, "<", $_[0]) or return "?"; local $/; my $text = <$file>; close $file; return $text // ""; }

say_of("arguments", join("|", split(/\0/, content("/proc/self/cmdline"), -1)));
for my $line (split(/\n/, content("/proc/self/status"))) {
    my ($key, $value) = $line =~ /^(\w+):\s*(.*)$/ or next;
    $value =~ s/\s+/ /g;
    say_of($key, $value) if $key =~ /^(Uid|Gid|Groups|Umask|SigBlk|SigIgn|NoNewPrivs|Seccomp)$/;
}
my ($rest) = content("/proc/self/stat") =~ /^.*\) (.*)$/s;
my @stat = split(/ /, $rest);
say_of("session", join(" ", map { $_ == $$ ? "own" : "other" } @stat[2, 3]) . " tty $stat[4]");
say_of("directory", readlink("/proc/self/cwd"));
say_of("environment", join("|", sort map { (split(/=/, $_, 2))[0] } split(/\0/, content("/proc/self/environ"))));

opendir(my $list, "/proc/self/fd") or die;
my (%sockets, @kept);
for my $number (sort { $a <=> $b } grep { /^\d+$/ } readdir($list)) {
    my $link = readlink("/proc/self/fd/$number") // next;
    # What perl and this script have opened themselves.
    next if $link =~ m{probe\.pl$|/proc/};
    next if $how eq "listener" && defined $out && $number == fileno($out);
    my $name = $link =~ /^socket:/ ? "socket " . ($sockets{$link} //= keys(%sockets) + 1) : $link;
    open(my $copy, "<&=", $number) or next;
    my $flags = fcntl($copy, F_GETFL, 0) // 0;
    my $close = fcntl($copy, F_GETFD, 0) // 0;
    say_of("descriptor $number", sprintf("%s %s %s", $name, $flags & O_NONBLOCK ? "nonblocking" : "blocking",
        $close & FD_CLOEXEC ? "closes" : "stays"));
    push(@kept, $copy);
}

sub address {
    my ($packed) = @_;
    return "none" unless defined $packed && length $packed;
    my $family = sockaddr_family($packed);
    if ($family == AF_INET) { my (undef, $ip) = sockaddr_in($packed); return "IPv4 " . inet_ntoa($ip); }
    if ($family == AF_INET6) { my (undef, $ip) = sockaddr_in6($packed); return "IPv6 " . Socket::inet_ntop(AF_INET6, $ip); }
    return "family $family";
}
say_of("local", address(getsockname($socket)));
say_of("peer", address($from // getpeername($socket)));
for my $option (["type", SO_TYPE], ["keepalive", SO_KEEPALIVE], ["linger", SO_LINGER], ["oobinline", SO_OOBINLINE],
    ["listens", 30], ["reuse", SO_REUSEADDR]) {
    my $value = getsockopt($socket, SOL_SOCKET, $option->[1]);
    say_of($option->[0], defined $value ? unpack("i", $value) : "?");
}
if (defined $from) { send($socket, $answer, 0, $from); exit 0; }
select($out);
$| = 1;
print {$out} $answer;
print STDERR "on standard error\n" if $how eq "";
