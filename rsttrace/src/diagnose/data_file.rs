//! TOML data files, embedded ones and those of the user alike.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::{input_file, util::text_position::line_and_column};

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

impl DataFileError {
    /// Error at this byte of the text.
    pub(super) fn at(text: &str, byte: usize, message: String) -> Self {
        let (line, column) = line_and_column(text, byte);
        Self { line, column, message }
    }
}

/// Parses a file. Fails when the text is no TOML or has another form than `T`.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DataFileError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        DataFileError::at(text, start, error.message().replace('\n', ", "))
    })
}

/// Error of an embedded table, or of the user's file that extends it.
#[derive(Debug)]
pub enum TableError {
    /// The embedded table is malformed, which a test excludes.
    Embedded(DataFileError),
    /// The file cannot be read.
    Read {
        /// Option that names the file.
        option: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
    /// The file is malformed.
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Reason, with its position.
        error: DataFileError,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(error) => write!(formatter, "a built-in table: {error}"),
            Self::Read { option, path, error } => {
                write!(formatter, "{option}: cannot read {}: {error}", path.display())
            }
            Self::Parse { path, error } => write!(formatter, "{}:{error}", path.display()),
        }
    }
}

impl std::error::Error for TableError {}

/// Applies the user's file, if there is one. Blocks as [`input_file::read`] does. Fails when it cannot be read, or with the
/// error of `apply`.
pub(super) fn apply_file(
    option: &'static str,
    file: Option<&Path>,
    apply: impl FnOnce(&str) -> Result<(), DataFileError>,
) -> Result<(), TableError> {
    let Some(path) = file else { return Ok(()) };
    let text = input_file::read(path).map_err(|error| TableError::Read { option, path: path.into(), error })?;
    apply(&text).map_err(|error| TableError::Parse { path: path.into(), error })
}
