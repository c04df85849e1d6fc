//! Records for other tools and other people: tables, and recordings in which pseudonyms stand for names and addresses.

mod anonymize;
mod table;

pub(crate) use self::{anonymize::Anonymizer, table::TableWriter};
