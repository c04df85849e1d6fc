//! What is made from the program itself, so that it cannot drift: manual pages, completions, examples, option block, pages
//! of causes and requirements.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{completions, explain, man, requirements};
use crate::{
    cli::{Cli, EXAMPLES, Generated},
    exit::Failure,
};

/// Template of the help for the README, which has the examples elsewhere.
const WITHOUT_EXAMPLES: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}";

/// The examples as a script, a comment before each.
fn examples() -> String {
    let scripts = EXAMPLES.iter().map(|example| format!("# {}\n{}\n", example.incident, example.commands.join("\n")));
    scripts.collect::<Vec<_>>().join("\n")
}

/// Prints one of them to standard output. Fails when it cannot be written to.
pub(crate) fn run(what: Generated) -> Result<(), Failure> {
    let command = Cli::command();
    let mut text = Vec::new();
    match what {
        Generated::Man => text = man::page(&command, None)?,
        Generated::ManDoctor => text = man::page(&command, Some("doctor"))?,
        Generated::ManExplain => text = man::page(&command, Some("explain"))?,
        Generated::ManRecord => text = man::page(&command, Some("record"))?,
        Generated::ManReplay => text = man::page(&command, Some("replay"))?,
        Generated::ManReport => text = man::page(&command, Some("report"))?,
        Generated::ManTop => text = man::page(&command, Some("top"))?,
        Generated::ManJoin => text = man::page(&command, Some("join"))?,
        Generated::ManExport => text = man::page(&command, Some("export"))?,
        Generated::ManCheckConfig => text = man::page(&command, Some("check-config"))?,
        Generated::Bash => text = completions::script(Shell::Bash, &command).into_bytes(),
        Generated::Zsh => text = completions::script(Shell::Zsh, &command).into_bytes(),
        Generated::Fish => text = completions::script(Shell::Fish, &command).into_bytes(),
        Generated::Causes => explain::page(&mut text).context("cannot make the page of causes")?,
        Generated::Requirements => requirements::page(&mut text).context("cannot make the page of requirements")?,
        Generated::Options => {
            let mut command = command.help_template(WITHOUT_EXAMPLES).term_width(100);
            text = command.render_help().to_string().into_bytes();
        }
        Generated::Examples => text = examples().into_bytes(),
    }
    io::stdout().lock().write_all(&text).map_err(Failure::stdout)
}
