//! JSON Schema of the lines (`docs/output.schema.json`), derived from the types of the records.
//!
//! Their doc comments become its descriptions. What holds for every field of a kind is said here, once; what holds for
//! one field, at the field.

use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Value, json};

use crate::model::{JoinSummary, Mark, Pair, Record, RecordingHeader};

/// Lines that only a recording has.
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(tag = "type", rename_all = "lowercase")]
enum RecordingLine {
    /// The first line of a segment of a recording.
    Recording(RecordingHeader),
    /// A line every ten seconds and at the end of a run: the recorder was there.
    Mark(Mark),
}

/// Lines of `rsttrace join`.
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(tag = "type", rename_all = "lowercase")]
enum JoinLine {
    /// One reset, with what the recordings of its two ends tell of it (`rsttrace join`).
    Pair(Box<Pair>),
    /// What was joined: the last line of `rsttrace join`.
    Join(JoinSummary),
}

/// JSON Schema of a line of [`Format::Json`](crate::format::Format::Json), and of a recording, as text.
pub fn text() -> serde_json::Result<String> {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(RecursiveTransform(finish));
    let mut schema = settings.clone().into_generator().into_root_schema_for::<Record>();
    let recording = settings.clone().into_generator().into_root_schema_for::<RecordingLine>();
    let joined = settings.into_generator().into_root_schema_for::<JoinLine>();
    for mut lines in [recording, joined] {
        for name in ["oneOf", "$defs"] {
            match (schema.get_mut(name), lines.remove(name)) {
                (Some(Value::Array(all)), Some(Value::Array(more))) => all.extend(more),
                (Some(Value::Object(all)), Some(Value::Object(more))) => all.extend(more),
                _ => {}
            }
        }
    }
    schema.insert("title".to_owned(), "One line of rsttrace --output json, of a recording, or of rsttrace join".into());
    // What every line begins with. Of `type` the derived schema knows the value, from the name of the variant.
    for line in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        line["properties"] = json!({"schema": {"const": 1}, "type": line["properties"]["type"]});
        line["required"] = json!(["schema", "type"]);
    }
    let contract = "Version 1. Fields may be added; none is renamed, retyped or dropped without raising schema.";
    schema.insert("description".to_owned(), contract.into());
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

/// Turns one schema of a Rust type into that of its JSON form.
fn finish(schema: &mut Schema) {
    // Formats that `schemars` invents for Rust's types, and validators do not know.
    if has_type(schema, "integer") || has_type(schema, "number") {
        schema.remove("format");
    } else if schema.get("format").is_some_and(|format| format == "ip") {
        schema.remove("format");
        schema.insert("anyOf".to_owned(), json!([{"format": "ipv4"}, {"format": "ipv6"}]));
    }
    // Unknown is null, and never an empty text.
    if has_type(schema, "string") && has_type(schema, "null") {
        schema.insert("minLength".to_owned(), 1.into());
    }
    // All are durations.
    if has_type(schema, "number") {
        schema.insert("minimum".to_owned(), 0.into());
    }
    // Fields may be added.
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".to_owned(), true.into());
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ").replace("`None`", "`null`");
    }
}

/// Whether a value of this JSON type is allowed by `type`.
fn has_type(schema: &Schema, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(|one| one == name),
        one => one.is_some_and(|one| one == name),
    }
}
