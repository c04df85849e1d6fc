set -g __rsttrace_commands doctor explain record replay report top join export check-config

complete -c rsttrace -f
complete -c rsttrace -n __rsttrace_is_first -a doctor -d 'Check what can be traced on this host and how to fix what cannot'
complete -c rsttrace -n __rsttrace_is_first -a explain -d 'List the causes of resets, or describe one in full'
complete -c rsttrace -n __rsttrace_is_first -a record -d 'Record resets in files of bounded size and age, for \'rsttrace replay\''
complete -c rsttrace -n __rsttrace_is_first -a replay -d 'Print what was recorded, or what a packet capture shows, as a live run prints it; needs no privileges'
complete -c rsttrace -n __rsttrace_is_first -a report -d 'Write a page with verdict, plots and incidents of what was recorded'
complete -c rsttrace -n __rsttrace_is_first -a top -d 'Show causes, peers, processes and incidents on the terminal, live or of what was recorded'
complete -c rsttrace -n __rsttrace_is_first -a join -d 'Tell who really sent a reset, by the recordings or captures of both ends'
complete -c rsttrace -n __rsttrace_is_first -a export -d 'Write what was recorded for other tools (CSV, pcapng), or to hand it on without names and addresses'
complete -c rsttrace -n __rsttrace_is_first -a check-config -d 'Validate a file for --config'
complete -c rsttrace -n '__rsttrace_is ' -l sent -d 'Show only resets that this host sends'
complete -c rsttrace -n '__rsttrace_is ' -l received -d 'Show only resets that this host receives (live: without the sender where that is on this host too)'
complete -c rsttrace -n '__rsttrace_is ' -s p -l pid -d 'Show only sockets owned by these processes' -x -a '(__fish_complete_list , __rsttrace_pids)'
complete -c rsttrace -n '__rsttrace_is ' -s c -l comm -d 'Show only sockets owned by processes of these names' -x -a '(__fish_complete_list , __rsttrace_comms)'
complete -c rsttrace -n '__rsttrace_is ' -l peer -d 'Show only these peers or networks, IPv4 or IPv6' -x
complete -c rsttrace -n '__rsttrace_is ' -l not-peer -d 'Hide these peers or networks' -x
complete -c rsttrace -n '__rsttrace_is ' -l host -d 'Show only peers of these names, as shown in the output (no DNS); `*` stands for any text' -x
complete -c rsttrace -n '__rsttrace_is ' -l not-host -d 'Hide peers of these names' -x
complete -c rsttrace -n '__rsttrace_is ' -l peer-port -d 'Show only these ports, ranges or names of services at the peer\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is ' -l local-port -d 'Show only these ports, ranges or names of services at this host\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is ' -l port -d 'Show only these ports, ranges or names of services at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is ' -l not-port -d 'Hide these ports, ranges or names of services, at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is ' -s 4 -l ipv4 -d 'Show only IPv4'
complete -c rsttrace -n '__rsttrace_is ' -s 6 -l ipv6 -d 'Show only IPv6'
complete -c rsttrace -n '__rsttrace_is ' -l netns -d 'Show only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number' -x -a '(__rsttrace_netns)'
complete -c rsttrace -n '__rsttrace_is ' -l cgroup -d 'Show only sockets of this cgroup and its descendants, by path' -x -a '(__rsttrace_cgroups)'
complete -c rsttrace -n '__rsttrace_is ' -l unit -d 'Show only sockets of these systemd units' -x -a '(__fish_complete_list , __rsttrace_units)'
complete -c rsttrace -n '__rsttrace_is ' -l container -d 'Show only sockets of these containers, by name or by the beginning of the id' -x
complete -c rsttrace -n '__rsttrace_is ' -l pod -d 'Show only sockets of these pods, as NAMESPACE/NAME or NAME' -x
complete -c rsttrace -n '__rsttrace_is ' -l cause -d 'Show only these causes, by their codes' -x -a '(__fish_complete_list , __rsttrace_cause)'
complete -c rsttrace -n '__rsttrace_is ' -l fault -d 'Show only resets that these sides should fix' -x -a '(__fish_complete_list , __rsttrace_fault)'
complete -c rsttrace -n '__rsttrace_is ' -l no-benign -d 'Hide harmless resets'
complete -c rsttrace -n '__rsttrace_is ' -l ignored -d 'Also show incoming resets that the kernel discarded (out of window, half-open, closed, …)'
complete -c rsttrace -n '__rsttrace_is ' -l forwarded -d 'Also show resets that arrive on this interface (with --netns: of that namespace) and are forwarded (repeatable)' -x -a '(__rsttrace_interfaces)'
complete -c rsttrace -n '__rsttrace_is ' -l own-connections -d 'Also show resets of rsttrace\'s own connections, to its sinks and of --metrics; without it they are only counted'
complete -c rsttrace -n '__rsttrace_is ' -s o -l output -d 'Set the output format on standard output' -x -a '(__rsttrace_output)'
complete -c rsttrace -n '__rsttrace_is ' -l sink -d 'Also send records to this destination (repeatable): json:PATH, journald, otlp[:URL], recording:DIR, syslog[:ADDRESS]; rsttrace(1) has the options of each, under SINKS' -x -a '(__rsttrace_sinks)'
complete -c rsttrace -n '__rsttrace_is ' -l sink-queue -d 'Set the queue length per sink; records beyond it are dropped and counted' -x
complete -c rsttrace -n '__rsttrace_is ' -l metrics -d 'Serve Prometheus metrics on this port of the loopback address, or on this address and port' -x
complete -c rsttrace -n '__rsttrace_is ' -l metrics-config -d 'Read TLS and authentication of --metrics from a YAML file, in the form of Prometheus\' exporters' -r -F
complete -c rsttrace -n '__rsttrace_is ' -l metrics-peers -d 'Set the maximum number of peers with their own time series; others are counted as "other"' -x
complete -c rsttrace -n '__rsttrace_is ' -l time -d 'Set the form of times in text (JSON is always UTC)' -x -a '(__rsttrace_time)'
complete -c rsttrace -n '__rsttrace_is ' -l color -d 'Color text: red is to be fixed on this host, cyan by the peer or on the path, green is harmless' -x -a '(__rsttrace_color)'
complete -c rsttrace -n '__rsttrace_is ' -l fold -d 'Merge similar lines of text (client\'s port and figures aside) into one per second, with a count' -x -a '(__rsttrace_fold)'
complete -c rsttrace -n '__rsttrace_is ' -s q -l quiet -d 'Print only warnings and errors on standard error, such as filters that nothing matches yet: no start lines, and of the summary only the table of --group-by'
complete -c rsttrace -n '__rsttrace_is ' -s n -l numeric -d 'Show numbers in text: no names of ports, users, peers, containers and pods'
complete -c rsttrace -n '__rsttrace_is ' -l summary-interval -d 'Print a summary at this interval, such as 60s or 5m, and at the end' -x
complete -c rsttrace -n '__rsttrace_is ' -l summary -d 'Choose where the summary goes' -x -a '(__rsttrace_summary)'
complete -c rsttrace -n '__rsttrace_is ' -l group-by -d 'Count resets by these fields, in a table in the summary' -x -a '(__fish_complete_list , __rsttrace_group_by)'
complete -c rsttrace -n '__rsttrace_is ' -l report -d 'Write a report to this file at the end: a page with plots, or text (.md), or the main plot alone (.svg)' -r -F
complete -c rsttrace -n '__rsttrace_is ' -l no-summary -d 'Omit the summary at the end'
complete -c rsttrace -n '__rsttrace_is ' -s d -l duration -d 'Stop after this time, such as 30s or 5m' -x
complete -c rsttrace -n '__rsttrace_is ' -l count -d 'Stop after this many records of resets (not of ignored and forwarded ones)' -x
complete -c rsttrace -n '__rsttrace_is ' -l transport -d 'Set the buffer between kernel and user space' -x -a '(__rsttrace_transport)'
complete -c rsttrace -n '__rsttrace_is ' -l buffer-size -d 'Set the size of the kernel buffer (perf: of each CPU\'s), rounded up to a power of two of pages' -x
complete -c rsttrace -n '__rsttrace_is ' -l user -d 'Switch to this user, by name, by number or as UID:GID, after the probes are attached' -x -a '(__rsttrace_users)'
complete -c rsttrace -n '__rsttrace_is ' -l timeouts -d 'Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is ' -l hints -d 'Read additional hints for programs of your own from a TOML file, tried before the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is ' -l names -d 'Read names of peers from a TOML file (`"ADDRESS or CIDR" = "name"`); the most specific one wins' -r -F
complete -c rsttrace -n '__rsttrace_is ' -l config -d 'Read options from a TOML file (`name = value`); the command line takes precedence' -r -F
complete -c rsttrace -n '__rsttrace_is ' -l ready-fd -d 'Write a newline to this file descriptor once every probe is attached' -x
complete -c rsttrace -n '__rsttrace_is doctor' -l json -d 'Print one JSON document'
complete -c rsttrace -n '__rsttrace_is explain' -l json -d 'Print one JSON document, an array of causes in full'
complete -c rsttrace -n '__rsttrace_is explain' -x -a '(__rsttrace_cause)'
complete -c rsttrace -n '__rsttrace_is record' -x -a '(__fish_complete_directories)'
complete -c rsttrace -n '__rsttrace_is record' -l size -d 'Set the maximum size of the recording; beyond it the oldest segments are removed' -x
complete -c rsttrace -n '__rsttrace_is record' -l age -d 'Set the maximum age of a segment, such as 12h or 30d; older ones are removed' -x
complete -c rsttrace -n '__rsttrace_is record' -l segment -d 'Set the size at which a segment is closed and compressed: at most a quarter of --size [default: 64M, or that quarter]' -x
complete -c rsttrace -n '__rsttrace_is record' -l min-free -d 'Leave this much of the file system free: remove the oldest segments, and write nothing where none is left' -x
complete -c rsttrace -n '__rsttrace_is record' -l sent -d 'Record only resets that this host sends'
complete -c rsttrace -n '__rsttrace_is record' -l received -d 'Record only resets that this host receives (live: without the sender where that is on this host too)'
complete -c rsttrace -n '__rsttrace_is record' -s p -l pid -d 'Record only sockets owned by these processes' -x -a '(__fish_complete_list , __rsttrace_pids)'
complete -c rsttrace -n '__rsttrace_is record' -s c -l comm -d 'Record only sockets owned by processes of these names' -x -a '(__fish_complete_list , __rsttrace_comms)'
complete -c rsttrace -n '__rsttrace_is record' -l peer -d 'Record only these peers or networks, IPv4 or IPv6' -x
complete -c rsttrace -n '__rsttrace_is record' -l not-peer -d 'Do not record these peers or networks' -x
complete -c rsttrace -n '__rsttrace_is record' -l host -d 'Record only peers of these names, as shown in the output (no DNS); `*` stands for any text' -x
complete -c rsttrace -n '__rsttrace_is record' -l not-host -d 'Do not record peers of these names' -x
complete -c rsttrace -n '__rsttrace_is record' -l peer-port -d 'Record only these ports, ranges or names of services at the peer\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is record' -l local-port -d 'Record only these ports, ranges or names of services at this host\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is record' -l port -d 'Record only these ports, ranges or names of services at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is record' -l not-port -d 'Do not record these ports, ranges or names of services, at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is record' -s 4 -l ipv4 -d 'Record only IPv4'
complete -c rsttrace -n '__rsttrace_is record' -s 6 -l ipv6 -d 'Record only IPv6'
complete -c rsttrace -n '__rsttrace_is record' -l netns -d 'Record only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number' -x -a '(__rsttrace_netns)'
complete -c rsttrace -n '__rsttrace_is record' -l cgroup -d 'Record only sockets of this cgroup and its descendants, by path' -x -a '(__rsttrace_cgroups)'
complete -c rsttrace -n '__rsttrace_is record' -l unit -d 'Record only sockets of these systemd units' -x -a '(__fish_complete_list , __rsttrace_units)'
complete -c rsttrace -n '__rsttrace_is record' -l container -d 'Record only sockets of these containers, by name or by the beginning of the id' -x
complete -c rsttrace -n '__rsttrace_is record' -l pod -d 'Record only sockets of these pods, as NAMESPACE/NAME or NAME' -x
complete -c rsttrace -n '__rsttrace_is record' -l cause -d 'Record only these causes, by their codes' -x -a '(__fish_complete_list , __rsttrace_cause)'
complete -c rsttrace -n '__rsttrace_is record' -l fault -d 'Record only resets that these sides should fix' -x -a '(__fish_complete_list , __rsttrace_fault)'
complete -c rsttrace -n '__rsttrace_is record' -l no-benign -d 'Do not record harmless resets'
complete -c rsttrace -n '__rsttrace_is record' -l ignored -d 'Also record incoming resets that the kernel discarded (out of window, half-open, closed, …)'
complete -c rsttrace -n '__rsttrace_is record' -l forwarded -d 'Also record resets that arrive on this interface (with --netns: of that namespace) and are forwarded (repeatable)' -x -a '(__rsttrace_interfaces)'
complete -c rsttrace -n '__rsttrace_is record' -l own-connections -d 'Also record resets of rsttrace\'s own connections, to its sinks and of --metrics; without it they are only counted'
complete -c rsttrace -n '__rsttrace_is record' -l metrics -d 'Serve Prometheus metrics on this port of the loopback address, or on this address and port' -x
complete -c rsttrace -n '__rsttrace_is record' -l metrics-config -d 'Read TLS and authentication of --metrics from a YAML file, in the form of Prometheus\' exporters' -r -F
complete -c rsttrace -n '__rsttrace_is record' -s q -l quiet -d 'Print only warnings and errors on standard error: no start lines, no summary'
complete -c rsttrace -n '__rsttrace_is record' -s d -l duration -d 'Stop after this time, such as 30s or 5m' -x
complete -c rsttrace -n '__rsttrace_is record' -l count -d 'Stop after this many records of resets (not of ignored and forwarded ones)' -x
complete -c rsttrace -n '__rsttrace_is record' -l transport -d 'Set the buffer between kernel and user space' -x -a '(__rsttrace_transport)'
complete -c rsttrace -n '__rsttrace_is record' -l buffer-size -d 'Set the size of the kernel buffer (perf: of each CPU\'s), rounded up to a power of two of pages' -x
complete -c rsttrace -n '__rsttrace_is record' -l user -d 'Switch to this user, by name, by number or as UID:GID, after the probes are attached' -x -a '(__rsttrace_users)'
complete -c rsttrace -n '__rsttrace_is record' -l timeouts -d 'Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is record' -l hints -d 'Read additional hints for programs of your own from a TOML file, tried before the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is record' -l names -d 'Read names of peers from a TOML file (`"ADDRESS or CIDR" = "name"`); the most specific one wins' -r -F
complete -c rsttrace -n '__rsttrace_is record' -l ready-fd -d 'Write a newline to this file descriptor once every probe is attached' -x
complete -c rsttrace -n '__rsttrace_is replay' -r -F
complete -c rsttrace -n '__rsttrace_is replay' -l local -d 'Tell the resets of a capture as the host with these addresses sees them [default: the one that sent the packets, or that most of the connections share]' -x
complete -c rsttrace -n '__rsttrace_is replay' -l ignored -d 'Show also resets of captures that ended no connection: too late, or with numbers that no system takes'
complete -c rsttrace -n '__rsttrace_is replay' -l since -d 'Show only what was at this time or later: 14:03 (of this day), \'2026-11-28 08:00\', RFC 3339, yesterday, or 10m for ten minutes ago' -x
complete -c rsttrace -n '__rsttrace_is replay' -l until -d 'Show only what was before this time, in the forms of --since' -x
complete -c rsttrace -n '__rsttrace_is replay' -l sent -d 'Show only resets that this host sends'
complete -c rsttrace -n '__rsttrace_is replay' -l received -d 'Show only resets that this host receives (live: without the sender where that is on this host too)'
complete -c rsttrace -n '__rsttrace_is replay' -s p -l pid -d 'Show only sockets owned by these processes' -x -a '(__fish_complete_list , __rsttrace_pids)'
complete -c rsttrace -n '__rsttrace_is replay' -s c -l comm -d 'Show only sockets owned by processes of these names' -x -a '(__fish_complete_list , __rsttrace_comms)'
complete -c rsttrace -n '__rsttrace_is replay' -l peer -d 'Show only these peers or networks, IPv4 or IPv6' -x
complete -c rsttrace -n '__rsttrace_is replay' -l not-peer -d 'Hide these peers or networks' -x
complete -c rsttrace -n '__rsttrace_is replay' -l host -d 'Show only peers of these names, as shown in the output (no DNS); `*` stands for any text' -x
complete -c rsttrace -n '__rsttrace_is replay' -l not-host -d 'Hide peers of these names' -x
complete -c rsttrace -n '__rsttrace_is replay' -l peer-port -d 'Show only these ports, ranges or names of services at the peer\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is replay' -l local-port -d 'Show only these ports, ranges or names of services at this host\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is replay' -l port -d 'Show only these ports, ranges or names of services at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is replay' -l not-port -d 'Hide these ports, ranges or names of services, at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is replay' -s 4 -l ipv4 -d 'Show only IPv4'
complete -c rsttrace -n '__rsttrace_is replay' -s 6 -l ipv6 -d 'Show only IPv6'
complete -c rsttrace -n '__rsttrace_is replay' -l netns -d 'Show only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number' -x -a '(__rsttrace_netns)'
complete -c rsttrace -n '__rsttrace_is replay' -l cgroup -d 'Show only sockets of this cgroup and its descendants, by path' -x -a '(__rsttrace_cgroups)'
complete -c rsttrace -n '__rsttrace_is replay' -l unit -d 'Show only sockets of these systemd units' -x -a '(__fish_complete_list , __rsttrace_units)'
complete -c rsttrace -n '__rsttrace_is replay' -l container -d 'Show only sockets of these containers, by name or by the beginning of the id' -x
complete -c rsttrace -n '__rsttrace_is replay' -l pod -d 'Show only sockets of these pods, as NAMESPACE/NAME or NAME' -x
complete -c rsttrace -n '__rsttrace_is replay' -l cause -d 'Show only these causes, by their codes' -x -a '(__fish_complete_list , __rsttrace_cause)'
complete -c rsttrace -n '__rsttrace_is replay' -l fault -d 'Show only resets that these sides should fix' -x -a '(__fish_complete_list , __rsttrace_fault)'
complete -c rsttrace -n '__rsttrace_is replay' -l no-benign -d 'Hide harmless resets'
complete -c rsttrace -n '__rsttrace_is replay' -s o -l output -d 'Set the output format on standard output' -x -a '(__rsttrace_output)'
complete -c rsttrace -n '__rsttrace_is replay' -l sink -d 'Also send records to this destination (repeatable): json:PATH, journald, otlp[:URL], recording:DIR, syslog[:ADDRESS]; rsttrace(1) has the options of each, under SINKS' -x -a '(__rsttrace_sinks)'
complete -c rsttrace -n '__rsttrace_is replay' -l sink-queue -d 'Set the queue length per sink; records beyond it are dropped and counted' -x
complete -c rsttrace -n '__rsttrace_is replay' -l time -d 'Set the form of times in text (JSON is always UTC)' -x -a '(__rsttrace_time)'
complete -c rsttrace -n '__rsttrace_is replay' -l color -d 'Color text: red is to be fixed on this host, cyan by the peer or on the path, green is harmless' -x -a '(__rsttrace_color)'
complete -c rsttrace -n '__rsttrace_is replay' -l fold -d 'Merge similar lines of text (client\'s port and figures aside) into one per second, with a count' -x -a '(__rsttrace_fold)'
complete -c rsttrace -n '__rsttrace_is replay' -s q -l quiet -d 'Print only warnings and errors on standard error: of the summary only the table of --group-by'
complete -c rsttrace -n '__rsttrace_is replay' -s n -l numeric -d 'Show numbers in text: no names of ports, users, peers, containers and pods'
complete -c rsttrace -n '__rsttrace_is replay' -l summary -d 'Choose where the summary goes' -x -a '(__rsttrace_summary)'
complete -c rsttrace -n '__rsttrace_is replay' -l group-by -d 'Count resets by these fields, in a table in the summary' -x -a '(__fish_complete_list , __rsttrace_group_by)'
complete -c rsttrace -n '__rsttrace_is replay' -l report -d 'Write a report to this file at the end: a page with plots, or text (.md), or the main plot alone (.svg)' -r -F
complete -c rsttrace -n '__rsttrace_is replay' -l no-summary -d 'Omit the summary at the end'
complete -c rsttrace -n '__rsttrace_is replay' -l rediagnose -d 'Diagnose again, by the rules of this version, from the facts that a recording has'
complete -c rsttrace -n '__rsttrace_is replay' -l timeouts -d 'Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is replay' -l hints -d 'Read additional hints for programs of your own from a TOML file, for --rediagnose' -r -F
complete -c rsttrace -n '__rsttrace_is report' -r -F
complete -c rsttrace -n '__rsttrace_is report' -l local -d 'Tell the resets of a capture as the host with these addresses sees them [default: the one that sent the packets, or that most of the connections share]' -x
complete -c rsttrace -n '__rsttrace_is report' -l ignored -d 'Show also resets of captures that ended no connection: too late, or with numbers that no system takes'
complete -c rsttrace -n '__rsttrace_is report' -s o -l output -d 'Write the report to this file [default: standard output]' -r -F
complete -c rsttrace -n '__rsttrace_is report' -l format -d 'Set the format [default: that of FILE\'s extension (.md, .svg), or html]' -x -a '(__rsttrace_report_format)'
complete -c rsttrace -n '__rsttrace_is report' -l compare -d 'Compare two inputs, the first from before a change and the second from after it'
complete -c rsttrace -n '__rsttrace_is report' -l time -d 'Set the time zone of the report' -x -a '(__rsttrace_zone)'
complete -c rsttrace -n '__rsttrace_is report' -s q -l quiet -d 'Print only warnings and errors on standard error'
complete -c rsttrace -n '__rsttrace_is report' -l since -d 'Show only what was at this time or later: 14:03 (of this day), \'2026-11-28 08:00\', RFC 3339, yesterday, or 10m for ten minutes ago' -x
complete -c rsttrace -n '__rsttrace_is report' -l until -d 'Show only what was before this time, in the forms of --since' -x
complete -c rsttrace -n '__rsttrace_is report' -l sent -d 'Show only resets that this host sends'
complete -c rsttrace -n '__rsttrace_is report' -l received -d 'Show only resets that this host receives (live: without the sender where that is on this host too)'
complete -c rsttrace -n '__rsttrace_is report' -s p -l pid -d 'Show only sockets owned by these processes' -x -a '(__fish_complete_list , __rsttrace_pids)'
complete -c rsttrace -n '__rsttrace_is report' -s c -l comm -d 'Show only sockets owned by processes of these names' -x -a '(__fish_complete_list , __rsttrace_comms)'
complete -c rsttrace -n '__rsttrace_is report' -l peer -d 'Show only these peers or networks, IPv4 or IPv6' -x
complete -c rsttrace -n '__rsttrace_is report' -l not-peer -d 'Hide these peers or networks' -x
complete -c rsttrace -n '__rsttrace_is report' -l host -d 'Show only peers of these names, as shown in the output (no DNS); `*` stands for any text' -x
complete -c rsttrace -n '__rsttrace_is report' -l not-host -d 'Hide peers of these names' -x
complete -c rsttrace -n '__rsttrace_is report' -l peer-port -d 'Show only these ports, ranges or names of services at the peer\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is report' -l local-port -d 'Show only these ports, ranges or names of services at this host\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is report' -l port -d 'Show only these ports, ranges or names of services at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is report' -l not-port -d 'Hide these ports, ranges or names of services, at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is report' -s 4 -l ipv4 -d 'Show only IPv4'
complete -c rsttrace -n '__rsttrace_is report' -s 6 -l ipv6 -d 'Show only IPv6'
complete -c rsttrace -n '__rsttrace_is report' -l netns -d 'Show only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number' -x -a '(__rsttrace_netns)'
complete -c rsttrace -n '__rsttrace_is report' -l cgroup -d 'Show only sockets of this cgroup and its descendants, by path' -x -a '(__rsttrace_cgroups)'
complete -c rsttrace -n '__rsttrace_is report' -l unit -d 'Show only sockets of these systemd units' -x -a '(__fish_complete_list , __rsttrace_units)'
complete -c rsttrace -n '__rsttrace_is report' -l container -d 'Show only sockets of these containers, by name or by the beginning of the id' -x
complete -c rsttrace -n '__rsttrace_is report' -l pod -d 'Show only sockets of these pods, as NAMESPACE/NAME or NAME' -x
complete -c rsttrace -n '__rsttrace_is report' -l cause -d 'Show only these causes, by their codes' -x -a '(__fish_complete_list , __rsttrace_cause)'
complete -c rsttrace -n '__rsttrace_is report' -l fault -d 'Show only resets that these sides should fix' -x -a '(__fish_complete_list , __rsttrace_fault)'
complete -c rsttrace -n '__rsttrace_is report' -l no-benign -d 'Hide harmless resets'
complete -c rsttrace -n '__rsttrace_is report' -l rediagnose -d 'Diagnose again, by the rules of this version, from the facts that a recording has'
complete -c rsttrace -n '__rsttrace_is report' -l timeouts -d 'Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is report' -l hints -d 'Read additional hints for programs of your own from a TOML file, for --rediagnose' -r -F
complete -c rsttrace -n '__rsttrace_is top' -r -F
complete -c rsttrace -n '__rsttrace_is top' -l local -d 'Tell the resets of a capture as the host with these addresses sees them [default: the one that sent the packets, or that most of the connections share]' -x
complete -c rsttrace -n '__rsttrace_is top' -l since -d 'Show only what was at this time or later: 14:03 (of this day), \'2026-11-28 08:00\', RFC 3339, yesterday, or 10m for ten minutes ago' -x
complete -c rsttrace -n '__rsttrace_is top' -l until -d 'Show only what was before this time, in the forms of --since' -x
complete -c rsttrace -n '__rsttrace_is top' -l sent -d 'Show only resets that this host sends'
complete -c rsttrace -n '__rsttrace_is top' -l received -d 'Show only resets that this host receives (live: without the sender where that is on this host too)'
complete -c rsttrace -n '__rsttrace_is top' -s p -l pid -d 'Show only sockets owned by these processes' -x -a '(__fish_complete_list , __rsttrace_pids)'
complete -c rsttrace -n '__rsttrace_is top' -s c -l comm -d 'Show only sockets owned by processes of these names' -x -a '(__fish_complete_list , __rsttrace_comms)'
complete -c rsttrace -n '__rsttrace_is top' -l peer -d 'Show only these peers or networks, IPv4 or IPv6' -x
complete -c rsttrace -n '__rsttrace_is top' -l not-peer -d 'Hide these peers or networks' -x
complete -c rsttrace -n '__rsttrace_is top' -l host -d 'Show only peers of these names, as shown in the output (no DNS); `*` stands for any text' -x
complete -c rsttrace -n '__rsttrace_is top' -l not-host -d 'Hide peers of these names' -x
complete -c rsttrace -n '__rsttrace_is top' -l peer-port -d 'Show only these ports, ranges or names of services at the peer\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is top' -l local-port -d 'Show only these ports, ranges or names of services at this host\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is top' -l port -d 'Show only these ports, ranges or names of services at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is top' -l not-port -d 'Hide these ports, ranges or names of services, at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is top' -s 4 -l ipv4 -d 'Show only IPv4'
complete -c rsttrace -n '__rsttrace_is top' -s 6 -l ipv6 -d 'Show only IPv6'
complete -c rsttrace -n '__rsttrace_is top' -l netns -d 'Show only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number' -x -a '(__rsttrace_netns)'
complete -c rsttrace -n '__rsttrace_is top' -l cgroup -d 'Show only sockets of this cgroup and its descendants, by path' -x -a '(__rsttrace_cgroups)'
complete -c rsttrace -n '__rsttrace_is top' -l unit -d 'Show only sockets of these systemd units' -x -a '(__fish_complete_list , __rsttrace_units)'
complete -c rsttrace -n '__rsttrace_is top' -l container -d 'Show only sockets of these containers, by name or by the beginning of the id' -x
complete -c rsttrace -n '__rsttrace_is top' -l pod -d 'Show only sockets of these pods, as NAMESPACE/NAME or NAME' -x
complete -c rsttrace -n '__rsttrace_is top' -l cause -d 'Show only these causes, by their codes' -x -a '(__fish_complete_list , __rsttrace_cause)'
complete -c rsttrace -n '__rsttrace_is top' -l fault -d 'Show only resets that these sides should fix' -x -a '(__fish_complete_list , __rsttrace_fault)'
complete -c rsttrace -n '__rsttrace_is top' -l no-benign -d 'Hide harmless resets'
complete -c rsttrace -n '__rsttrace_is top' -l report -d 'Write the report to this file at the end, and for the key \'r\': a page with plots, or text (.md), or the main plot alone (.svg)' -r -F
complete -c rsttrace -n '__rsttrace_is top' -l sink -d 'Also send records to this destination (repeatable): json:PATH, journald, otlp[:URL], recording:DIR, syslog[:ADDRESS]; rsttrace(1) has the options of each, under SINKS' -x -a '(__rsttrace_sinks)'
complete -c rsttrace -n '__rsttrace_is top' -l metrics -d 'Serve Prometheus metrics on this port of the loopback address, or on this address and port' -x
complete -c rsttrace -n '__rsttrace_is top' -l metrics-config -d 'Read TLS and authentication of --metrics from a YAML file, in the form of Prometheus\' exporters' -r -F
complete -c rsttrace -n '__rsttrace_is top' -l time -d 'Set the time zone of the view' -x -a '(__rsttrace_zone)'
complete -c rsttrace -n '__rsttrace_is top' -l color -d 'Color the view: red is to be fixed on this host, cyan by the peer or on the path, green is harmless' -x -a '(__rsttrace_color)'
complete -c rsttrace -n '__rsttrace_is top' -s n -l numeric -d 'Show numbers in the block of an incident: no names of ports, users, peers, containers and pods'
complete -c rsttrace -n '__rsttrace_is top' -s q -l quiet -d 'Print only warnings and errors on standard error: no summary at the end'
complete -c rsttrace -n '__rsttrace_is top' -s d -l duration -d 'Stop after this time, such as 30s or 5m' -x
complete -c rsttrace -n '__rsttrace_is top' -l count -d 'Stop after this many records of resets (not of ignored and forwarded ones)' -x
complete -c rsttrace -n '__rsttrace_is top' -l transport -d 'Set the buffer between kernel and user space' -x -a '(__rsttrace_transport)'
complete -c rsttrace -n '__rsttrace_is top' -l buffer-size -d 'Set the size of the kernel buffer (perf: of each CPU\'s), rounded up to a power of two of pages' -x
complete -c rsttrace -n '__rsttrace_is top' -l user -d 'Switch to this user, by name, by number or as UID:GID, after the probes are attached' -x -a '(__rsttrace_users)'
complete -c rsttrace -n '__rsttrace_is top' -l timeouts -d 'Read additional idle timeouts from a TOML file; those of a known owner replace the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is top' -l hints -d 'Read additional hints for programs of your own from a TOML file, tried before the built-in ones' -r -F
complete -c rsttrace -n '__rsttrace_is top' -l names -d 'Read names of peers from a TOML file (`"ADDRESS or CIDR" = "name"`); the most specific one wins' -r -F
complete -c rsttrace -n '__rsttrace_is top' -l ready-fd -d 'Write a newline to this file descriptor once every probe is attached' -x
complete -c rsttrace -n '__rsttrace_is join' -r -F
complete -c rsttrace -n '__rsttrace_is join' -l local -d 'Tell the resets of a capture as the host with these addresses sees them [default: the one that sent the packets, or that most of the connections share]' -x
complete -c rsttrace -n '__rsttrace_is join' -l ignored -d 'Show also resets of captures that ended no connection: too late, or with numbers that no system takes'
complete -c rsttrace -n '__rsttrace_is join' -s o -l output -d 'Set the output format on standard output' -x -a '(__rsttrace_join_output)'
complete -c rsttrace -n '__rsttrace_is join' -l time -d 'Set the time zone of text (JSON is always UTC)' -x -a '(__rsttrace_zone)'
complete -c rsttrace -n '__rsttrace_is join' -l verdict -d 'Show only pairs with these verdicts' -x -a '(__fish_complete_list , __rsttrace_verdict)'
complete -c rsttrace -n '__rsttrace_is join' -l port -d 'Show only pairs with these ports, ranges or names of services at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is join' -l since -d 'Show only what was at this time or later: 14:03 (of this day), \'2026-11-28 08:00\', RFC 3339, yesterday, or 10m for ten minutes ago' -x
complete -c rsttrace -n '__rsttrace_is join' -l until -d 'Show only what was before this time, in the forms of --since' -x
complete -c rsttrace -n '__rsttrace_is export' -r -F
complete -c rsttrace -n '__rsttrace_is export' -l local -d 'Tell the resets of a capture as the host with these addresses sees them [default: the one that sent the packets, or that most of the connections share]' -x
complete -c rsttrace -n '__rsttrace_is export' -l ignored -d 'Show also resets of captures that ended no connection: too late, or with numbers that no system takes'
complete -c rsttrace -n '__rsttrace_is export' -l format -d 'Set the format on standard output' -x -a '(__rsttrace_format)'
complete -c rsttrace -n '__rsttrace_is export' -l anonymize -d 'Replace addresses, names and command lines by pseudonyms (not names of well-known programs); ports, PIDs and times stay'
complete -c rsttrace -n '__rsttrace_is export' -l since -d 'Export only what was at this time or later: 14:03 (of this day), \'2026-11-28 08:00\', RFC 3339, yesterday, or 10m for ten minutes ago' -x
complete -c rsttrace -n '__rsttrace_is export' -l until -d 'Export only what was before this time, in the forms of --since' -x
complete -c rsttrace -n '__rsttrace_is export' -l sent -d 'Export only resets that this host sends'
complete -c rsttrace -n '__rsttrace_is export' -l received -d 'Export only resets that this host receives (live: without the sender where that is on this host too)'
complete -c rsttrace -n '__rsttrace_is export' -s p -l pid -d 'Export only sockets owned by these processes' -x -a '(__fish_complete_list , __rsttrace_pids)'
complete -c rsttrace -n '__rsttrace_is export' -s c -l comm -d 'Export only sockets owned by processes of these names' -x -a '(__fish_complete_list , __rsttrace_comms)'
complete -c rsttrace -n '__rsttrace_is export' -l peer -d 'Export only these peers or networks, IPv4 or IPv6' -x
complete -c rsttrace -n '__rsttrace_is export' -l not-peer -d 'Do not export these peers or networks' -x
complete -c rsttrace -n '__rsttrace_is export' -l host -d 'Export only peers of these names, as shown in the output (no DNS); `*` stands for any text' -x
complete -c rsttrace -n '__rsttrace_is export' -l not-host -d 'Do not export peers of these names' -x
complete -c rsttrace -n '__rsttrace_is export' -l peer-port -d 'Export only these ports, ranges or names of services at the peer\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is export' -l local-port -d 'Export only these ports, ranges or names of services at this host\'s end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is export' -l port -d 'Export only these ports, ranges or names of services at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is export' -l not-port -d 'Do not export these ports, ranges or names of services, at either end' -x -a '(__fish_complete_list , __rsttrace_services)'
complete -c rsttrace -n '__rsttrace_is export' -s 4 -l ipv4 -d 'Export only IPv4'
complete -c rsttrace -n '__rsttrace_is export' -s 6 -l ipv6 -d 'Export only IPv6'
complete -c rsttrace -n '__rsttrace_is export' -l netns -d 'Export only this network namespace: a name of `ip netns`, a path such as /proc/PID/ns/net, or an inode number' -x -a '(__rsttrace_netns)'
complete -c rsttrace -n '__rsttrace_is export' -l cgroup -d 'Export only sockets of this cgroup and its descendants, by path' -x -a '(__rsttrace_cgroups)'
complete -c rsttrace -n '__rsttrace_is export' -l unit -d 'Export only sockets of these systemd units' -x -a '(__fish_complete_list , __rsttrace_units)'
complete -c rsttrace -n '__rsttrace_is export' -l container -d 'Export only sockets of these containers, by name or by the beginning of the id' -x
complete -c rsttrace -n '__rsttrace_is export' -l pod -d 'Export only sockets of these pods, as NAMESPACE/NAME or NAME' -x
complete -c rsttrace -n '__rsttrace_is export' -l cause -d 'Export only these causes, by their codes' -x -a '(__fish_complete_list , __rsttrace_cause)'
complete -c rsttrace -n '__rsttrace_is export' -l fault -d 'Export only resets that these sides should fix' -x -a '(__fish_complete_list , __rsttrace_fault)'
complete -c rsttrace -n '__rsttrace_is export' -l no-benign -d 'Do not export harmless resets'
complete -c rsttrace -n '__rsttrace_is check-config' -r -F
complete -c rsttrace -s h -l help -d 'Print help'
complete -c rsttrace -n '__rsttrace_is ' -s V -l version -d 'Print version'

