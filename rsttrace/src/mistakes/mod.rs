//! Advice for command lines that cannot be read: options that other tools have, words that name no subcommand, and values
//! of another form.

mod foreign_options;
mod foreign_values;
mod packet_filter;
mod stray_words;

use clap::{
    Command, CommandFactory as _, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::cli::Cli;

const EXPRESSION: &str = "filters are options, such as '--port 443', '--peer 10.0.0.0/8' or '--comm nginx'";

/// Adds advice to an error of the command line, in place of clap's own guess. `words` are the arguments after the program's
/// name; without them, as for a setting of a file, there is less advice. Errors without advice stay as they are, but for the
/// usage, which has nothing to say where it is that of the whole program.
pub(crate) fn advise(error: Error, words: &[String]) -> Error {
    let program = Cli::command();
    let subcommand = words.first().and_then(|word| program.find_subcommand(word));
    let mut error = corrected(error, &program);
    let is_of_word = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
    if error.kind() == ErrorKind::ArgumentConflict || is_of_word && subcommand.is_none() {
        error.remove(ContextKind::Usage);
    }
    if let Some(tip) = tip(&error, words, &program, subcommand) {
        // Guesses by spelling, and the usage with what was guessed.
        for guess in [
            ContextKind::SuggestedArg,
            ContextKind::SuggestedValue,
            ContextKind::SuggestedSubcommand,
            ContextKind::Suggested,
            ContextKind::Usage,
        ] {
            error.remove(guess);
        }
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn text(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    }
}

/// The error under its own name: clap takes any word beside an option for a subcommand, and hands an empty value to parsers
/// that cannot say more of it.
fn corrected(error: Error, program: &Command) -> Error {
    let renamed = |kind, context: &[(ContextKind, &str)]| {
        let mut error = Error::new(kind).with_cmd(program);
        for (kind, text) in context {
            error.insert(*kind, ContextValue::String((*text).to_owned()));
        }
        error
    };
    match (error.kind(), text(&error, ContextKind::InvalidSubcommand), text(&error, ContextKind::InvalidArg)) {
        (ErrorKind::ArgumentConflict, Some(word), _) if program.find_subcommand(word).is_none() => {
            renamed(ErrorKind::UnknownArgument, &[(ContextKind::InvalidArg, word)])
        }
        (ErrorKind::ValueValidation, _, Some(option)) if text(&error, ContextKind::InvalidValue) == Some("") => {
            renamed(ErrorKind::InvalidValue, &[(ContextKind::InvalidArg, option), (ContextKind::InvalidValue, "")])
        }
        _ => error,
    }
}

fn tip(error: &Error, words: &[String], program: &Command, subcommand: Option<&Command>) -> Option<String> {
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let argument = text(error, ContextKind::InvalidArg)?;
            let is_option = argument.starts_with('-');
            match subcommand {
                None if is_option => foreign_options::tip(argument, words),
                None => stray_words::tip(argument, words),
                Some(subcommand) if is_option => foreign_options::tip_in(argument, words, subcommand),
                Some(subcommand) => stray_words::tip_in(subcommand),
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand)?;
            // A filter of another tool is no misspelled subcommand: 'tcp' is like 'top'.
            let is_guessed =
                error.get(ContextKind::SuggestedSubcommand).is_some() && !packet_filter::is_expression(word);
            if is_guessed { None } else { stray_words::tip(word, words) }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let option = text(error, ContextKind::InvalidArg)?.split(' ').next()?;
            match text(error, ContextKind::InvalidValue)? {
                "" => foreign_values::empty(option, words),
                value => foreign_values::tip(option, value, program),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_has_no_usage() {
        let error = Cli::command().try_get_matches_from(["rsttrace", "-4", "-6"]).expect_err("they do not go together");
        let said = advise(error, &[]).to_string();
        assert!(said.contains("'--ipv4' cannot be used with '--ipv6'") && !said.contains("Usage"), "{said}");
    }
}
