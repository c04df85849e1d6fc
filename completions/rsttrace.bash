# Options of a command.
_rsttrace_words() {
    case $1 in
        rsttrace) printf '%s\n' --sent --received --pid --comm --peer --not-peer --host --not-host --peer-port --local-port --port --not-port --ipv4 --ipv6 --netns --cgroup --unit --container --pod --cause --fault --no-benign --ignored --forwarded --own-connections --output --sink --sink-queue --metrics --metrics-config --metrics-peers --time --color --fold --quiet --numeric --summary-interval --summary --group-by --report --no-summary --duration --count --transport --buffer-size --user --timeouts --hints --names --config --ready-fd --help --version ;;
        doctor) printf '%s\n' --json --help ;;
        explain) printf '%s\n' --json --help ;;
        record) printf '%s\n' --size --age --segment --min-free --sent --received --pid --comm --peer --not-peer --host --not-host --peer-port --local-port --port --not-port --ipv4 --ipv6 --netns --cgroup --unit --container --pod --cause --fault --no-benign --ignored --forwarded --own-connections --metrics --metrics-config --quiet --duration --count --transport --buffer-size --user --timeouts --hints --names --ready-fd --help ;;
        replay) printf '%s\n' --local --ignored --since --until --sent --received --pid --comm --peer --not-peer --host --not-host --peer-port --local-port --port --not-port --ipv4 --ipv6 --netns --cgroup --unit --container --pod --cause --fault --no-benign --output --sink --sink-queue --time --color --fold --quiet --numeric --summary --group-by --report --no-summary --rediagnose --timeouts --hints --help ;;
        report) printf '%s\n' --local --ignored --output --format --compare --time --quiet --since --until --sent --received --pid --comm --peer --not-peer --host --not-host --peer-port --local-port --port --not-port --ipv4 --ipv6 --netns --cgroup --unit --container --pod --cause --fault --no-benign --rediagnose --timeouts --hints --help ;;
        top) printf '%s\n' --local --since --until --sent --received --pid --comm --peer --not-peer --host --not-host --peer-port --local-port --port --not-port --ipv4 --ipv6 --netns --cgroup --unit --container --pod --cause --fault --no-benign --report --sink --metrics --metrics-config --time --color --numeric --quiet --duration --count --transport --buffer-size --user --timeouts --hints --names --ready-fd --help ;;
        join) printf '%s\n' --local --ignored --output --time --verdict --port --since --until --help ;;
        export) printf '%s\n' --local --ignored --format --anonymize --since --until --sent --received --pid --comm --peer --not-peer --host --not-host --peer-port --local-port --port --not-port --ipv4 --ipv6 --netns --cgroup --unit --container --pod --cause --fault --no-benign --help ;;
        check-config) printf '%s\n' --help ;;
    esac
}

_rsttrace_commands() { printf '%s\n' doctor explain record replay report top join export check-config; }

_rsttrace_cause() { printf '%s\n' aborted accept-overflow after-close aftermath bad-segment cleared-old-connection client-cancelled client-ended client-gave-up closed-with-unread-data connection-refused conntrack-invalid data-after-close firewall-reject gave-up-waiting given-up-earlier health-probe idle-reset idle-timeout-path injected keepalive-answer keepalive-race keepalive-timeout leaked-socket linger-zero linger2-expired listen-overflow listener-closed mptcp-subflow no-connection out-of-memory path-lost-state peer-aborted peer-closed-unread peer-lost-state peer-restarted peer-stopped-reading policy port-closed port-scan process-died process-ended process-exited refused-by-firewall relayed reused-closed-connection socket-destroyed stopped-reading time-wait tls-goodbye turned-away unknown user-timeout; }

_rsttrace_color() { printf '%s\n' auto always never; }

_rsttrace_fault() { printf '%s\n' local peer path none unknown; }

_rsttrace_fold() { printf '%s\n' auto always never; }

_rsttrace_format() { printf '%s\n' json csv pcapng; }

