//! Host names with an optional port.

/// Parses `HOST[:PORT]` and returns `HOST:PORT`, with `port` as the default. Checks the form alone, resolves nothing.
/// Fails for another form.
pub(super) fn parse(host: &str, port: u16) -> Result<String, String> {
    let is_good = |character: char| character.is_ascii_alphanumeric() || ".-_:[]%".contains(character);
    if !host.chars().all(is_good) {
        return Err(format!("'{host}' is no host with or without a port"));
    }
    let name = host.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.ends_with(']'));
    match name {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(host.to_owned()),
        None if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => Ok(format!("{host}:{port}")),
        _ => Err(format!("'{host}' is no host with or without a port")),
    }
}
