//! Licences: of rsttrace, in Debian's form, and of what is linked into it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{runtime, source};
use crate::{arch::Arch, workspace};

/// Beginnings of the names of files with a licence, in capitals.
const NAMES: [&str; 5] = ["COPYING", "COPYRIGHT", "LICENCE", "LICENSE", "NOTICE"];

/// Line between two texts.
const RULE: &str = "\n================================================================================\n";

/// Texts of the licences of the libraries and crates that the program contains. Crates with one text share it.
pub(super) fn of_dependencies(sources: &Path, arch: Arch) -> Result<String> {
    let metadata = source::metadata(sources, Some(arch.target()))?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked(&metadata)? {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let label = format!("{} {} ({})", text("name"), text("version"), text("license"));
        let manifest = PathBuf::from(text("manifest_path"));
        let files = licence_files(manifest.parent().context("a manifest has no directory")?)?;
        if files.is_empty() {
            texts.entry("The package has no file with its licence.\n".to_owned()).or_default().push(label);
            continue;
        }
        for file in files {
            let text = String::from_utf8_lossy(&workspace::read(&file)?).replace("\r\n", "\n");
            texts.entry(text).or_default().push(label.clone());
        }
    }
    let mut by_name: Vec<_> = texts.into_iter().map(|(text, labels)| (labels, text)).collect();
    by_name.sort();
    let mut page = "What is linked into this program, with the licences.\n".to_owned();
    for library in runtime::libraries(arch)? {
        page.push_str(RULE);
        let _infallible = writeln!(page, "{} {} ({})", library.name, library.version, library.licence);
        let _infallible = writeln!(page, "\n{}. {}", library.description, library.notices);
    }
    for (labels, text) in by_name {
        page.push_str(RULE);
        page.push_str(&labels.join("\n"));
        page.push_str("\n\n");
        page.push_str(&text);
    }
    Ok(page)
}

/// Packages that rsttrace depends on, directly or not, other than for building and for tests.
fn linked(metadata: &Value) -> Result<Vec<&Value>> {
    let list = |value: &'static str, of: &'_ Value| of[value].as_array().cloned().unwrap_or_default();
    let packages = metadata["packages"].as_array().context("cargo's metadata have no packages")?;
    let nodes = list("nodes", &metadata["resolve"]);
    let named = |name: &str| packages.iter().find(|package| package["name"] == name);
    let mut waiting = vec![named("rsttrace").context("rsttrace is not in its workspace")?["id"].clone()];
    let mut found: Vec<Value> = Vec::new();
    while let Some(id) = waiting.pop() {
        if found.contains(&id) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id).context("a package is not resolved")?;
        for dependency in list("deps", node) {
            if list("dep_kinds", &dependency).iter().any(|kind| kind["kind"].is_null()) {
                waiting.push(dependency["pkg"].clone());
            }
        }
        found.push(id);
    }
    // Those of this workspace have no source.
    Ok(packages.iter().filter(|package| found.contains(&package["id"]) && !package["source"].is_null()).collect())
}

fn licence_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && (NAMES.iter().any(|start| name.starts_with(start)) || name.starts_with("UNLICENSE")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The file `copyright` of the `.deb`.
pub(super) fn copyright() -> String {
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: rsttrace
Comment: What is linked into the program, with its licences, is in THIRD-PARTY-LICENSES.gz.

Files: *
Copyright: 2026 the rsttrace contributors
License: MIT or Apache-2.0

Files: rsttrace-ebpf/* rsttrace/bpf/*
Copyright: 2026 the rsttrace contributors
License: MIT or GPL-2
Comment: The kernel side, which is in the program: rsttrace loads it into the kernel.

License: MIT
 Permission is hereby granted, free of charge, to any person obtaining a copy
 of this software and associated documentation files (the \"Software\"), to deal
 in the Software without restriction, including without limitation the rights
 to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 copies of the Software, and to permit persons to whom the Software is
 furnished to do so, subject to the following conditions:
 .
 The above copyright notice and this permission notice shall be included in all
 copies or substantial portions of the Software.
 .
 THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 SOFTWARE.

License: Apache-2.0
 On Debian systems, the text of this licence is in
 /usr/share/common-licenses/Apache-2.0.

License: GPL-2
 Version 2 of the GNU General Public License, and no other version.
 .
 On Debian systems, the text of this licence is in
 /usr/share/common-licenses/GPL-2.
"
    .to_owned()
}
