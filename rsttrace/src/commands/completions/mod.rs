//! Completions for bash, zsh and fish, with the values that options take and without hidden items.
//!
//! Clap makes the script for zsh, in which calls of functions are put. Its script for bash offers files where an option takes
//! anything else, and knows neither lists nor `=` and `:`; its script for fish offers no values after a blank where a command
//! has subcommands. Those two are made here.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::{Arg, ArgAction, Command, ValueHint, builder::PossibleValuesParser};
use clap_complete::Shell;

/// Options whose values the shell looks up on the host, each with the function of `functions.*` that does it.
const LOOKUPS: [(&str, &str); 13] = [
    ("pid", "pids"),
    ("comm", "comms"),
    ("peer_port", "services"),
    ("local_port", "services"),
    ("port", "services"),
    ("not_port", "services"),
    ("netns", "netns"),
    ("cgroup", "cgroups"),
    ("unit", "units"),
    ("forwarded", "interfaces"),
    ("sink", "sinks"),
    ("user", "users"),
    // Not looked up, but also for the positional argument of `explain`.
    ("cause", "cause"),
];

/// Functions for bash that offer paths too, and so call those that offer values themselves.
const WITH_PATHS: [&str; 3] = ["sinks", "netns", "cgroups"];

/// Completions for a shell; empty for shells that none are made for.
pub(crate) fn script(shell: Shell, command: &Command) -> String {
    let command = visible(command);
    match shell {
        Shell::Bash => bash(&command),
        Shell::Zsh => zsh(&command),
        Shell::Fish => fish(&command),
        _ => String::new(),
    }
}

/// A copy of the command without hidden options and subcommands.
fn visible(command: &Command) -> Command {
    let copy = Command::new(command.get_name().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible));
    match command.get_version() {
        Some(version) => copy.version(version.to_owned()),
        None => copy,
    }
}

/// What can be the value of an option or argument.
enum Values {
    /// Nothing is known about it.
    Any,
    /// A path.
    File,
    /// The path of a directory.
    Directory,
    /// What the function of this name offers.
    Offered(String),
}

impl Values {
    fn of(argument: &Arg) -> Self {
        let id = argument.get_id().as_str();
        match LOOKUPS.iter().find(|(of, _)| *of == id) {
            Some((_, function)) => Self::Offered((*function).to_owned()),
            None if !listed(argument).is_empty() => Self::Offered(id.to_owned()),
            None if argument.get_value_hint() == ValueHint::AnyPath => Self::File,
            None if argument.get_value_hint() == ValueHint::DirPath => Self::Directory,
            None => Self::Any,
        }
    }
}

/// The values that clap knows, with their descriptions.
fn listed(argument: &Arg) -> Vec<(String, String)> {
    if !takes_value(argument) {
        return Vec::new();
    }
    let values = argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
    let text = |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string).unwrap_or_default();
    values.map(|value| (value.get_name().to_owned(), text(&value))).collect()
}

/// Whether the value is a list with commas.
fn is_list(argument: &Arg) -> bool {
    argument.get_value_delimiter().is_some()
}

fn takes_value(argument: &Arg) -> bool {
    argument.is_positional() || argument.get_action().takes_values()
}

/// Options and arguments of a command and its subcommands, each with the name of its command.
fn arguments(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let commands = [command].into_iter().chain(command.get_subcommands());
    commands.flat_map(|command| command.get_arguments().map(|argument| (command.get_name(), argument)))
}

/// Those that take a value.
fn with_values(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    arguments(command).filter(|(_, argument)| takes_value(argument))
}

/// Values that clap knows, with descriptions, by the name of the function that offers them.
fn offered(command: &Command) -> BTreeMap<&str, Vec<(String, String)>> {
    let values = with_values(command).map(|(_, argument)| (argument.get_id().as_str(), listed(argument)));
    values.filter(|(_, values)| !values.is_empty()).collect()
}

/// Value that stands, in the script that clap makes, for a call of the function of this name.
fn placeholder(argument: &Arg, function: &str) -> String {
    format!("{}{function}", if is_list(argument) { "@@" } else { "@" })
}

