//! Dependencies between the modules of a crate: no cycles, and in the user side only those that [`ALLOWED`] lists.
//!
//! A module is a file or a directory directly under `src`. Its dependencies are the paths that begin with `crate::`,
//! except in tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use syn::{
    Attribute, File, Item, ItemUse, Path as SynPath, UseTree,
    visit::{self, Visit},
};

use crate::workspace;

/// Modules of a crate, and the modules that each depends on.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The modules of the user side that each may depend on. A stage depends on `model` and `util` and on nothing of its
/// neighbours; `pipeline` and the commands assemble. Modules return errors of their own, which `exit`, above all of them, maps
/// to an exit status.
const ALLOWED: &[(&str, &[&str])] = &[
    ("attribute", &["cgroup_mounts", "cgroup_path", "input_file", "model", "util"]),
    ("capture", &["model"]),
    ("cgroup_mounts", &[]),
    ("cgroup_path", &[]),
    // The codes that `--cause` takes are those of the catalogue.
    ("cli", &["diagnose", "format", "load", "model", "report", "sink", "util"]),
    (
        "commands",
        &[
            "attribute",
            "cli",
            "config",
            "conntrack",
            "diagnose",
            "exit",
            "export",
            "filter",
            "format",
            "join",
            "load",
            // `check-config` reads the file of `metrics-config`.
            "metrics",
            "model",
            "pipeline",
            "replay",
            "report",
            "sandbox",
            "sink",
            "top",
            "util",
        ],
    ),
    ("config", &["cli", "input_file", "mistakes", "util"]),
    // Its helper process enters a sandbox of its own.
    ("conntrack", &["model", "sandbox", "util"]),
    // Records that belong together take their causes from each other; every cause is one of the catalogue.
    ("correlate", &["diagnose", "model", "util"]),
    ("credentials", &["input_file", "util"]),
    ("decode", &["model"]),
    ("diagnose", &["input_file", "model", "util"]),
    ("exit", &["attribute", "config", "diagnose", "filter", "load", "sandbox", "sink", "stack", "util"]),
    ("export", &["diagnose", "format", "model"]),
    ("filter", &["cgroup_mounts", "cgroup_path", "model", "util"]),
    ("format", &["model", "util"]),
    (
        "fuzz",
        &[
            "attribute",
            "capture",
            "cli",
            "conntrack",
            "decode",
            "diagnose",
            "export",
            "filter",
            "format",
            "load",
            "model",
            "pipeline",
            "replay",
            "summary",
            "util",
        ],
    ),
    ("input_file", &[]),
    // Captures are one kind of input.
    ("join", &["capture", "model", "util"]),
    ("load", &["cgroup_mounts", "model", "util"]),
    ("metrics", &["credentials", "model", "util"]),
    // Words that name a cause, and the subcommands.
    ("mistakes", &["cli", "diagnose"]),
    ("model", &["cgroup_path", "util"]),
    (
        "pipeline",
        &[
            "attribute",
            "cli",
            "conntrack",
            "correlate",
            "decode",
            "diagnose",
            "exit",
            "filter",
            "format",
            "load",
            "metrics",
            "model",
            "replay",
            "report",
            "sandbox",
            "sd_notify",
            "sink",
            "summary",
            "top",
            "transport",
            "util",
        ],
    ),
    // Captures are one kind of input.
    ("replay", &["capture", "model", "util"]),
    // A page of what the summary concludes, with the known timeouts as lines and each incident as its block of text.
    ("report", &["diagnose", "format", "model", "summary", "util"]),
    ("sandbox", &["util"]),
    ("sd_notify", &["util"]),
    // Each destination has its own form of a record, and most are one of the formats.
    ("sink", &["credentials", "format", "model", "util"]),
    ("stack", &[]),
    ("static_lookups", &[]),
    // A summary draws conclusions from all resets as diagnosis does from one: with the same view of a connection, the same
    // known timeouts, and the advice of the catalogue. A cause is declared with its rule, so that its text stays in `diagnose`.
    ("summary", &["diagnose", "model", "util"]),
    // The view shows the summary with what a report holds; its filter is typed as options, which `cli` parses and `filter` applies.
    ("top", &["cli", "diagnose", "filter", "format", "model", "report", "summary", "util"]),
    ("transport", &["util"]),
    ("util", &[]),
];

/// Checks both sides.
pub(crate) fn check() -> Result<()> {
    let root = workspace::root()?;
    let mut faults = String::new();
    for name in ["rsttrace-common", "rsttrace-ebpf", "rsttrace", "xtask"] {
        let graph = graph(&root.join(name).join("src"))?;
        if let Some(circle) = circle(&graph) {
            writeln!(faults, "{name}: the modules {} depend on each other in a circle", circle.join(" -> "))?;
        }
        if name == "rsttrace" {
            forbidden(&graph, ALLOWED, &mut faults)?;
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{faults}see xtask/src/layers.rs") }
}

/// Adds a line for each dependency that the table does not allow, and for each that it allows but that does not exist.
fn forbidden(graph: &Graph, allowed: &[(&str, &[&str])], faults: &mut String) -> Result<()> {
    for (module, dependencies) in graph {
        let Some((_, allowed)) = allowed.iter().find(|(name, _)| name == module) else {
            writeln!(faults, "{module}: a module that the table of layers does not have")?;
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| !allowed.contains(&dependency.as_str())) {
            writeln!(faults, "{module} may not depend on {dependency}")?;
        }
        for unused in allowed.iter().filter(|name| !dependencies.contains(**name)) {
            writeln!(faults, "{module} does not depend on {unused} any more: take it out of the table")?;
        }
    }
    Ok(())
}

/// Modules that depend on each other in a cycle, with the first one at both ends.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    graph.keys().find_map(|start| {
        let mut path = vec![start.clone()];
        reaches(graph, start, start, &mut path, &mut BTreeSet::new()).then_some(path)
    })
}

