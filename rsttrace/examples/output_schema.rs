//! Prints `docs/output.schema.json`, for `cargo xtask generate`: no command of `rsttrace`, which does without `schemars`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(rsttrace::format::json_schema()?.as_bytes())
}