/// The words `--name` and `-n` of an option.
fn flags(argument: &Arg) -> impl Iterator<Item = String> {
    let long = argument.get_long().map(|name| format!("--{name}"));
    long.into_iter().chain(argument.get_short().map(|name| format!("-{name}")))
}

/// Pattern for an argument without a name: its command, and its number from 0, or any number.
fn positional(of: &str, argument: &Arg, number: usize) -> String {
    let is_repeatable = matches!(argument.get_action(), ArgAction::Append)
        || argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    if is_repeatable { format!("'{of} '[0-9]*") } else { format!("'{of} {number}'") }
}

fn bash(command: &Command) -> String {
    let mut script = "# Options of a command.\n_rsttrace_words() {\n    case $1 in\n".to_owned();
    for command in [command].into_iter().chain(command.get_subcommands()) {
        let options = command.get_arguments().filter_map(Arg::get_long).map(|name| format!(" --{name}"));
        let version = if command.get_version().is_some() { " --version" } else { "" };
        let words = options.chain([" --help".to_owned(), version.to_owned()]).collect::<String>();
        let _infallible = writeln!(script, "        {}) printf '%s\\n'{words} ;;", command.get_name());
    }
    script.push_str("    esac\n}\n\n_rsttrace_commands() { printf '%s\\n'");
    for command in command.get_subcommands() {
        let _infallible = write!(script, " {}", command.get_name());
    }
    script.push_str("; }\n\n");
    for (id, values) in offered(command) {
        let words: Vec<&str> = values.iter().map(|(value, _)| value.as_str()).collect();
        let _infallible = writeln!(script, "_rsttrace_{id}() {{ printf '%s\\n' {}; }}\n", words.join(" "));
    }
    script.push_str(
        "# Offers values of an option of a command, or of its argument of this number. Fails for one that takes none.\n\
         _rsttrace_values() {\n    case \"$1 $2\" in\n",
    );
    let mut takers = Vec::new();
    // Of the arguments without a name, by command.
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for (of, argument) in with_values(command) {
        let names = if argument.is_positional() {
            let number = numbers.entry(of).or_default();
            *number += 1;
            vec![positional(of, argument, *number - 1)]
        } else {
            flags(argument).map(|flag| format!("'{of} {flag}'")).collect()
        };
        let names = names.join("|");
        let action = match Values::of(argument) {
            Values::Any => ":".to_owned(),
            Values::File => "_rsttrace_files \"$value\"".to_owned(),
            Values::Directory => "_rsttrace_directories \"$value\"".to_owned(),
            Values::Offered(name) if WITH_PATHS.contains(&name.as_str()) => format!("_rsttrace_{name}"),
            Values::Offered(name) if is_list(argument) => format!("_rsttrace_list _rsttrace_{name}"),
            Values::Offered(name) => format!("_rsttrace_one _rsttrace_{name}"),
        };
        let _infallible = writeln!(script, "        {names}) {action} ;;");
        if !argument.is_positional() {
            takers.push(names);
        }
    }
    script.push_str("        *) return 1 ;;\n    esac\n}\n\n");
    let _infallible = writeln!(
        script,
        "# Whether an option of a command takes a value.\n_rsttrace_takes_value() {{\n    case \"$1 $2\" in\n        {}) ;;\n        \
         *) return 1 ;;\n    esac\n}}\n",
        takers.join("|\\\n        ")
    );
    script + include_str!("functions.bash")
}

