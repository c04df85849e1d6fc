//! Documents for users, with links that lead to files that are shipped.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use anyhow::Result;

use super::files;
use crate::workspace;

/// Documents in the root of the sources.
const PAGES: [&str; 3] = ["CHANGELOG.md", "README.md", "SECURITY.md"];
/// Files in `docs` beside its pages: what these refer to and show.
const BESIDE: [&str; 5] =
    ["output.schema.json", "report-example.html", "report-example.jsonl.zst", "report-example.svg", "top-demo.svg"];
/// Directory in `deploy` that only makes packages.
const PACKAGING: &str = "packages";

/// Paths of the shipped documents and examples, below the directory of the sources and of each package alike.
pub(super) fn shipped(sources: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut paths: BTreeSet<PathBuf> = PAGES.iter().map(PathBuf::from).collect();
    paths.extend(BESIDE.iter().map(|name| Path::new("docs").join(name)));
    for file in files(&sources.join("docs"))? {
        if is_page(&file) {
            paths.insert(relative(&file, sources));
        }
    }
    for part in files(&sources.join("deploy"))? {
        if !part.ends_with(PACKAGING) {
            add_below(&part, sources, &mut paths)?;
        }
    }
    Ok(paths)
}

fn add_below(path: &Path, sources: &Path, paths: &mut BTreeSet<PathBuf>) -> Result<()> {
    if path.is_dir() {
        return files(path)?.iter().try_for_each(|entry| add_below(entry, sources, paths));
    }
    paths.insert(relative(path, sources));
    Ok(())
}

fn relative(path: &Path, directory: &Path) -> PathBuf {
    path.strip_prefix(directory).unwrap_or(path).to_owned()
}

pub(super) fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Content of a shipped file: in a page, links to files that are not shipped are their texts.
pub(super) fn content(sources: &Path, path: &Path, shipped: &BTreeSet<PathBuf>) -> Result<Vec<u8>> {
    let content = workspace::read(&sources.join(path))?;
    if !is_page(path) {
        return Ok(content);
    }
    let leads_somewhere = |target: &Path| shipped.iter().any(|shipped| shipped.starts_with(target));
    Ok(relinked(&String::from_utf8_lossy(&content), path, leads_somewhere).into_bytes())
}

/// A page without the links whose targets are not there.
fn relinked(page: &str, path: &Path, is_there: impl Fn(&Path) -> bool) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, link)) = next_link(rest) {
        rest = rest.get(before.len() + link.source.len()..).unwrap_or_default();
        let is_dead = target(path, link.target).is_some_and(|target| !is_there(&target));
        text.push_str(if is_dead { before.strip_suffix('!').unwrap_or(before) } else { before });
        text.push_str(if is_dead { link.text } else { link.source });
    }
    text.push_str(rest);
    text
}

/// Link of Markdown: `[text](target)`.
struct Link<'a> {
    source: &'a str,
    text: &'a str,
    target: &'a str,
}

/// The first link of a text, and what stands before it. An image is a link whose text begins behind `!`.
fn next_link(text: &str) -> Option<(&str, Link<'_>)> {
    let mut from = 0;
    loop {
        let middle = from + text.get(from..)?.find("](")?;
        let end = middle + text.get(middle..)?.find(')')?;
        // The text of a link has no brackets.
        match text.get(..middle)?.rfind(['[', ']']).filter(|&begin| text.as_bytes().get(begin) == Some(&b'[')) {
            Some(begin) => {
                let link = Link {
                    source: text.get(begin..=end)?,
                    text: text.get(begin + 1..middle)?,
                    target: text.get(middle + 2..end)?,
                };
                return Some((text.get(..begin)?, link));
            }
            None => from = middle + 2,
        }
    }
}

/// File that a link of the page at `path` leads to; `None` for one to another host or into the page.
fn target(path: &Path, link: &str) -> Option<PathBuf> {
    let link = link.split('#').next().filter(|link| !link.is_empty() && !link.contains(':'))?;
    let mut target = PathBuf::new();
    for component in path.parent()?.join(link).components() {
        match component {
            Component::ParentDir => {
                target.pop();
            }
            other => target.push(other),
        }
    }
    Some(target)
}

/// Files that the links of the page at `path` lead to.
pub(super) fn targets(page: &str, path: &Path) -> Vec<PathBuf> {
    let mut targets = Vec::new();
    let mut rest = page;
    while let Some((before, link)) = next_link(rest) {
        rest = rest.get(before.len() + link.source.len()..).unwrap_or_default();
        targets.extend(target(path, link.target));
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_what_is_not_shipped_are_texts() {
        let page =
            "a [b](output.md#c), [d](../deploy) and [e](design/f.md#g); [h](https://i/), [j](#k), ![l](m.svg) [n] (o)";
        let is_there = |path: &Path| [Path::new("docs/output.md"), Path::new("deploy")].contains(&path);
        assert_eq!(
            relinked(page, Path::new("docs/x.md"), is_there),
            "a [b](output.md#c), [d](../deploy) and e; [h](https://i/), [j](#k), l [n] (o)"
        );
    }

    #[test]
    fn links_of_shipped_pages_lead_to_shipped_files() {
        let sources = workspace::root().unwrap();
        let shipped = shipped(&sources).unwrap();
        let is_shipped = |target: &Path| shipped.iter().any(|shipped| shipped.starts_with(target));
        let (mut kept, mut pages) = (0, 0);
        for path in shipped.iter().filter(|path| is_page(path)) {
            let page = String::from_utf8(content(&sources, path, &shipped).unwrap()).unwrap();
            for target in targets(&page, path) {
                assert!(is_shipped(&target), "{}: {}", path.display(), target.display());
                kept += 1;
            }
            pages += 1;
        }
        assert!(pages > 10 && kept > 50, "{pages} pages with {kept} links");
    }
}
