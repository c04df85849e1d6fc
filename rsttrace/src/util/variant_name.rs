//! Names of enum variants as serde writes them.

use serde::Serialize;

/// The name under which serde serializes a variant without fields, such as `local_kernel`. Empty for any value that does
/// not serialize as a string. Text, labels and fields take names from here, so that they match the JSON records.
pub(crate) fn serde_variant_name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
