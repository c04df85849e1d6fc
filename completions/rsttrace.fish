# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rsttrace_global_optspecs
    string join \n sent received p/pid= c/comm= peer= peer-port= local-port= port= 4/ipv4 6/ipv6 netns= cgroup= cause= fault= no-benign ignored forwarded= o/output= sink= sink-queue= metrics= metrics-peers= time= n/numeric summary-interval= no-summary d/duration= count= transport= buffer-size= user= timeouts= config= ready-fd= remember= debug-kernel h/help V/version
end

function __fish_rsttrace_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rsttrace_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rsttrace_using_subcommand
    set -l cmd (__fish_rsttrace_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rsttrace -n "__fish_rsttrace_needs_command" -s p -l pid -d 'Only sockets owned by this process (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s c -l comm -d 'Only sockets owned by processes of this name (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l peer -d 'Only this peer or network, IPv4 or IPv6 (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l peer-port -d 'Only this port of the peer\'s end (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l local-port -d 'Only this port of our end (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l port -d 'Only this port, at either end (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l netns -d 'Only this network namespace, by a path such as /run/netns/blue or by inode number' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l cgroup -d 'Only sockets of this cgroup and those below it, by its path' -r -F
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l cause -d 'Only this cause, by its code (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l fault -d 'Only resets that these have something to change about' -r -f -a "local\t'This host'
peer\t'The other end of the connection'
path\t'A device on the path between the two ends'
none\t'Neither side: the reset is harmless'
unknown\t'Not known'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l forwarded -d 'Also resets that this host forwards, coming in by this interface (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s o -l output -d 'One line a reset, a block a reset, one JSON object a line, or nothing' -r -f -a "text\t'One line'
long\t'A block to paste into a ticket'
json\t'One JSON object a line'
none\t'Nothing, for a run that has sinks'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l sink -d 'Additional destination for records, beside standard output (repeatable): json:PATH, journald, otlp:URL, syslog[:ADDRESS]' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l sink-queue -d 'Records that may wait for a slow sink before some are not delivered to it' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l metrics -d 'Serve counts to Prometheus at this port of the loopback address, or at this address and port' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l metrics-peers -d 'Peers that have a series of their own; the rest is "other"' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l time -d 'How to show times in text (JSON is always UTC)' -r -f -a "local\t'Time of day in the local zone'
utc\t'Time of day in UTC'
elapsed\t'Seconds since the start'
none\t'None, where the reader of the output adds them'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l summary-interval -d 'A summary every so often, such as 60s or 5m, not only at the end' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s d -l duration -d 'Stop after this time, such as 30s or 5m' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l count -d 'Stop after this many records' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l transport -d 'How the kernel hands events over: BPF ring buffer, perf ring buffer, or the better one that works' -r -f -a "auto\t'The BPF ring buffer where the kernel has it, else the perf ring buffer'
ring\t'BPF ring buffer (Linux 5.8)'
perf\t'perf ring buffer'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l buffer-size -d 'Size of the buffer in the kernel (perf: of each CPU\'s), rounded up to a power of two of pages' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l user -d 'Go on as this user, by name or number, once everything is attached' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l timeouts -d 'Known idle timeouts to add to those of the program, or to replace some, in TOML' -r -F
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l config -d 'Read flags from this file: TOML, `name = value`, of the same names; the command line goes first' -r -F
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l ready-fd -d 'Write one newline to this descriptor once every probe is attached' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l remember -d 'Connections that the kernel side remembers, for tests of what happens when there are more' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l sent -d 'Only resets that this host sends'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l received -d 'Only resets that this host receives'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s 4 -l ipv4 -d 'Only IPv4'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s 6 -l ipv6 -d 'Only IPv6'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l no-benign -d 'Leave out what is harmless'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l ignored -d 'Also resets that arrive and are ignored: out of window, for a half-open or ended connection, …'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s n -l numeric -d 'Look up no names: ports and users stay numbers'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l no-summary -d 'No summary at the end'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l debug-kernel -d 'Print the kernel side\'s own debug messages to standard error'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s V -l version -d 'Print version'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "doctor" -d 'Say what this host lets us see, what we lose, and the remedy'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "explain" -d 'Describe the causes of resets; one cause in full'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "check-config" -d 'Check a file for --config; its errors have line and column'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "generate" -d 'Print what is made from the program: man page, shell completions, option block'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand explain" -s h -l help -d 'Print help'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand check-config" -s h -l help -d 'Print help'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
