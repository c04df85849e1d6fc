//! Builds the kernel objects that are committed in `rsttrace/bpf`, or compares them with a build of the sources.

mod object;
pub(crate) mod toolchain;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use self::toolchain::Toolchain;
use crate::{
    stamp::{self, Stamp},
    workspace,
};

/// Build the kernel objects in rsttrace/bpf
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare a build with the committed objects instead
    #[arg(long)]
    pub(crate) check: bool,
}

/// Runs `cargo xtask ebpf`.
pub(crate) fn main(args: &Args) -> Result<()> {
    if args.check { check() } else { build() }
}

/// Feature flags of a variant.
pub(crate) fn features(variant: &str) -> &'static [&'static str] {
    match variant {
        "ring" => &["--features", "ring"],
        "debug" => &["--features", "debug"],
        _ => &[],
    }
}

fn build() -> Result<()> {
    let root = workspace::root()?;
    let toolchain = Toolchain::choose()?;
    eprintln!("building the kernel objects with {}", toolchain.description());

    let target = workspace::target_dir()?.join("bpf");
    let mut stamp = vec![format!("sources {}", sources(&root)?)];
    for variant in stamp::VARIANTS {
        let bytes = object::build(&toolchain, variant, &target)?;
        let path = Path::new("rsttrace/bpf").join(stamp::object_name(variant));
        workspace::write(&root.join(&path), &bytes)?;
        stamp.push(format!("{variant} {}", stamp::digest(&bytes)));
        eprintln!("{}: {} bytes", path.display(), bytes.len());
    }
    stamp.extend([toolchain.rustc_version, toolchain.linker_version]);
    workspace::write(&root.join("rsttrace/bpf/STAMP"), (stamp.join("\n") + "\n").as_bytes())
}

fn check() -> Result<()> {
    let root = workspace::root()?;
    let committed = root.join("rsttrace/bpf");
    let text = fs::read_to_string(committed.join("STAMP"))
        .context("cannot read rsttrace/bpf/STAMP: run `cargo xtask ebpf` and commit rsttrace/bpf")?;
    let stamp = stamp::parse(&text);
    if stamp.get("sources") != Some(&sources(&root)?) {
        bail!(
            "the eBPF sources differ from the committed kernel objects: run `cargo xtask ebpf` and commit rsttrace/bpf"
        );
    }

    let toolchain = Toolchain::choose()?;
    eprintln!("rebuilding the kernel objects with {}", toolchain.description());
    // Cargo would reuse an object that another bpf-linker has linked, so none is kept; the variants share the rest.
    let target = workspace::target_dir()?.join("bpf-check");
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("cannot empty {}", target.display()))?;
    }
    for variant in stamp::VARIANTS {
        let built = object::build(&toolchain, variant, &target)?;
        let name = stamp::object_name(variant);
        let mine = workspace::read(&committed.join(&name))?;
        let same = if mine == built {
            "the same"
        } else if object::without_types(&mine, &target)? == object::without_types(&built, &target)? {
            // The compiler does not always emit the types in the same order.
            "the same, but for the order of type information"
        } else {
            bail!(difference(&name, &stamp, &toolchain));
        };
        if stamp.get(variant) != Some(&stamp::digest(&mine)) {
            bail!(difference(&name, &stamp, &toolchain));
        }
        eprintln!("rsttrace/bpf/{name}: {same}");
    }
    Ok(())
}

fn sources(root: &Path) -> Result<String> {
    stamp::sources(root).context("cannot read the eBPF sources")
}

/// Why an object differs from the committed one, and the remedy, in one sentence.
fn difference(name: &str, stamp: &Stamp, toolchain: &Toolchain) -> String {
    let recorded = |tool: &str| format!("{tool} {}", stamp.get(tool).map_or("of unknown version", String::as_str));
    let (rustc, linker) = (recorded("rustc"), recorded("bpf-linker"));
    if rustc == toolchain.rustc_version && linker == toolchain.linker_version {
        return format!(
            "rsttrace/bpf/{name} is not what the sources give: run `cargo xtask ebpf` and commit rsttrace/bpf"
        );
    }
    format!(
        "rsttrace/bpf/{name} was built with {rustc} and {linker}, and {} with {} give other bytes here: \
         use the recorded versions (`cargo xtask setup`), or run `cargo xtask ebpf` and commit rsttrace/bpf",
        toolchain.rustc_version, toolchain.linker_version
    )
}
