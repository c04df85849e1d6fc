//! Peers by address or network.

use std::net::IpAddr;

use ipnet::IpNet;

/// Parses an address or a network in CIDR notation. An IPv4-mapped IPv6 address is the IPv4 address that it stands for.
/// Fails for any other text.
pub(super) fn parse(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_error| {
        "expected an address or a network, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32".to_owned()
    })?;
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
    {
        return IpNet::new(v4.into(), length).map_err(|error| error.to_string());
    }
    Ok(net)
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
        for text in ["", "10.0.0.0/33", "10.0.0", "example.org", "::/129", "10.0.0.0/8 "] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
