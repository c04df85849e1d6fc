//! Records for other tools and other people: tables, captures, and recordings in which pseudonyms stand for names and addresses.

mod anonymize;
mod pcapng;
mod table;

pub(crate) use self::{anonymize::Anonymizer, pcapng::PcapngWriter, table::TableWriter};