_rsttrace_group_by() { printf '%s\n' process pid cause fault peer peer-port local-port server direction state container pod unit netns; }

_rsttrace_join_output() { printf '%s\n' text json; }

_rsttrace_output() { printf '%s\n' text long json json-flat none; }

_rsttrace_report_format() { printf '%s\n' html markdown svg; }

_rsttrace_sink() { printf '%s\n' json: journald otlp otlp:http:// otlp:grpc:// otlp:https:// otlp:grpcs:// recording: syslog syslog:udp:// syslog:tcp:// syslog:tls://; }

_rsttrace_summary() { printf '%s\n' auto stdout stderr; }

_rsttrace_time() { printf '%s\n' local utc iso elapsed none; }

_rsttrace_transport() { printf '%s\n' auto ring perf; }

_rsttrace_verdict() { printf '%s\n' sent not-sent never-arrived cannot-be-told not-joinable; }

_rsttrace_zone() { printf '%s\n' local utc; }

# Offers values of an option of a command, or of its argument of this number. Fails for one that takes none.
_rsttrace_values() {
    case "$1 $2" in
        'rsttrace --pid'|'rsttrace -p') _rsttrace_list _rsttrace_pids ;;
        'rsttrace --comm'|'rsttrace -c') _rsttrace_list _rsttrace_comms ;;
        'rsttrace --peer') : ;;
        'rsttrace --not-peer') : ;;
        'rsttrace --host') : ;;
        'rsttrace --not-host') : ;;
        'rsttrace --peer-port') _rsttrace_list _rsttrace_services ;;
        'rsttrace --local-port') _rsttrace_list _rsttrace_services ;;
        'rsttrace --port') _rsttrace_list _rsttrace_services ;;
        'rsttrace --not-port') _rsttrace_list _rsttrace_services ;;
        'rsttrace --netns') _rsttrace_netns ;;
        'rsttrace --cgroup') _rsttrace_cgroups ;;
        'rsttrace --unit') _rsttrace_list _rsttrace_units ;;
        'rsttrace --container') : ;;
        'rsttrace --pod') : ;;
        'rsttrace --cause') _rsttrace_list _rsttrace_cause ;;
        'rsttrace --fault') _rsttrace_list _rsttrace_fault ;;
        'rsttrace --forwarded') _rsttrace_one _rsttrace_interfaces ;;
        'rsttrace --output'|'rsttrace -o') _rsttrace_one _rsttrace_output ;;
        'rsttrace --sink') _rsttrace_sinks ;;
        'rsttrace --sink-queue') : ;;
        'rsttrace --metrics') : ;;
        'rsttrace --metrics-config') _rsttrace_files "$value" ;;
        'rsttrace --metrics-peers') : ;;
        'rsttrace --time') _rsttrace_one _rsttrace_time ;;
        'rsttrace --color') _rsttrace_one _rsttrace_color ;;
        'rsttrace --fold') _rsttrace_one _rsttrace_fold ;;
        'rsttrace --summary-interval') : ;;
        'rsttrace --summary') _rsttrace_one _rsttrace_summary ;;
        'rsttrace --group-by') _rsttrace_list _rsttrace_group_by ;;
        'rsttrace --report') _rsttrace_files "$value" ;;
        'rsttrace --duration'|'rsttrace -d') : ;;
        'rsttrace --count') : ;;
        'rsttrace --transport') _rsttrace_one _rsttrace_transport ;;
        'rsttrace --buffer-size') : ;;
        'rsttrace --user') _rsttrace_one _rsttrace_users ;;
        'rsttrace --timeouts') _rsttrace_files "$value" ;;
        'rsttrace --hints') _rsttrace_files "$value" ;;
        'rsttrace --names') _rsttrace_files "$value" ;;
        'rsttrace --config') _rsttrace_files "$value" ;;
        'rsttrace --ready-fd') : ;;
        'explain 0') _rsttrace_one _rsttrace_cause ;;
        'record 0') _rsttrace_directories "$value" ;;
        'record --size') : ;;
        'record --age') : ;;
        'record --segment') : ;;
        'record --min-free') : ;;
        'record --pid'|'record -p') _rsttrace_list _rsttrace_pids ;;
        'record --comm'|'record -c') _rsttrace_list _rsttrace_comms ;;
        'record --peer') : ;;
        'record --not-peer') : ;;
        'record --host') : ;;
        'record --not-host') : ;;
        'record --peer-port') _rsttrace_list _rsttrace_services ;;
        'record --local-port') _rsttrace_list _rsttrace_services ;;
        'record --port') _rsttrace_list _rsttrace_services ;;
        'record --not-port') _rsttrace_list _rsttrace_services ;;
        'record --netns') _rsttrace_netns ;;
        'record --cgroup') _rsttrace_cgroups ;;
        'record --unit') _rsttrace_list _rsttrace_units ;;
        'record --container') : ;;
        'record --pod') : ;;
        'record --cause') _rsttrace_list _rsttrace_cause ;;
        'record --fault') _rsttrace_list _rsttrace_fault ;;
        'record --forwarded') _rsttrace_one _rsttrace_interfaces ;;
        'record --metrics') : ;;
        'record --metrics-config') _rsttrace_files "$value" ;;
        'record --duration'|'record -d') : ;;
        'record --count') : ;;
        'record --transport') _rsttrace_one _rsttrace_transport ;;
        'record --buffer-size') : ;;
        'record --user') _rsttrace_one _rsttrace_users ;;
        'record --timeouts') _rsttrace_files "$value" ;;
        'record --hints') _rsttrace_files "$value" ;;
        'record --names') _rsttrace_files "$value" ;;
        'record --ready-fd') : ;;
        'replay '[0-9]*) _rsttrace_files "$value" ;;
        'replay --local') : ;;
        'replay --since') : ;;
        'replay --until') : ;;
        'replay --pid'|'replay -p') _rsttrace_list _rsttrace_pids ;;
        'replay --comm'|'replay -c') _rsttrace_list _rsttrace_comms ;;
        'replay --peer') : ;;
        'replay --not-peer') : ;;
        'replay --host') : ;;
        'replay --not-host') : ;;
        'replay --peer-port') _rsttrace_list _rsttrace_services ;;
        'replay --local-port') _rsttrace_list _rsttrace_services ;;
        'replay --port') _rsttrace_list _rsttrace_services ;;
        'replay --not-port') _rsttrace_list _rsttrace_services ;;
        'replay --netns') _rsttrace_netns ;;
        'replay --cgroup') _rsttrace_cgroups ;;
        'replay --unit') _rsttrace_list _rsttrace_units ;;
        'replay --container') : ;;
        'replay --pod') : ;;
        'replay --cause') _rsttrace_list _rsttrace_cause ;;
        'replay --fault') _rsttrace_list _rsttrace_fault ;;
        'replay --output'|'replay -o') _rsttrace_one _rsttrace_output ;;
        'replay --sink') _rsttrace_sinks ;;
        'replay --sink-queue') : ;;
        'replay --time') _rsttrace_one _rsttrace_time ;;
        'replay --color') _rsttrace_one _rsttrace_color ;;
        'replay --fold') _rsttrace_one _rsttrace_fold ;;
        'replay --summary') _rsttrace_one _rsttrace_summary ;;
        'replay --group-by') _rsttrace_list _rsttrace_group_by ;;
        'replay --report') _rsttrace_files "$value" ;;
        'replay --timeouts') _rsttrace_files "$value" ;;
        'replay --hints') _rsttrace_files "$value" ;;
        'report '[0-9]*) _rsttrace_files "$value" ;;
        'report --local') : ;;
        'report --output'|'report -o') _rsttrace_files "$value" ;;
        'report --format') _rsttrace_one _rsttrace_report_format ;;
        'report --time') _rsttrace_one _rsttrace_zone ;;
        'report --since') : ;;
        'report --until') : ;;
        'report --pid'|'report -p') _rsttrace_list _rsttrace_pids ;;
        'report --comm'|'report -c') _rsttrace_list _rsttrace_comms ;;
        'report --peer') : ;;
        'report --not-peer') : ;;
        'report --host') : ;;
        'report --not-host') : ;;
        'report --peer-port') _rsttrace_list _rsttrace_services ;;
        'report --local-port') _rsttrace_list _rsttrace_services ;;
        'report --port') _rsttrace_list _rsttrace_services ;;
        'report --not-port') _rsttrace_list _rsttrace_services ;;
        'report --netns') _rsttrace_netns ;;
        'report --cgroup') _rsttrace_cgroups ;;
        'report --unit') _rsttrace_list _rsttrace_units ;;
        'report --container') : ;;
        'report --pod') : ;;
        'report --cause') _rsttrace_list _rsttrace_cause ;;
        'report --fault') _rsttrace_list _rsttrace_fault ;;
        'report --timeouts') _rsttrace_files "$value" ;;
        'report --hints') _rsttrace_files "$value" ;;
        'top '[0-9]*) _rsttrace_files "$value" ;;
        'top --local') : ;;
        'top --since') : ;;
        'top --until') : ;;
        'top --pid'|'top -p') _rsttrace_list _rsttrace_pids ;;
        'top --comm'|'top -c') _rsttrace_list _rsttrace_comms ;;
        'top --peer') : ;;
        'top --not-peer') : ;;
        'top --host') : ;;
        'top --not-host') : ;;
        'top --peer-port') _rsttrace_list _rsttrace_services ;;
        'top --local-port') _rsttrace_list _rsttrace_services ;;
        'top --port') _rsttrace_list _rsttrace_services ;;
        'top --not-port') _rsttrace_list _rsttrace_services ;;
        'top --netns') _rsttrace_netns ;;
        'top --cgroup') _rsttrace_cgroups ;;
        'top --unit') _rsttrace_list _rsttrace_units ;;
        'top --container') : ;;
        'top --pod') : ;;
        'top --cause') _rsttrace_list _rsttrace_cause ;;
        'top --fault') _rsttrace_list _rsttrace_fault ;;
        'top --report') _rsttrace_files "$value" ;;
        'top --sink') _rsttrace_sinks ;;
        'top --metrics') : ;;
        'top --metrics-config') _rsttrace_files "$value" ;;
        'top --time') _rsttrace_one _rsttrace_zone ;;
        'top --color') _rsttrace_one _rsttrace_color ;;
        'top --duration'|'top -d') : ;;
        'top --count') : ;;
        'top --transport') _rsttrace_one _rsttrace_transport ;;
        'top --buffer-size') : ;;
        'top --user') _rsttrace_one _rsttrace_users ;;
        'top --timeouts') _rsttrace_files "$value" ;;
        'top --hints') _rsttrace_files "$value" ;;
        'top --names') _rsttrace_files "$value" ;;
        'top --ready-fd') : ;;
        'join '[0-9]*) _rsttrace_files "$value" ;;
        'join --local') : ;;
        'join --output'|'join -o') _rsttrace_one _rsttrace_join_output ;;
        'join --time') _rsttrace_one _rsttrace_zone ;;
        'join --verdict') _rsttrace_list _rsttrace_verdict ;;
        'join --port') _rsttrace_list _rsttrace_services ;;
        'join --since') : ;;
        'join --until') : ;;
        'export '[0-9]*) _rsttrace_files "$value" ;;
        'export --local') : ;;
        'export --format') _rsttrace_one _rsttrace_format ;;
        'export --since') : ;;
        'export --until') : ;;
        'export --pid'|'export -p') _rsttrace_list _rsttrace_pids ;;
        'export --comm'|'export -c') _rsttrace_list _rsttrace_comms ;;
        'export --peer') : ;;
        'export --not-peer') : ;;
        'export --host') : ;;
        'export --not-host') : ;;
        'export --peer-port') _rsttrace_list _rsttrace_services ;;
        'export --local-port') _rsttrace_list _rsttrace_services ;;
        'export --port') _rsttrace_list _rsttrace_services ;;
        'export --not-port') _rsttrace_list _rsttrace_services ;;
        'export --netns') _rsttrace_netns ;;
        'export --cgroup') _rsttrace_cgroups ;;
        'export --unit') _rsttrace_list _rsttrace_units ;;
        'export --container') : ;;
        'export --pod') : ;;
        'export --cause') _rsttrace_list _rsttrace_cause ;;
        'export --fault') _rsttrace_list _rsttrace_fault ;;
        'check-config 0') _rsttrace_files "$value" ;;
        *) return 1 ;;
    esac
}

