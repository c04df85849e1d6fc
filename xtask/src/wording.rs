//! Words that sources, tests and documents must not use: pronouns for unnamed persons, metaphors and idioms for
//! which the field has a term, and comments that refer to another comment.

use std::{
    fs, mem,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Files and directories that are checked, relative to the root of the checkout.
const CHECKED: [&str; 13] = [
    "rsttrace/src",
    "rsttrace/tests",
    "rsttrace/benches",
    "rsttrace-ebpf/src",
    "rsttrace-common/src",
    "rsttrace-common/tests",
    "xtask/src",
    "deploy",
    "docs",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

/// Files that still have such words, sorted. Entries may only be removed, and must be as soon as a file has none.
const UNCONVERTED: &[&str] = &[];

/// Pronouns for unnamed persons and metaphors, in parts, so that this file passes its own check.
const WORDS: [&str; 9] = [
    USER_NAME,
    concat!("who", "ever"),
    concat!("some", "body"),
    concat!("any", "body"),
    concat!("every", "body"),
    concat!("z", "oo"),
    concat!("do", "or"),
    concat!("he", "ir"),
    concat!("sto", "ry"),
];

/// Pronoun that is also the name of a user, which may follow the word "user".
const USER_NAME: &str = concat!("no", "body");

/// Idioms, in parts.
const IDIOMS: [&str; 3] = [concat!("in ", "peace"), concat!("without a ", "word"), concat!("of good ", "will")];

/// Beginnings of comments that refer to another comment.
const REFERENCES: [&str; 3] = ["As above.", "The same", "See above"];

/// Fails with the place of every word in a converted file, and with every entry of [`UNCONVERTED`] that is not needed.
pub(crate) fn check() -> Result<()> {
    let root = workspace::root()?;
    let mut files = Vec::new();
    for path in CHECKED {
        collect(&root.join(path), &mut files)?;
    }
    files.sort();
    let mut faults = Vec::new();
    let mut needed = Vec::new();
    for path in files {
        let text = String::from_utf8_lossy(&workspace::read(&path)?).into_owned();
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let found: Vec<_> = findings(&text, is_rust).collect();
        if !found.is_empty() && UNCONVERTED.contains(&name.as_str()) {
            needed.push(name);
            continue;
        }
        faults.extend(found.into_iter().map(|(line, word)| format!("{name}:{line}: '{word}'")));
    }
    let spare = UNCONVERTED.iter().filter(|entry| !needed.iter().any(|name| name == *entry));
    faults.extend(spare.map(|entry| format!("xtask/src/wording.rs: remove {entry} from UNCONVERTED")));
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "name the person, process or item, or use the field's term (CONTRIBUTING.md, Comments):\n{}",
        faults.join("\n")
    )
}

/// Adds the file, or all files below the directory.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let cannot = || format!("cannot list {}", path.display());
    for entry in fs::read_dir(path).with_context(cannot)? {
        collect(&entry.with_context(cannot)?.path(), files)?;
    }
    Ok(())
}

/// Line numbers, from 1, and the words found there.
fn findings(text: &str, is_rust: bool) -> impl Iterator<Item = (usize, &'static str)> {
    (1..).zip(text.lines()).flat_map(move |(number, line)| {
        let mut before = "";
        let words = line.split(|character: char| !character.is_alphanumeric() && character != '_');
        let words = words.filter(|word| !word.is_empty()).filter_map(move |word| {
            let is_user = mem::replace(&mut before, word).eq_ignore_ascii_case("user");
            let found = WORDS.into_iter().find(|listed| listed.eq_ignore_ascii_case(word));
            found.filter(|&found| !(is_user && found == USER_NAME))
        });
        let lower = line.to_lowercase();
        let idioms = IDIOMS.into_iter().filter(move |idiom| lower.contains(idiom));
        let reference = is_rust.then(|| reference(line)).flatten();
        words.chain(idioms).chain(reference).map(move |word| (number, word))
    })
}

/// Beginning of a doc comment, or of a reason for `unsafe`, that refers to another comment.
fn reference(line: &str) -> Option<&'static str> {
    let line = line.trim_start();
    if line.starts_with("// SAFETY: as above") {
        return Some("SAFETY: as above");
    }
    let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?.trim_start();
    REFERENCES.into_iter().find(|beginning| comment.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whole_words_in_any_case() {
        let [word, ..] = WORDS;
        let text = format!("{word}\nx{word} {word}_x\n({}).", word.to_uppercase());
        assert_eq!(findings(&text, false).collect::<Vec<_>>(), [(1, word), (3, word)]);
    }

    #[test]
    fn accepts_the_name_of_a_user() {
        let text = format!("user = {USER_NAME}\nUser `{USER_NAME}`\nuser and {USER_NAME}\nuser {}", WORDS[1]);
        assert_eq!(findings(&text, false).collect::<Vec<_>>(), [(3, USER_NAME), (4, WORDS[1])]);
    }

    #[test]
    fn finds_idioms() {
        let [idiom, ..] = IDIOMS;
        assert_eq!(findings(&format!("ends {idiom}."), false).collect::<Vec<_>>(), [(1, idiom)]);
    }

    #[test]
    fn finds_references_in_doc_comments_only() {
        let text =
            "/// The same for IPv6.\n// The same.\n    //! See above.\nlet x = \"As above.\";\n/// of the same kind";
        assert_eq!(findings(text, true).collect::<Vec<_>>(), [(1, "The same"), (3, "See above")]);
        assert_eq!(findings(text, false).count(), 0);
        assert_eq!(reference("  // SAFETY: as above."), Some("SAFETY: as above"));
    }
}
