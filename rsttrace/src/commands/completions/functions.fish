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
