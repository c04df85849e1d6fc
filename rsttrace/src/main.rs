//! `rsttrace`: see the library.

fn main() -> std::process::ExitCode {
    rsttrace::main()
}