function __rsttrace_cause
    printf '%s\t%s\n' \
        'aborted' 'A process on this host aborted the connection.' \
        'accept-overflow' 'The peer\'s accept queue was full.' \
        'after-close' 'The process reset a connection that the peer had closed, after all had been exchanged.' \
        'aftermath' 'A late segment of a connection that had just been reset.' \
        'bad-segment' 'The peer sent a segment that does not fit the state of the connection.' \
        'cleared-old-connection' 'Our SYN met an old connection at the peer; this reset clears it, and the next SYN connects.' \
        'client-cancelled' 'The process, a client, ended the connection before it had the whole answer.' \
        'client-ended' 'The process, a client, ended or dropped its connections at once.' \
        'client-gave-up' 'The client ended the connection before our answer.' \
        'closed-with-unread-data' 'The process closed the connection with received data unread.' \
        'connection-refused' 'Nothing listens on the peer\'s port.' \
        'conntrack-invalid' 'This host translates the connection, took a segment of it for invalid, and reset it itself.' \
        'data-after-close' 'The peer sent data after our process had closed the connection.' \
        'firewall-reject' 'A rule of this host\'s packet filter rejected the packet.' \
        'gave-up-waiting' 'The answer came after this side\'s process had stopped waiting for it.' \
        'given-up-earlier' 'The peer sent on a connection that this host had given up because nothing was acknowledged.' \
        'health-probe' 'A health check of this host ended its connection with a reset.' \
        'idle-reset' 'Something ended an idle connection when its time was up.' \
        'idle-timeout-path' 'A load balancer or NAT on the way had forgotten the idle connection.' \
        'injected' 'The reset has this host\'s address and did not come from it.' \
        'keepalive-answer' 'The peer no longer knew the connection.' \
        'keepalive-race' 'This side closed an idle connection at about the time at which the peer used it again.' \
        'keepalive-timeout' 'The peer answered no keep-alive probe.' \
        'leaked-socket' 'Our process had kept the connection open after the client\'s FIN, and the client began anew.' \
        'linger-zero' 'The process aborted the connection (SO_LINGER 0 or a disconnect).' \
        'linger2-expired' 'The peer did not close in the time that TCP_LINGER2 or net.ipv4.tcp_fin_timeout allows.' \
        'listen-overflow' 'The listener\'s accept queue was full when the connection was opened.' \
        'listener-closed' 'The listener was closed with connections still in its accept queue.' \
        'mptcp-subflow' 'This host reset one path of an MPTCP connection; the connection goes on over the others.' \
        'no-connection' 'A segment came for a connection that this host does not know.' \
        'out-of-memory' 'The kernel ran out of TCP memory or of orphaned sockets.' \
        'path-lost-state' 'A NAT, load balancer or firewall on the way no longer knew the connection.' \
        'peer-aborted' 'The peer\'s process aborted the connection.' \
        'peer-closed-unread' 'The peer closed without reading what we were still sending.' \
        'peer-lost-state' 'Whatever answers at the peer\'s address no longer knows the connection.' \
        'peer-restarted' 'The peer\'s process ended: several of its connections broke at once.' \
        'peer-stopped-reading' 'The peer sent on a connection that this host had given up because the peer had stopped reading.' \
        'policy' 'Something ends connections to this place right after their first data.' \
        'port-closed' 'The peer tried to connect to a port on which nothing listens.' \
        'port-scan' 'One peer tries many closed ports.' \
        'process-died' 'A signal killed the process with the connection open.' \
        'process-ended' 'The process closed its connections and ended while the peer was using this one.' \
        'process-exited' 'The process exited by itself with the connection open.' \
        'refused-by-firewall' 'Something before the peer refused the connection.' \
        'relayed' 'The process passed on the end of another of its connections.' \
        'reused-closed-connection' 'The peer, a client, used a connection again that this side had closed before.' \
        'socket-destroyed' 'An administrator\'s tool ended the connection (ss -K, SOCK_DESTROY).' \
        'stopped-reading' 'Our process had stopped reading, and the peer had given the connection up or closed it meanwhile.' \
        'time-wait' 'A late segment hit a connection that had ended.' \
        'tls-goodbye' 'The peer\'s TLS closing alert came after this side had closed, or lay unread as it closed; nothing else of the peer\'s is lost.' \
        'turned-away' 'The process accepted the connection, sent a line and closed, without reading from it.' \
        'unknown' 'None of the known causes fits; the evidence is what there is.' \
        'user-timeout' 'The peer did not answer for as long as TCP_USER_TIMEOUT allows.' \
        ;