# Whether an option of a command takes a value.
_rsttrace_takes_value() {
    case "$1 $2" in
        'rsttrace --pid'|'rsttrace -p'|\
        'rsttrace --comm'|'rsttrace -c'|\
        'rsttrace --peer'|\
        'rsttrace --not-peer'|\
        'rsttrace --host'|\
        'rsttrace --not-host'|\
        'rsttrace --peer-port'|\
        'rsttrace --local-port'|\
        'rsttrace --port'|\
        'rsttrace --not-port'|\
        'rsttrace --netns'|\
        'rsttrace --cgroup'|\
        'rsttrace --unit'|\
        'rsttrace --container'|\
        'rsttrace --pod'|\
        'rsttrace --cause'|\
        'rsttrace --fault'|\
        'rsttrace --forwarded'|\
        'rsttrace --output'|'rsttrace -o'|\
        'rsttrace --sink'|\
        'rsttrace --sink-queue'|\
        'rsttrace --metrics'|\
        'rsttrace --metrics-config'|\
        'rsttrace --metrics-peers'|\
        'rsttrace --time'|\
        'rsttrace --color'|\
        'rsttrace --fold'|\
        'rsttrace --summary-interval'|\
        'rsttrace --summary'|\
        'rsttrace --group-by'|\
        'rsttrace --report'|\
        'rsttrace --duration'|'rsttrace -d'|\
        'rsttrace --count'|\
        'rsttrace --transport'|\
        'rsttrace --buffer-size'|\
        'rsttrace --user'|\
        'rsttrace --timeouts'|\
        'rsttrace --hints'|\
        'rsttrace --names'|\
        'rsttrace --config'|\
        'rsttrace --ready-fd'|\
        'record --size'|\
        'record --age'|\
        'record --segment'|\
        'record --min-free'|\
        'record --pid'|'record -p'|\
        'record --comm'|'record -c'|\
        'record --peer'|\
        'record --not-peer'|\
        'record --host'|\
        'record --not-host'|\
        'record --peer-port'|\
        'record --local-port'|\
        'record --port'|\
        'record --not-port'|\
        'record --netns'|\
        'record --cgroup'|\
        'record --unit'|\
        'record --container'|\
        'record --pod'|\
        'record --cause'|\
        'record --fault'|\
        'record --forwarded'|\
        'record --metrics'|\
        'record --metrics-config'|\
        'record --duration'|'record -d'|\
        'record --count'|\
        'record --transport'|\
        'record --buffer-size'|\
        'record --user'|\
        'record --timeouts'|\
        'record --hints'|\
        'record --names'|\
        'record --ready-fd'|\
        'replay --local'|\
        'replay --since'|\
        'replay --until'|\
        'replay --pid'|'replay -p'|\
        'replay --comm'|'replay -c'|\
        'replay --peer'|\
        'replay --not-peer'|\
        'replay --host'|\
        'replay --not-host'|\
        'replay --peer-port'|\
        'replay --local-port'|\
        'replay --port'|\
        'replay --not-port'|\
        'replay --netns'|\
        'replay --cgroup'|\
        'replay --unit'|\
        'replay --container'|\
        'replay --pod'|\
        'replay --cause'|\
        'replay --fault'|\
        'replay --output'|'replay -o'|\
        'replay --sink'|\
        'replay --sink-queue'|\
        'replay --time'|\
        'replay --color'|\
        'replay --fold'|\
        'replay --summary'|\
        'replay --group-by'|\
        'replay --report'|\
        'replay --timeouts'|\
        'replay --hints'|\
        'report --local'|\
        'report --output'|'report -o'|\
        'report --format'|\
        'report --time'|\
        'report --since'|\
        'report --until'|\
        'report --pid'|'report -p'|\
        'report --comm'|'report -c'|\
        'report --peer'|\
        'report --not-peer'|\
        'report --host'|\
        'report --not-host'|\
        'report --peer-port'|\
        'report --local-port'|\
        'report --port'|\
        'report --not-port'|\
        'report --netns'|\
        'report --cgroup'|\
        'report --unit'|\
        'report --container'|\
        'report --pod'|\
        'report --cause'|\
        'report --fault'|\
        'report --timeouts'|\
        'report --hints'|\
        'top --local'|\
        'top --since'|\
        'top --until'|\
        'top --pid'|'top -p'|\
        'top --comm'|'top -c'|\
        'top --peer'|\
        'top --not-peer'|\
        'top --host'|\
        'top --not-host'|\
        'top --peer-port'|\
        'top --local-port'|\
        'top --port'|\
        'top --not-port'|\
        'top --netns'|\
        'top --cgroup'|\
        'top --unit'|\
        'top --container'|\
        'top --pod'|\
        'top --cause'|\
        'top --fault'|\
        'top --report'|\
        'top --sink'|\
        'top --metrics'|\
        'top --metrics-config'|\
        'top --time'|\
        'top --color'|\
        'top --duration'|'top -d'|\
        'top --count'|\
        'top --transport'|\
        'top --buffer-size'|\
        'top --user'|\
        'top --timeouts'|\
        'top --hints'|\
        'top --names'|\
        'top --ready-fd'|\
        'join --local'|\
        'join --output'|'join -o'|\
        'join --time'|\
        'join --verdict'|\
        'join --port'|\
        'join --since'|\
        'join --until'|\
        'export --local'|\
        'export --format'|\
        'export --since'|\
        'export --until'|\
        'export --pid'|'export -p'|\
        'export --comm'|'export -c'|\
        'export --peer'|\
        'export --not-peer'|\
        'export --host'|\
        'export --not-host'|\
        'export --peer-port'|\
        'export --local-port'|\
        'export --port'|\
        'export --not-port'|\
        'export --netns'|\
        'export --cgroup'|\
        'export --unit'|\
        'export --container'|\
        'export --pod'|\
        'export --cause'|\
        'export --fault') ;;
        *) return 1 ;;
    esac
}