fn zsh(command: &Command) -> String {
    let prepare = |argument: Arg| {
        if !takes_value(&argument) {
            return argument;
        }
        // Clap does not quote the colon that separates the parts of a specification.
        let name = argument.get_value_names().and_then(<[_]>::first).map(|name| name.replace(':', "\\:"));
        let argument = name.into_iter().fold(argument, Arg::value_name);
        match Values::of(&argument) {
            Values::Any => argument.value_hint(ValueHint::Other),
            Values::File | Values::Directory => argument,
            Values::Offered(name) => {
                let value = placeholder(&argument, &name);
                argument.value_parser(PossibleValuesParser::new([value]))
            }
        }
    };
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let prepared = command.clone().mut_args(prepare);
    let mut prepared = names
        .iter()
        .fold(prepared, |command, name| command.mut_subcommand(name, |subcommand| subcommand.mut_args(prepare)));
    let mut script = Vec::new();
    clap_complete::generate(Shell::Zsh, &mut prepared, "rsttrace", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    for (_, argument) in with_values(command) {
        if let Values::Offered(name) = Values::of(argument) {
            let sequence = if is_list(argument) { "_sequence " } else { "" };
            let value = format!(":({})'", placeholder(argument, &name));
            script = script.replace(&value, &format!(":{sequence}_rsttrace_{name}'"));
        }
    }
    let mut functions = String::new();
    for (id, values) in offered(command) {
        let _infallible = writeln!(functions, "_rsttrace_{id}() {{\n    local -a values=(");
        for (value, text) in values {
            let value = value.replace(':', "\\:");
            let _infallible = writeln!(functions, "        '{value}:{}'", text.replace('\'', "'\\''"));
        }
        functions.push_str("    )\n    _describe -t values value values \"$@\"\n}\n\n");
    }
    functions.push_str(include_str!("functions.zsh"));
    // Before the end of the file, which calls the first function.
    match script.rsplit_once("\nif [ ") {
        Some((before, end)) => format!("{before}\n{functions}\nif [ {end}"),
        None => script,
    }
}

fn fish(command: &Command) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let mut script = format!("set -g __rsttrace_commands {}\n\ncomplete -c rsttrace -f\n", names.join(" "));
    for sub in command.get_subcommands() {
        let about = escape(&sub.get_about().map(ToString::to_string).unwrap_or_default());
        let name = sub.get_name();
        let _infallible = writeln!(script, "complete -c rsttrace -n __rsttrace_is_first -a {name} -d '{about}'");
    }
    for (of, argument) in arguments(command) {
        let of = if of == command.get_name() { "" } else { of };
        let _infallible = write!(script, "complete -c rsttrace -n '__rsttrace_is {of}'");
        script.extend(argument.get_short().map(|name| format!(" -s {name}")));
        script.extend(argument.get_long().map(|name| format!(" -l {name}")));
        if !argument.is_positional() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let _infallible = write!(script, " -d '{}'", escape(&help));
        }
        let values = match Values::of(argument) {
            Values::Offered(name) if is_list(argument) => {
                format!(" -x -a '(__fish_complete_list , __rsttrace_{name})'")
            }
            Values::Offered(name) => format!(" -x -a '(__rsttrace_{name})'"),
            Values::File => " -r -F".to_owned(),
            Values::Directory => " -x -a '(__fish_complete_directories)'".to_owned(),
            Values::Any if takes_value(argument) => " -x".to_owned(),
            Values::Any => String::new(),
        };
        script.push_str(&values);
        script.push('\n');
    }
    script.push_str("complete -c rsttrace -s h -l help -d 'Print help'\n");
    script.push_str("complete -c rsttrace -n '__rsttrace_is ' -s V -l version -d 'Print version'\n");
    for (id, values) in offered(command) {
        let _infallible = writeln!(script, "\nfunction __rsttrace_{id}\n    printf '%s\\t%s\\n' \\");
        for (value, text) in values {
            let _infallible = writeln!(script, "        '{value}' '{}' \\", escape(&text));
        }
        script.push_str("        ;\nend\n");
    }
    script.push('\n');
    script + include_str!("functions.fish")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

    #[test]
    fn hidden_items_are_in_no_completion() {
        for shell in SHELLS {
            let script = script(shell, &Cli::command());
            for hidden in ["remember", "debug-kernel", "generate", "in Markdown", "roff"] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
            for visible in ["peer-port", "check-config", "explain", "keepalive-race", "journald"] {
                assert!(script.contains(visible), "{shell}: {visible}");
            }
        }
    }

    #[test]
    fn every_function_that_is_called_is_defined() {
        let command = Cli::command();
        for (id, function) in LOOKUPS {
            assert!(command.get_arguments().any(|argument| argument.get_id() == id), "{id}");
            for (shell, prefix, end) in
                [(Shell::Bash, "_", "()"), (Shell::Zsh, "_", "()"), (Shell::Fish, "function __", "\n")]
            {
                let script = script(shell, &command);
                assert!(script.contains(&format!("\n{prefix}rsttrace_{function}{end}")), "{shell}: {function}");
                assert!(!script.contains(&format!("@{function}")), "{shell}: {function}");
            }
        }
    }
}
