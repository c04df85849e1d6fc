# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rsttrace_global_optspecs
    string join \n sent received p/pid= c/comm= peer= not-peer= host= not-host= peer-port= local-port= port= not-port= 4/ipv4 6/ipv6 netns= cgroup= unit= container= pod= cause= fault= no-benign ignored forwarded= o/output= sink= sink-queue= metrics= metrics-peers= time= color= fold= q/quiet n/numeric summary-interval= summary= group-by= no-summary d/duration= count= transport= buffer-size= user= timeouts= names= config= ready-fd= remember= debug-kernel h/help V/version
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

complete -c rsttrace -n "__fish_rsttrace_needs_command" -s p -l pid -d 'Show only sockets owned by these processes' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s c -l comm -d 'Show only sockets owned by processes of this name (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l peer -d 'Show only these peers or networks, IPv4 or IPv6' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l not-peer -d 'Hide these peers or networks' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l host -d 'Show only peers of these names, as records have them (no look-up in the network); `*` stands for any text' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l not-host -d 'Hide peers of these names' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l peer-port -d 'Show only these ports, ranges or names of services at the peer\'s end' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l local-port -d 'Show only these ports, ranges or names of services at this host\'s end' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l port -d 'Show only these ports, ranges or names of services at either end' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l not-port -d 'Hide these ports, ranges or names of services, at either end' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l netns -d 'Show only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l cgroup -d 'Show only sockets of this cgroup and its descendants, by path' -r -F
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l unit -d 'Show only sockets of these systemd units' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l container -d 'Show only sockets of these containers, by name or by the beginning of the id' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l pod -d 'Show only sockets of these pods, as NAMESPACE/NAME or NAME' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l cause -d 'Show only these causes, by their codes' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l fault -d 'Show only resets that these sides should fix' -r -f -a "local\t'This host'
peer\t'The other end of the connection'
path\t'A device on the path between the two ends'
none\t'Neither side: the reset is harmless'
unknown\t'Not known'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l forwarded -d 'Also show resets that arrive on this interface (with --netns: of that namespace) and are forwarded (repeatable)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s o -l output -d 'Set the output format on standard output' -r -f -a "text\t'One line per reset'
long\t'A block per reset, with evidence and advice'
json\t'One JSON object per line'
json-flat\t'One JSON object per line without objects in it, for tables: `cause`, `peer_port`, …'
none\t'Nothing; for use with --sink or --metrics'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l sink -d 'Also send records to this destination (repeatable): json:PATH, journald, otlp:URL, syslog[:ADDRESS]' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l sink-queue -d 'Set the queue length per sink; records beyond it are dropped and counted' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l metrics -d 'Serve Prometheus metrics on this port of the loopback address, or on this address and port' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l metrics-peers -d 'Set the maximum number of peers with their own time series; others are counted as "other"' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l time -d 'Set the form of times in text (JSON is always UTC)' -r -f -a "local\t'Time of day in the local time zone (TZ); a line with the date where a day begins'
utc\t'Time of day in UTC, likewise'
iso\t'Date, time and offset of the local time zone (RFC 3339)'
elapsed\t'Seconds since the start'
none\t'No time, for a logger that adds its own'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l color -d 'Color text: red is to be fixed on this host, cyan by the peer or on the path, green is harmless' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set, or where `CLICOLOR_FORCE` is'
always\t'Always'
never\t'Never'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l fold -d 'Fold lines of text that are alike, but for the client\'s port and the figures, into one a second with a count' -r -f -a "auto\t'On a terminal, from the sixth line of a kind in a second on'
always\t'From the sixth line of a kind in a second on'
never\t'Never'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l summary-interval -d 'Print a summary at this interval, such as 60s or 5m, and at the end' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l summary -d 'Choose where the summary goes' -r -f -a "auto\t'On standard error; text in a pipe (to a pager) on standard output; JSON has it on both'
stdout\t'On standard output, behind the records'
stderr\t'On standard error: standard output has records alone'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l group-by -d 'Count resets by these fields, in a table in the summary' -r -f -a "process\t'Name of the owner of the socket'
pid\t'PID of the owner'
cause\t'Code of the cause'
fault\t'Side that has something to change'
peer\t'The peer\'s name, or its address where it has none'
peer-port\t'The peer\'s port'
local-port\t'This host\'s port'
server\t'Address and port that the client connected to'
direction\t'Sent or received'
state\t'State of the socket'
container\t'Container of the owner, by name or id'
pod\t'Pod of the owner'
unit\t'Systemd unit of the owner'
netns\t'Network namespace, by inode number'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s d -l duration -d 'Stop after this time, such as 30s or 5m' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l count -d 'Stop after this many records' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l transport -d 'Set the buffer between kernel and user space' -r -f -a "auto\t'BPF ring buffer if it works, otherwise perf ring buffers'
ring\t'BPF ring buffer (Linux 5.8)'
perf\t'perf ring buffers, one per CPU'"
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l buffer-size -d 'Set the size of the kernel buffer (perf: of each CPU\'s), rounded up to a power of two of pages' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l user -d 'Drop to this user, by name or number, after the probes are attached' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l timeouts -d 'Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones' -r -F
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l names -d 'Read names of peers from a TOML file (`"ADDRESS or CIDR" = "name"`); the most specific one wins' -r -F
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l config -d 'Read options from a TOML file (`name = value`); the command line takes precedence' -r -F
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l ready-fd -d 'Write a newline to this file descriptor once every probe is attached' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l remember -d 'Set the number of connections that the kernel side remembers (for tests)' -r
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l sent -d 'Show only resets that this host sends'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l received -d 'Show only resets that this host receives'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s 4 -l ipv4 -d 'Show only IPv4'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s 6 -l ipv6 -d 'Show only IPv6'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l no-benign -d 'Hide harmless resets'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l ignored -d 'Also show incoming resets that the kernel discarded (out of window, half-open, closed, …)'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s q -l quiet -d 'Print only warnings and errors on standard error, such as filters that nothing matches yet: no start lines, no summary'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s n -l numeric -d 'Show numbers in text: no names of ports, users, peers, containers and pods'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l no-summary -d 'Omit the summary at the end'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -l debug-kernel -d 'Print debug messages of the kernel side to standard error'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -s V -l version -d 'Print version'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "doctor" -d 'Check what can be traced on this host and how to fix what cannot'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "explain" -d 'List the causes of resets, or describe one in full'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "check-config" -d 'Validate a file for --config'
complete -c rsttrace -n "__fish_rsttrace_needs_command" -f -a "generate" -d 'Print generated files: man page, shell completions, option block, documentation pages'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand explain" -s h -l help -d 'Print help'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand check-config" -s h -l help -d 'Print help'
complete -c rsttrace -n "__fish_rsttrace_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
