//! Peers by address or network.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Parses an address or a network in CIDR notation. An IPv4-mapped IPv6 address is the IPv4 address that it stands for.
/// Fails for any other text.
pub fn parse(text: &str) -> Result<IpNet, String> {
    let net =
        text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_error| wrong(text))?;
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
    {
        return IpNet::new(v4.into(), length).map_err(|error| error.to_string());
    }
    Ok(net)
}

/// What is wrong with a text that is no address and no network.
fn wrong(text: &str) -> String {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    match (address.parse::<IpAddr>(), prefix) {
        (Ok(address), Some(prefix)) => {
            if let Some(length) = prefix.parse().ok().and_then(length_of_mask) {
                return format!("'{prefix}' is not the length of a prefix: did you mean '{address}/{length}'?");
            }
            let longest = if address.is_ipv4() { 32 } else { 128 };
            format!("'{prefix}' is not the length of a prefix: expected a number from 0 to {longest}")
        }
        _ if let Some(remedy) = remedy(text) => format!("'{text}' is not an address or network: {remedy}"),
        _ if is_name(address) => {
            format!(
                "'{address}' is not an address: names of hosts are not resolved; --host takes names that records have"
            )
        }
        _ => format!(
            "'{address}' is not an address, such as 192.0.2.7 or 2001:db8::7, and no network, such as 10.0.0.0/8"
        ),
    }
}

/// Whether a text looks like the name of a host, with or without a port.
fn is_name(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    name.contains(|character: char| character.is_ascii_alphabetic()) && port.bytes().all(|digit| digit.is_ascii_digit())
}

/// Length of the prefix that a netmask is for; `None` for what is no netmask.
fn length_of_mask(mask: Ipv4Addr) -> Option<u32> {
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() == u32::BITS).then_some(bits.leading_ones())
}

/// What to write instead of an address with a port, in brackets, or with parts left open.
fn remedy(text: &str) -> Option<String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let port = text.trim_start_matches(['*', ':']);
    if is_port(port) {
        return Some(format!("--peer-port {port} selects a port of the peer"));
    }
    let unbracketed = |text: &str| text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).map(str::to_owned);
    if let Some(address) = unbracketed(text).filter(|address| address.parse::<IpAddr>().is_ok()) {
        return Some(format!("did you mean '{address}'?"));
    }
    if let Some((address, port)) = text.rsplit_once(':').filter(|(_, port)| is_port(port)) {
        let address = unbracketed(address).unwrap_or_else(|| address.to_owned());
        return address.parse::<IpAddr>().is_ok().then(|| format!("did you mean '{address}' and --peer-port {port}?"));
    }
    // 10.0.*, 10.0.0.x, 10.0/16 and 10.0.
    let parts: Vec<&str> = text.split_once('/').map_or(text, |(parts, _)| parts).split('.').collect();
    let known: Vec<u8> = parts.iter().map_while(|part| part.parse().ok()).collect();
    let is_open = |part: &&str| ["", "*", "x"].contains(part);
    if known.is_empty() || known.len() > 3 || parts.len() > 4 || !parts.iter().skip(known.len()).all(is_open) {
        return None;
    }
    let byte = |place| known.get(place).copied().unwrap_or_default();
    let length = text.split_once('/').and_then(|(_, length)| length.parse::<u8>().ok());
    let length = length.filter(|length| *length <= 32).map_or(known.len() * 8, usize::from);
    Some(format!("did you mean '{}/{length}'?", Ipv4Addr::new(byte(0), byte(1), byte(2), byte(3))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses_networks_and_mapped_addresses() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(parse(text).map(|net| net.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn refuses_invalid_networks() {
        for (text, word) in [
            ("", "not an address"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0", "did you mean '10.0.0.0/24'?"),
            ("10.0.0.*", "did you mean '10.0.0.0/24'?"),
            ("10.1/16", "did you mean '10.1.0.0/16'?"),
            ("10.0.0.300", "not an address"),
            ("10.0.0.0/255.255.0.0", "did you mean '10.0.0.0/16'?"),
            ("10.0.0.0/255.0.255.0", "from 0 to 32"),
            (":80", "--peer-port 80"),
            ("443", "--peer-port 443"),
            ("*:80", "--peer-port 80"),
            ("10.0.0.1:443", "did you mean '10.0.0.1' and --peer-port 443?"),
            ("[::1]:80", "did you mean '::1' and --peer-port 80?"),
            ("[::1]", "did you mean '::1'?"),
            ("example.org:443", "names of hosts are not resolved"),
            ("*", "not an address"),
            ("1.2.3.4.5", "not an address"),
            ("example.org", "names of hosts are not resolved"),
            ("::/129", "from 0 to 128"),
            ("10.0.0.0/8 ", "from 0 to 32"),
        ] {
            assert!(parse(text).is_err_and(|error| error.contains(word)), "{text:?}");
        }
    }
}
