//! What `--version` says of a build: commit, kernel objects, features, target.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::stamp;

/// Variable with the commit, for builds from an export of a checkout (`cargo xtask dist`).
const COMMIT: &str = "RSTTRACE_COMMIT";

/// Features that `--version` names, in the order of the alphabet.
const FEATURES: [&str; 3] = ["otlp", "schema", "tls"];

/// Number of digits of a commit or of a stamp that are shown.
const DIGITS: usize = 12;

/// Sets the variables that `util/build_info.rs` reads. `root` is that of the checkout, if there is one.
pub(crate) fn announce(package: &Path, root: Option<&Path>) {
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let commit = env::var(COMMIT).ok().or_else(|| published(package)).or_else(|| checked_out(root?));
    let features: Vec<_> = FEATURES.into_iter().filter(|feature| has_feature(feature)).collect();
    let target_features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = target_features.split(',').any(|feature| feature == "crt-static");
    for (name, value) in [
        ("COMMIT", commit.unwrap_or_else(|| "unknown".to_owned())),
        ("OBJECTS", objects(package)),
        ("FEATURES", if features.is_empty() { "none".to_owned() } else { features.join(", ") }),
        ("TARGET", env::var("TARGET").unwrap_or_default()),
        ("LINKING", if is_static { "static" } else { "dynamic" }.to_owned()),
    ] {
        println!("cargo::rustc-env=RSTTRACE_BUILD_{name}={value}");
    }
}

fn has_feature(name: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{}", name.to_uppercase())).is_some()
}

/// Beginning of the stamp of the sources of the kernel objects.
fn objects(package: &Path) -> String {
    let text = fs::read_to_string(package.join("bpf/STAMP")).unwrap_or_default();
    stamp::parse(&text).get("sources").map_or_else(|| "unknown".to_owned(), |sources| short(sources))
}

/// Commit that a published crate was packaged from, from the file that cargo adds to it.
fn published(package: &Path) -> Option<String> {
    let text = fs::read_to_string(package.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let commit = short(rest.split('"').nth(1)?);
    Some(if text.contains("\"dirty\"") { changed(&commit) } else { commit })
}

/// Commit of the checkout, in optimized builds: with it, each commit compiles the crate again.
fn checked_out(root: &Path) -> Option<String> {
    if env::var("PROFILE").ok()? != "release" || !root.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let log = root.join(PathBuf::from(git(&["rev-parse", "--git-path", "logs/HEAD"])?));
    for path in [log, root.join("rsttrace/src"), root.join("rsttrace-common/src")] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let commit = short(&git(&["rev-parse", "HEAD"])?);
    let sources = ["Cargo.lock", "Cargo.toml", "rsttrace", "rsttrace-common"];
    let changes = git(&[&["status", "--porcelain", "--"], &sources[..]].concat())?;
    Some(if changes.is_empty() { commit } else { changed(&commit) })
}

fn changed(commit: &str) -> String {
    format!("{commit}, with changes")
}

fn short(digits: &str) -> String {
    digits.chars().take(DIGITS).collect()
}