/// Whether `goal` is reachable from a module by at least one dependency. Extends `path` to it if so.
fn reaches(graph: &Graph, from: &str, goal: &str, path: &mut Vec<String>, seen: &mut BTreeSet<String>) -> bool {
    for next in graph.get(from).into_iter().flatten() {
        path.push(next.clone());
        if next == goal || seen.insert(next.clone()) && reaches(graph, next, goal, path, seen) {
            return true;
        }
        path.pop();
    }
    false
}

/// Reads every file of a crate.
fn graph(source: &Path) -> Result<Graph> {
    let mut graph = Graph::new();
    for file in rust_files(source)? {
        let module = module(source, &file).context("a file outside of the crate")?;
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        let dependencies = graph.entry(module.clone()).or_default();
        dependencies.extend(dependencies_of(&parsed));
        dependencies.remove(&module);
    }
    // `crate::Type` names an item of the crate's root, and no module.
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for dependencies in graph.values_mut() {
        dependencies.retain(|name| modules.contains(name));
    }
    for root in ["main", "lib"] {
        graph.remove(root);
    }
    Ok(graph)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension() == Some(OsStr::new("rs")) && !is_of_tests(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

/// Module of a file: the first part of its path below `src`.
fn module(source: &Path, file: &Path) -> Option<String> {
    let first = file.strip_prefix(source).ok()?.components().next()?;
    Some(Path::new(&first).file_stem()?.to_string_lossy().into_owned())
}

fn dependencies_of(file: &File) -> BTreeSet<String> {
    let mut found = Dependencies::default();
    found.visit_file(file);
    found.0
}

/// First names behind `crate::`.
#[derive(Default)]
struct Dependencies(BTreeSet<String>);

impl Dependencies {
    fn add_tree(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => drop(self.0.insert(path.ident.to_string())),
            UseTree::Name(name) => drop(self.0.insert(name.ident.to_string())),
            UseTree::Rename(rename) => drop(self.0.insert(rename.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree)),
            UseTree::Glob(_) => {}
        }
    }
}

impl<'ast> Visit<'ast> for Dependencies {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if let UseTree::Path(path) = &item.tree
            && path.ident == "crate"
        {
            self.add_tree(&path.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast SynPath) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate")
            && let Some(second) = segments.next()
        {
            self.0.insert(second.ident.to_string());
        }
        visit::visit_path(self, path);
    }
}

/// Whether a file has the tests of a module: `NAME_tests.rs`, and any in a directory `NAME_tests`.
fn is_of_tests(path: &Path) -> bool {
    let names = [path.file_stem(), path.parent().and_then(Path::file_name)];
    names.into_iter().flatten().any(|name| name.as_encoded_bytes().ends_with(b"_tests"))
}

/// Whether an attribute is `#[cfg(test)]`, or another condition that contains `test`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let mut has_test = false;
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| {
            has_test = list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|word| word == "test");
            has_test
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(edges: &[(&str, &[&str])]) -> Graph {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        edges.iter().map(|(module, names)| ((*module).to_owned(), owned(names))).collect()
    }

    #[test]
    fn paths_outside_of_tests_are_dependencies() {
        let file = syn::parse_file(
            "use crate::{a::X, b::{c, d}, e};
             use std::fmt; use super::f;
             fn g() -> crate::h::Y { crate::i::run() }
             #[cfg(test)] use crate::j;
             #[cfg(test)] mod tests { use crate::k; }
             #[cfg(any(test, fuzzing))] pub fn fuzz() { crate::l::fuzz() }",
        );
        let names: Vec<String> = dependencies_of(&file.unwrap()).into_iter().collect();
        assert_eq!(names, ["a", "b", "e", "h", "i"]);
    }

    #[test]
    fn finds_cycles() {
        assert_eq!(circle(&graph_of(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])), None);
        let circled = graph_of(&[("a", &["b"]), ("b", &["c", "d"]), ("c", &[]), ("d", &["b"])]);
        assert_eq!(circle(&circled), Some(vec!["b".into(), "d".into(), "b".into()]));
    }

    #[test]
    fn imports_match_the_table() {
        let graph = graph_of(&[("a", &["b", "c"]), ("b", &[]), ("c", &[])]);
        let mut faults = String::new();
        forbidden(&graph, &[("a", &["b"]), ("b", &["c"])], &mut faults).unwrap();
        assert_eq!(
            faults.lines().collect::<Vec<_>>(),
            [
                "a may not depend on c",
                "b does not depend on c any more: take it out of the table",
                "c: a module that the table of layers does not have"
            ]
        );
    }
}
