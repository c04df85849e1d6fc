//! Uses of rsttrace and exit statuses, as help and the manual pages show them.

/// Use of rsttrace in an incident, for the help, the manual page and the README.
pub(crate) struct Example {
    /// What has happened, and what the commands show.
    pub(crate) incident: &'static str,
    /// Lines for a shell.
    pub(crate) commands: &'static [&'static str],
}

/// Six incidents. No braces, which a template of help would take for its own.
pub(crate) const EXAMPLES: [Example; 6] = [
    Example {
        incident: "nginx answers some requests with 502: each incident in full, with cause and advice",
        commands: &["rsttrace --comm nginx --no-benign --output long"],
    },
    Example {
        incident: "Clients of HTTPS are refused or cut off: what this host sends them, and why",
        commands: &["rsttrace --sent --local-port 443"],
    },
    Example {
        incident: "Idle connections to the database break: an hour; the summary names the timeout that fits",
        commands: &["rsttrace --peer-port 5432 --duration 1h"],
    },
    Example {
        incident: "Thousands of resets: the most frequent causes and peers of five minutes",
        commands: &["rsttrace --output none --group-by cause,peer --duration 5m"],
    },
    Example {
        incident: "It happens at night: record as a service; in the morning, what this host has to fix",
        commands: &["rsttrace record", "rsttrace replay --since 12h --fault local --output long /var/log/rsttrace"],
    },
    Example {
        incident: "All there is is a packet capture of another host: the cause of each reset in it, as any user",
        commands: &["rsttrace replay --output long incident.pcapng"],
    },
];

/// Uses of `record`, for its help and its manual page.
pub(crate) const RECORD_EXAMPLES: [Example; 3] = [
    Example {
        incident: "Record in /var/log/rsttrace: the resets of seven days, in 2 GiB at most",
        commands: &["rsttrace record"],
    },
    Example {
        incident: "Record a month of what is not harmless, in a directory of its own",
        commands: &["rsttrace record --no-benign --age 30d --size 500M /var/log/resets"],
    },
    Example {
        incident: "Record, and print in the journal as well",
        commands: &["rsttrace --output none --sink recording:/var/log/rsttrace,size=1G --sink journald"],
    },
];

/// Uses of `replay`, for its help and its manual page.
pub(crate) const REPLAY_EXAMPLES: [Example; 5] = [
    Example {
        incident: "A packet capture, as the server in it saw its resets",
        commands: &["rsttrace replay --local 10.0.0.7 --output long incident.pcapng"],
    },
    Example {
        incident: "What is not harmless since yesterday: each incident in full",
        commands: &["rsttrace replay --since yesterday --no-benign --output long /var/log/rsttrace"],
    },
    Example {
        incident: "A quarter of an hour of one night",
        commands: &["rsttrace replay --since 2026-11-28T03:00 --until 2026-11-28T03:15 /var/log/rsttrace"],
    },
    Example {
        incident: "A week: the most frequent causes and peers",
        commands: &["rsttrace replay --since 7d --output none --group-by cause,peer /var/log/rsttrace"],
    },
    Example {
        incident: "Recordings of two hosts, copied here, in the order of time",
        commands: &["rsttrace replay --time utc gw-1 gw-2"],
    },
];

/// Uses of `report`, for its help and its manual page.
pub(crate) const REPORT_EXAMPLES: [Example; 4] = [
    Example {
        incident: "A page of the last day, to look at and to send",
        commands: &["rsttrace report --since 1d -o resets.html /var/log/rsttrace"],
    },
    Example {
        incident: "The same as text, for a ticket",
        commands: &["rsttrace report --since 1d --format markdown /var/log/rsttrace > ticket.md"],
    },
    Example {
        incident: "Whether a change helped",
        commands: &["rsttrace report --compare -o compared.html last-week.jsonl.zst this-week.jsonl.zst"],
    },
    Example {
        incident: "A page of five minutes from now on",
        commands: &["rsttrace --duration 5m --output none --report resets.html"],
    },
];

/// Uses of `top`, for its help and its manual page.
pub(crate) const TOP_EXAMPLES: [Example; 4] = [
    Example { incident: "This host, live; as root", commands: &["rsttrace top"] },
    Example {
        incident: "What is not harmless of one service, with the report for the key 'r'",
        commands: &["rsttrace top --comm nginx --no-benign --report resets.html"],
    },
    Example {
        incident: "The last day of a recording, and a packet capture; as any user",
        commands: &["rsttrace top --since 1d /var/log/rsttrace", "rsttrace top incident.pcapng"],
    },
    Example { incident: "Another host, live", commands: &["ssh -n root@gw-1 rsttrace --output json | rsttrace top -"] },
];

/// Uses of `join`, for its help and its manual page.
pub(crate) const JOIN_EXAMPLES: [Example; 3] = [
    Example {
        incident: "Recordings of a client and a server, copied here: who sent each reset, and why",
        commands: &["rsttrace join shop-1 db-1"],
    },
    Example {
        incident: "Resets that the peer's host did not send, with the proof; a capture of the router tells the side",
        commands: &["rsttrace join --verdict not-sent shop-1 db-1 router.pcap"],
    },
    Example {
        incident: "A quarter of an hour, as JSON: the cause at the sender of each reset",
        commands: &["rsttrace join --since 14:00 --until 14:15 -o json shop-1 db-1 | jq -r .cause.code"],
    },
];

/// Uses of `export`, for its help and its manual page.
pub(crate) const EXPORT_EXAMPLES: [Example; 4] = [
    Example {
        incident: "A week without what is harmless, for a spreadsheet",
        commands: &["rsttrace export --format csv --no-benign --since 7d /var/log/rsttrace > resets.csv"],
    },
    Example {
        incident: "The last hour, to hand it on without names and addresses",
        commands: &["rsttrace export --anonymize --since 1h /var/log/rsttrace | zstd > resets.jsonl.zst"],
    },
    Example {
        incident: "Resets as packets with a comment each, for Wireshark",
        commands: &["rsttrace export --format pcapng /var/log/rsttrace > resets.pcapng"],
    },
    Example {
        incident: "What was handed on, diagnosed by the rules of this version",
        commands: &["rsttrace replay --rediagnose --output long resets.jsonl.zst"],
    },
];

/// Exit statuses of a run.
pub(super) const STATUSES: &str =
    "0 success, 1 error while running, 2 usage error, 3 not possible on this host or for this user";

/// Exit statuses of `replay`, `report`, `join` and `export`.
pub(super) const REPLAY_STATUSES: &str =
    "0 success, 1 error while writing, or an input that is damaged, 2 usage error, or an input that cannot be read";

/// Template of the help: the examples come before the options.
pub(super) fn help_template() -> String {
    format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}\n{{all-args}}{{after-help}}", section(&EXAMPLES))
}

/// Section of examples in help.
pub(super) fn section(examples: &[Example]) -> String {
    let mut text = "Examples:\n".to_owned();
    for Example { incident, commands } in examples {
        text.extend(["  ", incident, "\n      ", &commands.join("\n      "), "\n"]);
    }
    text
}

/// End of the help of a subcommand with examples.
pub(super) fn after_help(examples: &[Example], statuses: &str) -> String {
    format!("{}\nExit status: {statuses}.", section(examples))
}
