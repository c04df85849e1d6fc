//! HTTP clients of several libraries, which keep connections for the next request and execute one command per line.

use std::fs;

use super::program::{self, Program};
use crate::host::{self, Lack};

const PYTHON: &str = include_str!("http_client.py");
const NODE: &str = include_str!("http_client.js");
const JAVA: &str = include_str!("HttpPool.java");

/// A library that keeps connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Client {
    /// Blocks in each request; looks at a kept connection before it uses it.
    Requests,
    /// Blocks in each request; looks at a kept connection before it uses it.
    Httpx,
    /// Python's own: blocks, and does not look.
    Stdlib,
    /// Event loop.
    Aiohttp,
    /// Event loop.
    Node,
    /// The JDK's `HttpClient`: a selector in a thread of its own.
    Java,
}

impl Client {
    /// What this host lacks to run it.
    pub(super) fn lack(self) -> Option<Lack> {
        match self {
            Self::Requests => host::lacks_python_module("requests"),
            Self::Httpx => host::lacks_python_module("httpx"),
            Self::Stdlib => host::lacks_program("python3"),
            Self::Aiohttp => host::lacks_python_module("aiohttp"),
            Self::Node => host::lacks_runtime("node"),
            Self::Java => host::lacks_runtime("java"),
        }
    }

    /// Starts it, and waits until it takes commands: `post`, `wait`, `part` or `upload`, a URL, and a number. `wait` gives up
    /// after so many seconds, `part` stops the transfer after so many bytes, `upload` sends so many.
    pub(super) fn start(self) -> Program {
        let python = |library| Program::start("python3", &["-c", PYTHON, library]);
        let program = match self {
            Self::Requests => python("requests"),
            Self::Httpx => python("httpx"),
            Self::Stdlib => python("http.client"),
            Self::Aiohttp => python("aiohttp"),
            Self::Node => Program::start("node", &["-e", NODE]),
            Self::Java => {
                let directory = program::directory();
                let source = directory.path().join("HttpPool.java");
                fs::write(&source, JAVA).unwrap();
                // The simplest garbage collector and compiler, for a short start.
                let options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", &source.display().to_string()];
                let java = Program::start("java", &options);
                // It has read its source by then.
                java.says("ready");
                return java;
            }
        };
        program.says("ready");
        program
    }
}
