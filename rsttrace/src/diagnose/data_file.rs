//! Parsing of TOML data files, embedded ones and those of the user alike.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::util::text_position::line_and_column;

/// Error in a data file, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFileError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Message, one line.
    pub message: String,
}

impl fmt::Display for DataFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, message } = self;
        write!(formatter, "{line}:{column}: {message}")
    }
}

impl std::error::Error for DataFileError {}

/// Parses a file. Fails when the text is no TOML or has another form than `T`.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DataFileError> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
        DataFileError { line, column, message: error.message().replace('\n', ", ") }
    })
}
