_rsttrace_sinks() {
    if compset -P 'json:'; then
        _files
    elif compset -P 'recording:'; then
        _files -/
    else
        _rsttrace_sink -S '' "$@"
    fi
}

# Sets `comms` to the names, by PID, of the processes that have a command line: not of the threads of the kernel.
_rsttrace_processes() {
    local directory line comm
    for directory in /proc/<->(N); do
        if IFS= read -r -d '' line <"$directory/cmdline" && IFS= read -r comm <"$directory/comm"; then
            comms[${directory:t}]=$comm
        fi
    done 2>/dev/null
}

_rsttrace_pids() {
    local -A comms
    local -a pids
    local pid
    _rsttrace_processes
    for pid in ${(nk)comms}; do pids+=("$pid:$comms[$pid]"); done
    _describe -t processes process pids "$@"
}

_rsttrace_comms() {
    local -A comms
    _rsttrace_processes
    compadd "$@" -- ${(u)comms}
}

_rsttrace_netns() {
    local -a names=(/run/netns/*(N:t))
    [[ $PREFIX == */* ]] && _files || compadd "$@" -a names
}

_rsttrace_interfaces() {
    local -a names=(/sys/class/net/*(N:t))
    compadd "$@" -a names
}

_rsttrace_services() {
    local -aU names=(${${(M)${(f)"$(</etc/services)"}:#[a-z]*/tcp*}%%[[:space:]]*})
    compadd "$@" -a names
} 2>/dev/null

_rsttrace_users() { _users "$@" }

_rsttrace_units() {
    local -a units=(${${(f)"$(systemctl list-units --all --plain --no-legend --type=service,scope 2>/dev/null)"}%% *})
    compadd "$@" -a units
}

_rsttrace_cgroups() {
    local -a slash
    compset -P '/' || slash=(-P '/')
    _files "$slash[@]" -W /sys/fs/cgroup -/
}
