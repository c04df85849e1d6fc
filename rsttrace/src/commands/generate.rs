//! What is made from the program itself, so that it cannot drift: manual page, completions, option block, pages of
//! causes and requirements.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{completions, explain, requirements};
use crate::{
    cli::{Cli, Generated},
    exit::Failure,
};

/// Prints one of them to standard output. Fails when it cannot be written to.
pub(crate) fn run(what: Generated) -> Result<(), Failure> {
    let command = Cli::command();
    let mut text = Vec::new();
    match what {
        Generated::Man => clap_mangen::Man::new(command).render(&mut text).context("cannot make the manual page")?,
        Generated::Bash => text = completions::script(Shell::Bash, &command).into_bytes(),
        Generated::Zsh => text = completions::script(Shell::Zsh, &command).into_bytes(),
        Generated::Fish => text = completions::script(Shell::Fish, &command).into_bytes(),
        Generated::Causes => explain::page(&mut text).context("cannot make the page of causes")?,
        Generated::Requirements => requirements::page(&mut text).context("cannot make the page of requirements")?,
        Generated::Options => text = command.term_width(100).render_help().to_string().into_bytes(),
    }
    io::stdout().lock().write_all(&text).map_err(Failure::stdout)
}