end

function __rsttrace_color
    printf '%s\t%s\n' \
        'auto' 'On a terminal, unless `NO_COLOR` is set, or where `CLICOLOR_FORCE` is' \
        'always' 'Always' \
        'never' 'Never' \
        ;
end

function __rsttrace_fault
    printf '%s\t%s\n' \
        'local' 'This host' \
        'peer' 'The other end of the connection' \
        'path' 'A device on the path between the two ends' \
        'none' 'Neither side: the reset is harmless' \
        'unknown' 'Not known' \
        ;
end

function __rsttrace_fold
    printf '%s\t%s\n' \
        'auto' 'On a terminal, from the sixth line of a kind in a second on' \
        'always' 'From the sixth line of a kind in a second on' \
        'never' 'Never' \
        ;
end

function __rsttrace_format
    printf '%s\t%s\n' \
        'json' 'JSON lines as in a recording, which can be replayed and diagnosed again' \
        'csv' 'A table of the resets, with a row of titles (RFC 4180)' \
        'pcapng' 'A packet capture for Wireshark and tcpdump: each reset as a packet, with its block, as \'replay\' prints it, as the comment' \
        ;
end

function __rsttrace_group_by
    printf '%s\t%s\n' \
        'process' 'Name of the owner of the socket' \
        'pid' 'PID of the owner' \
        'cause' 'Code of the cause' \
        'fault' 'Side that has something to change' \
        'peer' 'The peer\'s name, or its address where it has none' \
        'peer-port' 'The peer\'s port' \
        'local-port' 'This host\'s port' \
        'server' 'Address and port that the client connected to' \
        'direction' 'Sent or received' \
        'state' 'State of the socket' \
        'container' 'Container of the owner, by name or id' \
        'pod' 'Pod of the owner' \
        'unit' 'Systemd unit of the owner' \
        'netns' 'Network namespace, by inode number' \
        ;
