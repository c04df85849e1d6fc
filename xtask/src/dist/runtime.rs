//! Libraries that are linked into a program beside its crates: those of Rust, of the compiler, and of C.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{arch::Arch, process, setup, workspace};

/// Crates of Rust's repository, which have its licence.
const OF_RUST: [&str; 8] =
    ["alloc", "compiler_builtins", "core", "panic_abort", "panic_unwind", "std", "std_detect", "unwind"];
/// Crates that only compilers and tests link.
const NOT_LINKED: [&str; 6] =
    ["getopts", "proc_macro", "profiler_builtins", "rustc_literal_escaper", "sysroot", "test"];
/// Licences of Rust's standard library, as the toolchain names their texts.
const TEXTS_OF_RUST: [&str; 4] = ["MIT", "Apache-2.0", "Unicode-3.0", "LLVM-exception"];
/// Documents of a toolchain, in its directory: a page of copyrights, and texts of licences.
const DOCUMENTS: &str = "share/doc/rust";
/// Texts of licences on Debian, where the packages are made.
const COMMON_LICENCES: &str = "/usr/share/common-licenses";

/// Library that is linked in.
pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) description: String,
    /// Expression of SPDX.
    pub(super) licence: &'static str,
    /// Package URL.
    pub(super) purl: String,
    /// Texts that its licence asks for.
    pub(super) notices: String,
}

/// The libraries of programs for an architecture. Fails where they are not those of rustup's toolchain and of Debian's packages.
pub(super) fn libraries(arch: Arch) -> Result<[Library; 3]> {
    Ok([of_rust(arch)?, of_the_compiler(arch)?, of_c(arch)?])
}

/// The standard library of Rust, with the crates in it.
fn of_rust(arch: Arch) -> Result<Library> {
    let said = rustc(&["-vV"])?;
    let field = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned).with_context(|| format!("`rustc -vV` has no {name}"))
    };
    let (version, commit) = (field("release")?, field("commit-hash")?);
    let crates = crates(&toolchain()?.join("lib/rustlib").join(arch.target()).join("lib"))?;
    let documents = toolchain()?.join(DOCUMENTS);
    let mut notices = format!(
        "It contains the crates {}, each under MIT or a choice that MIT is one of.\n\n",
        crates.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    );
    let copyright = documents.join("COPYRIGHT-library.html");
    notices.push_str(&plain(&String::from_utf8_lossy(&workspace::read(&copyright)?), &crates));
    for text in TEXTS_OF_RUST {
        notices.push('\n');
        notices.push_str(&text_of(&documents.join("licenses").join(format!("{text}.txt")))?);
    }
    Ok(Library {
        name: "rust-std",
        purl: format!("pkg:generic/rust-std@{version}?vcs_url=git%2Bhttps://github.com/rust-lang/rust.git%40{commit}"),
        description: format!("The standard library of Rust, of commit {commit}, linked statically"),
        version,
        licence: "(MIT OR Apache-2.0) AND Unicode-3.0 AND Apache-2.0 WITH LLVM-exception",
        notices,
    })
}

/// The compiler's library, which unwinds the stack.
fn of_the_compiler(arch: Arch) -> Result<Library> {
    let compiler = format!("{}-gcc", arch.gnu());
    let file = process::text(Command::new(compiler).arg("-print-file-name=libgcc_eh.a"))?;
    let owner = process::text(Command::new("dpkg").args(["--search", &file]))?;
    let (package, _) = owner.split_once(": ").with_context(|| format!("{file} is of no package"))?;
    let (package, version) = installed(package)?;
    let exception = toolchain()?.join(DOCUMENTS).join("licenses/GCC-exception-3.1.txt");
    Ok(Library {
        name: "libgcc",
        description: format!("The library of GCC, from Debian's package {package}, linked statically"),
        licence: "GPL-3.0-or-later WITH GCC-exception-3.1",
        purl: format!("pkg:deb/debian/{package}@{version}"),
        version,
        notices: format!("{}\n{}", text_of(&exception)?, text_of(&Path::new(COMMON_LICENCES).join("GPL-3"))?),
    })
}

