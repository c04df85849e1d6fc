//! Names of containers of nerdctl: files in `/var/lib/nerdctl/ADDRESS-HASH/names/NAMESPACE`, each called like a
//! container and with its id in it. nerdctl leaves no image on the disk.

use std::{ffi::OsStr, path::Path};

use super::{
    findings::{ContainerFacts, Findings, is_container_id, text},
    tree::{Budget, FileCache, Folder},
};

const DATA_ROOT: &str = "var/lib/nerdctl";

/// Largest file that is read, bytes: an id, and room for a newline.
const ID_FILE_MAX: usize = 128;

/// The containers of nerdctl.
pub(super) struct Nerdctl(FileCache<String>);

impl Default for Nerdctl {
    fn default() -> Self {
        Self(FileCache::new(ID_FILE_MAX))
    }
}

impl Nerdctl {
    pub(super) fn read(&mut self, root: &Path, budget: &Budget, findings: &mut Findings) {
        self.0.begin();
        let Some(data) = Folder::begin(&root.join(DATA_ROOT), budget) else { return };
        findings.has_engine = true;
        for store in data.names() {
            let Some(namespaces) = data.enter(&store).and_then(|store| store.enter("names")) else { continue };
            for namespace in namespaces.names() {
                let Some(names) = namespaces.enter(&namespace) else { continue };
                for name in names.names() {
                    let key = [&*store, &*namespace, &*name].join(OsStr::new("/"));
                    if let Some(id) = self.0.get(&names, &name, &key, budget, parse) {
                        let facts = ContainerFacts { name: text(&name.to_string_lossy()), ..ContainerFacts::default() };
                        findings.container(&id, facts);
                    }
                }
            }
        }
    }
}

fn parse(file: &str) -> Option<String> {
    Some(file.trim()).filter(|id| is_container_id(id)).map(str::to_owned)
}