end

function __rsttrace_join_output
    printf '%s\t%s\n' \
        'text' 'Hosts, clocks, and the pairs by verdict' \
        'json' 'One JSON object per pair, and one with hosts, clocks and counts at the end' \
        ;
end

function __rsttrace_output
    printf '%s\t%s\n' \
        'text' 'One line per reset' \
        'long' 'A block per reset, with evidence and advice' \
        'json' 'One JSON object per line' \
        'json-flat' 'One JSON object per line without objects in it, for tables: `cause`, `peer_port`, …' \
        'none' 'Nothing; for use with --sink or --report' \
        ;
end

function __rsttrace_report_format
    printf '%s\t%s\n' \
        'html' 'One page with plots, complete without script and network' \
        'markdown' 'Text for a ticket: verdict, counts, and the incidents to look at first' \
        'svg' 'The plot of silences alone' \
        ;
end

function __rsttrace_sink
    printf '%s\t%s\n' \
        'json:' 'Lines of JSON in a file' \
        'journald' 'The systemd journal' \
        'otlp' 'OpenTelemetry, to the endpoint of the environment' \
        'otlp:http://' 'OpenTelemetry over HTTP' \
        'otlp:grpc://' 'OpenTelemetry over gRPC' \
        'otlp:https://' 'OpenTelemetry over HTTP and TLS' \
        'otlp:grpcs://' 'OpenTelemetry over gRPC and TLS' \
        'recording:' 'A recording, as \'rsttrace record\' makes it' \
        'syslog' 'The system log of this host' \
        'syslog:udp://' 'A log server, over UDP' \
        'syslog:tcp://' 'A log server, over TCP' \
        'syslog:tls://' 'A log server, over TLS' \
        ;
