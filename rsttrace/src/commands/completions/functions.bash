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