/// The C library.
fn of_c(arch: Arch) -> Result<Library> {
    let (package, version) = installed(if arch.is_native() { setup::C_LIBRARY } else { setup::CROSS_C_LIBRARY })?;
    Ok(Library {
        name: "glibc",
        description: format!("The GNU C library, from Debian's package {package}, linked statically"),
        licence: "LGPL-2.1-or-later",
        purl: format!("pkg:deb/debian/{package}@{version}"),
        version,
        notices: format!(
            "Its sources are public, as are those of rsttrace, whose `cargo xtask dist` links a program with other versions of it.
The same holds for btf-rs and btf-rs-derive, which read BTF and are under this licence.

{}",
            text_of(&Path::new(COMMON_LICENCES).join("LGPL-2.1"))?
        ),
    })
}

fn rustc(arguments: &[&str]) -> Result<String> {
    process::text(Command::new("rustc").args(arguments).current_dir(workspace::root()?))
}

/// Directory of the toolchain.
fn toolchain() -> Result<PathBuf> {
    Ok(rustc(&["--print", "sysroot"])?.into())
}

/// Name and version of an installed package.
fn installed(package: &str) -> Result<(String, String)> {
    let said = process::text(Command::new("dpkg-query").args(["-W", "-f=${Package} ${Version}", package]))?;
    let (name, version) = said.split_once(' ').with_context(|| format!("{package} has no version"))?;
    Ok((name.to_owned(), version.to_owned()))
}

fn text_of(file: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&workspace::read(file)?).replace("\r\n", "\n"))
}

/// Names of the crates of others among the libraries of a toolchain.
fn crates(directory: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".rlib").and_then(|file| file.strip_prefix("lib")) else { continue };
        let name = name.rsplit_once('-').map_or(name, |(name, _hash)| name);
        let is_of_rust = OF_RUST.contains(&name) || name.starts_with("rustc_std_workspace_");
        if !is_of_rust && !NOT_LINKED.contains(&name) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Text of the toolchain's page of copyrights, with the notices of these crates alone.
fn plain(page: &str, crates: &BTreeSet<String>) -> String {
    let page = page.split_once("<h2 id=\"short-version\">").map_or(page, |(_, rest)| rest);
    let page = page.split_once("</h2>").map_or(page, |(_, rest)| rest);
    let mut sections = page.split("<h3>");
    let mut kept = sections.next().unwrap_or_default().to_owned();
    for section in sections {
        let title = section.split('<').next().unwrap_or_default();
        let name = title.rsplit(' ').next().unwrap_or_default();
        // A version begins with a digit, behind the last hyphen that a digit follows first.
        let name = name.split_once(|sign: char| sign.is_ascii_digit()).map_or(name, |(name, _)| name);
        if crates.contains(&name.trim_end_matches('-').replace('-', "_")) {
            kept.push_str("\n\n");
            kept.push_str(section);
        }
    }
    let mut text = String::new();
    let mut parts = kept.split('<');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        text.push_str(part.split_once('>').map_or("", |(_tag, text)| text));
    }
    for (entity, sign) in
        [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
    {
        text = text.replace(entity, sign);
    }
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && lines.last().is_none_or(|last: &&str| last.is_empty())) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_copyrights_has_the_notices_of_the_linked_crates() {
        let page = "<body><h2 id=\"short-version\">Short</h2>Dual-licensed &#60;Rust&#62;.\n\n\n<p>Tree</p>\
            <h3>📦 cfg-if-1.0.4</h3>\n<pre>Its notice</pre>\n<h3>📦 windows-sys-0.60.2</h3><pre>Another</pre>";
        let crates = BTreeSet::from(["cfg_if".to_owned()]);
        assert_eq!(plain(page, &crates), "Dual-licensed <Rust>.\n\nTree\n\n📦 cfg-if-1.0.4\nIts notice\n");
    }
}