end

function __rsttrace_summary
    printf '%s\t%s\n' \
        'auto' 'On standard error; text in a pipe (to a pager) on standard output; JSON has it on both' \
        'stdout' 'On standard output, behind the records' \
        'stderr' 'On standard error: standard output has records alone' \
        ;
end

function __rsttrace_time
    printf '%s\t%s\n' \
        'local' 'Time of day in the local time zone (TZ); a line with the date where a day begins' \
        'utc' 'Time of day in UTC, likewise' \
        'iso' 'Date, time and offset of the local time zone (RFC 3339)' \
        'elapsed' 'Seconds since the start' \
        'none' 'No time, for a logger that adds its own' \
        ;
end

function __rsttrace_transport
    printf '%s\t%s\n' \
        'auto' 'BPF ring buffer if it works, otherwise perf ring buffers' \
        'ring' 'BPF ring buffer (Linux 5.8)' \
        'perf' 'perf ring buffers, one per CPU' \
        ;
end

function __rsttrace_verdict
    printf '%s\t%s\n' \
        'sent' 'The peer\'s host sent it, or a packet filter in its name: the sender\'s own record has the cause' \
        'not-sent' 'The peer\'s host did not send it: something between the hosts did, or a packet filter that is not ruled out' \
        'never-arrived' 'A host sent it, and it never arrived at the other, or was ignored there' \
        'cannot-be-told' 'The inputs do not tell' \
        'not-joinable' 'Something on the path rewrites the numbers by which resets are joined' \
        ;