# Adds the lines of standard input that fit to the candidates, but for those that a list has already. Readline replaces only
# what follows the last "=" or ":".
_rsttrace_offer() {
    local candidate
    while IFS= read -r candidate; do
        if [[ $candidate == "$tail"* && ,$given != *",$candidate,"* ]]; then
            printf -v candidate '%q' "$candidate"
            candidate=$lead$candidate
            COMPREPLY+=("${candidate#"$before"}")
        fi
    done
}

# Runs a command that prints candidates for the value, or for the last one of a list.
_rsttrace_one() {
    lead=${word%"$value"} tail=$value given=''
    _rsttrace_offer < <("$@" 2>/dev/null)
}

_rsttrace_list() {
    tail=${value##*,} lead=${word%"${value##*,}"} given=${value%"${value##*,}"}
    _rsttrace_offer < <("$@" 2>/dev/null)
}

# Adds no blank after a candidate that goes on.
_rsttrace_open() {
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

_rsttrace_files() { _rsttrace_paths -f "$1"; }

_rsttrace_directories() { _rsttrace_paths -d "$1"; }

# Offers the paths of a kind of compgen that begin with a text.
_rsttrace_paths() {
    compopt -o filenames 2>/dev/null
    lead=${word%"$2"}
    local path
    while IFS= read -r path; do
        path=$lead$path
        COMPREPLY+=("${path#"$before"}")
    done < <(compgen "$1" -- "$2")
}

_rsttrace_sinks() {
    case $value in
        json:*,*)
            if [[ ${value##*,} != *=* ]]; then
                _rsttrace_list printf '%s\n' rotate= keep=
                _rsttrace_open
            fi
            ;;
        json:*) _rsttrace_files "${value#json:}" ;;
        recording:*,*)
            if [[ ${value##*,} != *=* ]]; then
                _rsttrace_list printf '%s\n' size= age= segment= min-free=
                _rsttrace_open
            fi
            ;;
        recording:*) _rsttrace_directories "${value#recording:}" ;;
        *)
            _rsttrace_one _rsttrace_sink
            _rsttrace_open
            ;;
    esac
}

# Prints "PID" or "comm" of each process that has a command line: not of the threads of the kernel.
_rsttrace_processes() {
    local directory comm _
    for directory in /proc/[0-9]*; do
        if IFS= read -r -d '' _ <"$directory/cmdline" && IFS= read -r comm <"$directory/comm"; then
            if [[ $1 == comm ]]; then echo "$comm"; else echo "${directory#/proc/}"; fi
        fi
    done 2>/dev/null | sort -u
}

_rsttrace_pids() { _rsttrace_processes pid; }

_rsttrace_comms() { _rsttrace_processes comm; }

_rsttrace_netns() {
    case $value in
        */*) _rsttrace_files "$value" ;;
        *) [[ ! -d /run/netns ]] || _rsttrace_one ls /run/netns ;;
    esac
}

_rsttrace_interfaces() { ls /sys/class/net; }

_rsttrace_services() { compgen -A service | sort -u; }

_rsttrace_users() { compgen -u; }

_rsttrace_units() {
    systemctl list-units --all --plain --no-legend --type=service,scope | while read -r unit _; do echo "$unit"; done
}

_rsttrace_cgroups() {
    _rsttrace_one _rsttrace_cgroups_below "${value#/}"
    _rsttrace_open
}

_rsttrace_cgroups_below() {
    local path
    (cd /sys/fs/cgroup && compgen -d -- "$1") | while IFS= read -r path; do echo "/$path/"; done
}

_rsttrace() {
    local word='' option='' value='' lead='' tail='' given='' before='' command=rsttrace part
    local -a words=()
    local -i i arguments=0
    COMPREPLY=()
    # Bash splits words at "=" and ":"; they are joined again, up to the cursor.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then
            before=''
            [[ $part == [=:]* ]] || part=$2
        fi
        if ((${#words[@]} > 1)) && [[ $part == [=:]* || $word == *[=:] ]]; then
            before=$word
            word+=$part
            words[${#words[@]} - 1]=$word
        else
            word=$part
            words+=("$word")
        fi
    done
    [[ $part == [=:]* ]] && before=$word
    if ((${#words[@]} > 2)) && [[ " $(_rsttrace_commands | tr '\n' ' ')" == *" ${words[1]} "* ]]; then
        command=${words[1]}
    fi
    if [[ $word == --*=* ]]; then
        option=${word%%=*} value=${word#*=}
    elif ((${#words[@]} > 2)); then
        option=${words[${#words[@]} - 2]} value=$word
    fi
    if [[ $option == -* ]] && _rsttrace_values "$command" "$option"; then
        return
    fi
    value=$word
    if [[ $word != -* && $command != rsttrace ]]; then
        # Arguments before the cursor that are no values of options.
        for ((i = 2; i < ${#words[@]} - 1; i++)); do
            if [[ ${words[i]} != -* ]] && ! _rsttrace_takes_value "$command" "${words[i - 1]}"; then
                arguments+=1
            fi
        done
        if _rsttrace_values "$command" "$arguments"; then
            return
        fi
    fi
    if [[ $word != -* && ${#words[@]} -eq 2 ]]; then
        _rsttrace_one _rsttrace_commands
    else
        _rsttrace_one _rsttrace_words "$command"
    fi
}

complete -F _rsttrace rsttrace
