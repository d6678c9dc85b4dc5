//! A range of addresses.

use std::net::IpAddr;
use std::str::FromStr;

/// A network such as `10.0.0.0/8` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` belongs to it. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                (net.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                (net.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }

    /// Loopback and private addresses: who may see the stats unless the file says otherwise (RFC 1918, RFC 4193,
    /// RFC 4291 section 2.5.6, RFC 3927).
    pub fn private() -> Vec<Self> {
        let known = [
            "127.0.0.0/8",
            "::1/128",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "fc00::/7",
            "fe80::/10",
        ];
        known.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is no network: write ADDRESS or ADDRESS/BITS, such as 10.0.0.0/8");
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |bits| bits.parse().map_err(|_| bad()))?;
        if bits > all {
            Err(bad())
        } else {
            Ok(Self { address, bits })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let private = Network::private();
        let inside = |text: &str| {
            private
                .iter()
                .any(|network| network.contains(text.parse().expect("address")))
        };
        assert!(
            inside("127.0.0.1")
                && inside("::ffff:10.1.2.3")
                && inside("172.31.0.1")
                && inside("fd00::1")
        );
        assert!(!inside("8.8.8.8") && !inside("172.32.0.1") && !inside("2001:db8::1"));
        assert!("10.0.0.0/33".parse::<Network>().is_err() && "x".parse::<Network>().is_err());
    }
}
