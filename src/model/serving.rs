//! What a TLS listener shows its clients, as those who make it and those who show it both know it.

use std::fmt;

/// A serving certificate with its key. Its `Debug` form says nothing of either.
#[derive(Clone, PartialEq, Eq)]
pub struct ServingPair {
    /// Certificate chain in PEM, leaf first.
    pub certificate: Vec<u8>,
    /// Private key in PEM (PKCS#8, PKCS#1 or SEC1).
    pub key: Vec<u8>,
}

impl fmt::Debug for ServingPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServingPair")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_printed() {
        let pair = ServingPair { certificate: b"public".to_vec(), key: b"canary".to_vec() };
        assert_eq!(format!("{pair:?}"), "ServingPair");
    }
}
