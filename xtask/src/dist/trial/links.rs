//! Links of the installed documents.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::super::{documents, files};

/// Fails unless every link of the pages in a directory and in its `docs` leads to a file there.
pub(super) fn lead_to_files(directory: &Path) -> Result<()> {
    let mut found = 0;
    for page in
        files(directory)?.into_iter().chain(files(&directory.join("docs"))?).filter(|file| documents::is_page(file))
    {
        let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
        let path = page.strip_prefix(directory)?;
        for target in documents::targets(&text, path) {
            let target = directory.join(target);
            ensure!(target.exists(), "{} links to {}, which is not installed", page.display(), target.display());
            found += 1;
        }
    }
    ensure!(found > 50, "{} has only {found} links", directory.display());
    Ok(())
}
