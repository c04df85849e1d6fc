//! A file whose content may be replaced during the run.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::Secret;
use crate::{input_file, util::messages::info};

/// Shortest interval between two looks at a file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Identity of a version of a file: device, inode, size in bytes, and time of modification in seconds and nanoseconds. A
/// link that is switched to another file (Kubernetes' secrets) changes the inode.
type FileVersion = (u64, u64, u64, i64, i64);

/// Content of a file, kept in memory and read again where the file has changed.
#[derive(Debug)]
pub(crate) struct RotatedFile {
    path: PathBuf,
    text: Secret,
    version: Option<FileVersion>,
    last_look: Instant,
    /// Whether it has been reported that the file cannot be read again.
    is_reported: bool,
}

impl RotatedFile {
    /// Reads the file. Blocks as [`input_file::read`] does. Fails where the file cannot be read; the error names the path and
    /// the reason, never the content.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        // The version first: a change in between is found at the next look.
        let version = version(path).ok();
        let text = input_file::read(path).with_context(|| format!("cannot read {}", path.display()))?.into();
        Ok(Self { path: path.to_owned(), text, version, last_look: Instant::now(), is_reported: false })
    }

    /// The content as it was read last.
    pub(crate) const fn text(&self) -> &Secret {
        &self.text
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again if it has changed, and returns whether its content is another. Looks at the file once in
    /// [`LOOK_INTERVAL`] at most, so that it may be called for each request. What cannot be read is reported once, and the
    /// content that was read before stays.
    pub(crate) fn refresh(&mut self) -> bool {
        self.last_look.elapsed() >= LOOK_INTERVAL && self.refresh_now()
    }

    /// As [`Self::refresh`], whenever the last look was: the content was refused by a peer.
    pub(crate) fn refresh_now(&mut self) -> bool {
        self.last_look = Instant::now();
        let version = match version(&self.path) {
            Ok(version) if self.version == Some(version) => return false,
            Ok(version) => version,
            Err(error) => {
                self.report(&error);
                return false;
            }
        };
        match input_file::read(&self.path) {
            Ok(text) => {
                self.version = Some(version);
                self.is_reported = false;
                let text = Secret::from(text);
                let is_changed = text != self.text;
                self.text = text;
                is_changed
            }
            Err(error) => {
                self.report(&error);
                false
            }
        }
    }

    fn report(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_reported, true) {
            info(format_args!("cannot read {} again: {error}; its earlier content stays in use", self.path.display()));
        }
    }
}

fn version(path: &Path) -> io::Result<FileVersion> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, new) = (directory.path().join("token"), directory.path().join("new"));
        fs::write(&path, "first").unwrap();
        let mut file = RotatedFile::read(&path).unwrap();
        assert!(!file.refresh_now() && !file.refresh());
        fs::write(&new, "other").unwrap();
        fs::rename(&new, &path).unwrap();
        assert!(file.refresh_now() && !file.refresh_now());
        assert_eq!(file.text().reveal(), "other");
        fs::remove_file(&path).unwrap();
        assert!(!file.refresh_now());
        assert_eq!(file.text().reveal(), "other", "what was read stays");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = RotatedFile::read(Path::new("/no/such/token")).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read /no/such/token: "), "{error:#}");
    }
}
