//! Which outlets there are, a row each, and how the command line names one.

use std::{fmt, str::FromStr, sync::Arc};

use anyhow::{Context as _, Error, Result};

#[cfg(feature = "otlp")]
use super::otlp;
use super::{Given, Outlet, file, journald, syslog};

type Open = fn(Option<&str>, &Given) -> Result<Box<dyn Outlet>>;

/// One kind of outlet.
struct Row {
    /// What stands before the colon.
    name: &'static str,
    /// The whole of it, for messages.
    form: &'static str,
    /// Says what is wrong with what stands behind the colon.
    check: fn(Option<&str>) -> Result<(), String>,
    /// Opens it. A destination that is elsewhere and does not answer yet is no error: it may come.
    open: Open,
    /// What it does while the run goes on; the fence around the run lets that through.
    reach: Reach,
}

/// What an outlet does beyond writing to what is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It makes, renames and opens files.
    Files,
    /// It makes sockets and connects them.
    Sockets,
}

const ROWS: &[Row] = &[
    Row {
        name: "json",
        form: "json:PATH[,rotate=BYTES][,keep=N]",
        check: |rest| file::Place::of(rest).map(drop),
        open: |rest, _| Ok(Box::new(file::JsonFile::open(file::Place::of(rest).map_err(Error::msg)?)?)),
        reach: Reach::Files,
    },
    Row {
        name: "journald",
        form: "journald[:SOCKET]",
        check: |_| Ok(()),
        open: |rest, given| Ok(Box::new(journald::Journal::open(rest, given.look.clone())?)),
        reach: Reach::Sockets,
    },
    #[cfg(feature = "otlp")]
    Row {
        name: "otlp",
        form: "otlp:http://HOST[:PORT][/PATH]|otlp:grpc://HOST[:PORT]",
        check: |rest| otlp::Endpoint::of(rest).map(drop),
        open: |rest, given| {
            let endpoint = otlp::Endpoint::of(rest).map_err(Error::msg)?;
            Ok(Box::new(otlp::Collector::open(endpoint, given.look.clone(), &given.host)?))
        },
        reach: Reach::Sockets,
    },
    Row {
        name: "syslog",
        form: "syslog[:PATH|:udp://HOST[:PORT]|:tcp://HOST[:PORT]|:tls://HOST[:PORT]]",
        check: |rest| syslog::Address::of(rest).map(drop),
        open: |rest, given| {
            let address = syslog::Address::of(rest).map_err(Error::msg)?;
            Ok(Box::new(syslog::Syslog::open(address, given.look.clone(), Arc::clone(&given.host))))
        },
        reach: Reach::Sockets,
    },
];

/// An outlet as the command line names it: `json:/var/log/rsttrace.json`.
#[derive(Clone)]
pub struct Spec {
    text: String,
    row: &'static Row,
}

impl Spec {
    /// Whether it sends to a host, which may be given by name.
    pub(crate) fn names_host(&self) -> bool {
        self.text.contains("://")
    }

    /// What stands behind the colon.
    fn rest(&self) -> Option<&str> {
        self.text.split_once(':').map(|(_, rest)| rest)
    }

    /// What it does while the run goes on.
    pub(crate) const fn reach(&self) -> Reach {
        self.row.reach
    }

    /// Opens it.
    pub(crate) fn open(&self, given: &Given) -> Result<Box<dyn Outlet>> {
        (self.row.open)(self.rest(), given).with_context(|| format!("cannot open the sink {self}"))
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let Some(row) = ROWS.iter().find(|row| row.name == name) else {
            let forms: Vec<&str> = ROWS.iter().map(|row| row.form).collect();
            return Err(format!("there is no sink '{name}', only {}", forms.join(", ")));
        };
        (row.check)(rest).map_err(|error| format!("{error}; the form is {}", row.form))?;
        Ok(Self { text: text.to_owned(), row })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Spec({})", self.text)
    }
}