end

function __rsttrace_zone
    printf '%s\t%s\n' \
        'local' 'The local time zone (TZ)' \
        'utc' 'UTC' \
        ;
end

# Whether the command line is of this subcommand, or without one.
function __rsttrace_is
    set -l words (commandline -opc)
    set -l command "$words[2]"
    contains -- "$command" $__rsttrace_commands; or set command ''
    test "$command" = "$argv"
end

# Whether the word at the cursor is the first one.
function __rsttrace_is_first
    test (count (commandline -opc)) -eq 1
end

# The word at the cursor, without the option that it may begin with.
function __rsttrace_value
    commandline -ct | string replace -r '^--[a-z-]+=' ''
end

function __rsttrace_sinks
    set -l value (__rsttrace_value)
    if string match -q 'json:*' -- $value
        string replace -r '^' 'json:' -- (__fish_complete_path (string replace 'json:' '' -- $value))
    else if string match -q 'recording:*' -- $value
        string replace -r '^' 'recording:' -- (__fish_complete_directories (string replace 'recording:' '' -- $value))
    else
        __rsttrace_sink
    end
end

function __rsttrace_pids
    __fish_complete_pids
end

function __rsttrace_comms
    __fish_complete_proc
end

function __rsttrace_netns
    set -l value (__rsttrace_value)
    if string match -q '*/*' -- $value
        __fish_complete_path $value
    else if test -d /run/netns
        command ls /run/netns
    end
end

function __rsttrace_interfaces
    command ls /sys/class/net
end

function __rsttrace_services
    string match -rg '^([a-z]\S*)\s+\d+/tcp' </etc/services
end

function __rsttrace_users
    __fish_complete_users
end

function __rsttrace_units
    systemctl list-units --all --plain --no-legend --type=service,scope 2>/dev/null | string replace -r ' .*' ''
end

function __rsttrace_cgroups
    string replace -r '^/sys/fs/cgroup' '' -- (__fish_complete_directories /sys/fs/cgroup(__rsttrace_value))
end
