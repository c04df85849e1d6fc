//! Names of addresses and networks in the user's file (`--names`), TOML: `"10.0.0.7" = "db-1"`, `"10.0.0.0/8" = "office"`.

use std::{
    fmt, io,
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use foldhash::HashMap;
use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::findings::text;
use crate::{input_file, util::text_position::line_and_column};

/// Reason why a file of names cannot be used.
#[derive(Debug)]
pub enum NamesError {
    /// The file cannot be read.
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
    /// The file is malformed.
    Entry {
        /// Path of the file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Reason and remedy, one line.
        message: String,
    },
}

impl fmt::Display for NamesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(formatter, "--names: cannot read {}: {error}", path.display()),
            Self::Entry { path, line, column, message } => {
                write!(formatter, "{}:{line}:{column}: {message}", path.display())
            }
        }
    }
}

impl std::error::Error for NamesError {}

/// Names of addresses and networks that the user has chosen.
#[derive(Clone, Debug, Default)]
pub struct NamesFile {
    /// Names of single addresses.
    pub(super) addresses: HashMap<IpAddr, Arc<str>>,
    /// Names of networks, without host bits.
    networks: HashMap<IpNet, Arc<str>>,
    /// Prefix lengths of the networks, the longest first: IPv4, IPv6.
    lengths: [Vec<u8>; 2],
}

impl NamesFile {
    /// Reads a file; no names without one. Blocks as [`input_file::read`] does. Fails when the file cannot be read or is
    /// malformed.
    pub fn read(path: Option<&Path>) -> Result<Self, NamesError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = input_file::read(path).map_err(|error| NamesError::Read { path: path.into(), error })?;
        Self::parse(&text).map_err(|(place, message)| {
            let (line, column) = line_and_column(&text, place.start);
            NamesError::Entry { path: path.into(), line, column, message }
        })
    }

    /// Parses a file. Fails with the place of the first fault and the remedy.
    pub(super) fn parse(file: &str) -> Result<Self, (Range<usize>, String)> {
        let table = DeTable::parse(file)
            .map_err(|error| (error.span().unwrap_or_default(), malformed(file, error.span(), error.message())))?;
        let mut names = Self::default();
        for (key, value) in table.get_ref() {
            let text = key.get_ref().as_ref();
            // Without quotes, the dots of an address separate the keys of tables.
            if matches!(value.get_ref(), DeValue::Table(_)) {
                let fault = format!("write each entry as \"ADDRESS\" = \"NAME\", the address in quotes (at '{text}')");
                return Err((key.span(), fault));
            }
            let net = network(text).map_err(|fault| (key.span(), swapped(text, value.get_ref()).unwrap_or(fault)))?;
            let DeValue::String(name) = value.get_ref() else {
                return Err((value.span(), "expected a name in quotes".to_owned()));
            };
            let name =
                self::text(name).ok_or_else(|| (value.span(), "expected a name that is not empty".to_owned()))?;
            if names.insert(net, name) {
                return Err((key.span(), format!("{net} has a name already: remove one of the two")));
            }
        }
        for lengths in &mut names.lengths {
            lengths.sort_unstable_by(|one, other| other.cmp(one));
            lengths.dedup();
        }
        Ok(names)
    }

    /// Adds a name; whether there was one before.
    fn insert(&mut self, net: IpNet, name: Arc<str>) -> bool {
        if net.prefix_len() == net.max_prefix_len() {
            return self.addresses.insert(net.addr(), name).is_some();
        }
        self.lengths[usize::from(net.addr().is_ipv6())].push(net.prefix_len());
        self.networks.insert(net, name).is_some()
    }

    /// Names of the networks.
    pub(super) fn network_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.networks.values()
    }

    /// Name of the smallest network that an address is in. Looks up each prefix length that the file has.
    pub(super) fn network(&self, address: IpAddr) -> Option<&Arc<str>> {
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        lengths.iter().find_map(|&length| self.networks.get(&IpNet::new(address, length).ok()?.trunc()))
    }
}

/// Fault of an entry with name and address in the wrong order; `None` for others.
fn swapped(key: &str, value: &DeValue<'_>) -> Option<String> {
    let DeValue::String(address) = value else { return None };
    network(address).ok()?;
    Some(format!("the address comes first: write \"{address}\" = \"{}\"", key.escape_debug()))
}

/// Parses an address or a network. An IPv4-mapped address is the IPv4 address that it stands for. Fails with the
/// remedy.
fn network(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_error| {
        format!(
            "'{}' is not an address: write each entry as \"ADDRESS\" = \"NAME\", such as \"10.0.0.7\" = \"db-1\" or \
             \"10.0.0.0/8\" = \"office\"",
            text.escape_debug()
        )
    })?;
    let mapped = match net {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let net = mapped.and_then(|(v4, length)| IpNet::new(v4.into(), length).ok()).unwrap_or(net);
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("{net} has bits beyond its prefix: write {}, or {} alone", net.trunc(), net.addr()))
    }
}

