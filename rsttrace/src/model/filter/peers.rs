//! Peers by address or network.

use std::net::IpAddr;

use ipnet::IpNet;

/// Parses an address or a network in CIDR notation. An IPv4-mapped IPv6 address is the IPv4 address that it stands for.
/// Fails for any other text.
pub(super) fn parse(text: &str) -> Result<IpNet, String> {
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
            let longest = if address.is_ipv4() { 32 } else { 128 };
            format!("'{prefix}' is not the length of a prefix: expected a number from 0 to {longest}")
        }
        _ if address.contains(|character: char| character.is_ascii_alphabetic()) && !address.contains(':') => {
            format!(
                "'{address}' is not an address: names of hosts are not resolved; --host takes names that records have"
            )
        }
        _ => format!(
            "'{address}' is not an address, such as 192.0.2.7 or 2001:db8::7, and no network, such as 10.0.0.0/8"
        ),
    }
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
            ("10.0.0", "not an address"),
            ("10.0.0.300", "not an address"),
            ("example.org", "names of hosts are not resolved"),
            ("::/129", "from 0 to 128"),
            ("10.0.0.0/8 ", "from 0 to 32"),
        ] {
            assert!(parse(text).is_err_and(|error| error.contains(word)), "{text:?}");
        }
    }
}
