use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::model::ManualClock;
use crate::server::testing::{Ca, trust_data};

fn peer(certificate: &str) -> PeerState {
    let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    PeerState::new(Peer::new(Some(&[leaf])))
}

#[test]
fn a_certificate_that_expires_on_a_live_connection_stops_counting() {
    let (proxy_ca, users) = (Ca::new("proxy"), Ca::new("users"));
    let trust = Trust::from_data(&trust_data(&proxy_ca, &users, &[])).unwrap();
    let leaf = proxy_ca.leaf(|p| p.not_after = rcgen::date_time_ymd(2030, 1, 1));
    let state = peer(&leaf.certificate);
    let clock = ManualClock::at("2029-12-31T23:59:30Z".parse().unwrap());
    let standing = || state.judge(&trust, &clock).unwrap().standing();
    assert_eq!(standing(), Standing::FrontProxy);
    // Judged again once a minute.
    clock.advance(LIFE / 2);
    assert_eq!(standing(), Standing::FrontProxy);
    clock.advance(LIFE / 2 + Duration::from_secs(1));
    assert_eq!(standing(), Standing::Stranger);
    assert!(PeerState::new(None).judge(&trust, &clock).is_none());
}

#[test]
fn an_identity_is_built_once_while_its_headers_stay_the_same() {
    let ca = Ca::new("proxy");
    let trust = Trust::from_data(&trust_data(&ca, &ca, &[])).unwrap();
    let proxy = trust.front_proxy.as_ref().unwrap();
    let state = PeerState::new(None);
    let asserted = |generation, user: &'static str, group: &'static str, other: &'static str| {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-remote-user", user), ("x-remote-group", group), ("x", other)] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        state.asserted(generation, proxy, &headers).unwrap().unwrap()
    };
    let first = asserted(1, "jane", "a", "1");
    assert!(Arc::ptr_eq(&first, &asserted(1, "jane", "a", "2")));
    let other = asserted(1, "jane", "b", "1");
    assert_eq!(other.identity.groups[0], "b");
    // Another trust may read other headers.
    let again = asserted(1, "jane", "a", "1");
    assert!(!Arc::ptr_eq(&again, &asserted(2, "jane", "a", "1")));
    assert!(state.asserted(2, proxy, &HeaderMap::new()).unwrap().is_none());
}