/// Fault of a file that is no TOML, with the remedy where an address without quotes is the reason.
fn malformed(file: &str, span: Option<Range<usize>>, message: &str) -> String {
    let at = span.map_or(0, |span| span.start);
    let line_start = file.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line = file.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    let message = message.replace('\n', ", ");
    if network(key).is_ok() { format!("{message}: put the address in quotes (\"{key}\")") } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &str) -> NamesFile {
        NamesFile::parse(file).expect("a good file")
    }

    fn name_of<'a>(names: &'a NamesFile, address: &str) -> Option<&'a str> {
        let address = address.parse().expect("an address");
        names.addresses.get(&address).or_else(|| names.network(address)).map(|name| &**name)
    }

    #[test]
    fn the_most_specific_name_wins() {
        let names = names(
            "# what we run\n\"10.0.0.0/8\" = \"all\"\n'10.1.0.0/16' = 'paris'\n\"10.1.2.0/24\" = \"cart\"\n\
             \"10.1.2.7\" = \"db-1\"\n\"0.0.0.0/0\" = \"internet\"\n\"2001:db8::/32\" = \"office\"\n\
             \"2001:db8::7\" = \"printer\"\n\"::ffff:192.0.2.0/120\" = \"mapped\"\n\"127.0.0.1\" = \"self\"",
        );
        for (address, expected) in [
            ("10.1.2.7", Some("db-1")),
            ("10.1.2.8", Some("cart")),
            ("10.1.3.7", Some("paris")),
            ("10.2.0.1", Some("all")),
            ("8.8.8.8", Some("internet")),
            ("2001:db8::7", Some("printer")),
            ("2001:db8::8", Some("office")),
            ("2001:db9::8", None),
            ("192.0.2.9", Some("mapped")),
            ("127.0.0.1", Some("self")),
        ] {
            assert_eq!(name_of(&names, address), expected, "{address}");
        }
        assert_eq!(names.lengths, [vec![24, 16, 8, 0], vec![32]]);
    }

    #[test]
    fn faults_have_place_and_remedy() {
        for (file, line, column, expected) in [
            ("10.0.0.7 = 'db'", 1, 1, "the address in quotes"),
            ("\n10.0.0.0/8 = 'x'", 2, 9, "put the address in quotes (\"10.0.0.0/8\")"),
            ("2001:db8::7 = 'x'", 1, 5, "put the address in quotes"),
            ("'10.0.0.7' = 5", 1, 14, "expected a name in quotes"),
            ("'10.0.0.7' = ' '", 1, 14, "not empty"),
            ("'db' = '10.0.0.7'", 1, 1, "the address comes first: write \"10.0.0.7\" = \"db\""),
            ("nginx = 2", 1, 1, "'nginx' is not an address: write each entry as \"ADDRESS\" = \"NAME\""),
            ("'10.0.0.7/8' = 'x'", 1, 1, "write 10.0.0.0/8, or 10.0.0.7 alone"),
            ("'10.0.0.0/33' = 'x'", 1, 1, "not an address"),
            ("'10.0.0.7' = 'a'\n'10.0.0.7/32' = 'b'", 2, 1, "10.0.0.7/32 has a name already"),
            ("'10.0.0.7' = 'a'\n'10.0.0.7' = 'b'", 2, 1, "duplicate key"),
            ("[names]\n'10.0.0.7' = 'a'", 1, 2, "write each entry as"),
            ("'10.0.0.7' = ", 1, 14, ""),
            ("'\u{1b}[31m' = 'a'", 1, 2, ""),
        ] {
            let (place, message) = NamesFile::parse(file).expect_err(file);
            assert_eq!(line_and_column(file, place.start), (line, column), "{file}: {message}");
            assert!(message.contains(expected) && !message.contains('\n') && !message.is_empty(), "{file}: {message}");
            assert!(!message.contains('\u{1b}'), "{message:?}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let missing = NamesFile::read(Some(Path::new("/no/such/file"))).expect_err("it is not there").to_string();
        assert!(missing.starts_with("--names: cannot read /no/such/file: "), "{missing}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "\n'x' = 'y'").expect("it takes text");
        let malformed = NamesFile::read(Some(file.path())).expect_err("it is malformed").to_string();
        assert!(malformed.starts_with(&format!("{}:2:1: 'x' is not an address", file.path().display())), "{malformed}");
        assert!(NamesFile::read(None).is_ok_and(|names| names.addresses.is_empty()));
    }
}
