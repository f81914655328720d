use super::*;
use crate::server::testing::{Ca, trust_data};
use crate::telemetry::Telemetry;

fn read(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<Trust, BadTrust> {
    let mut data = trust_data(&Ca::new("proxy"), &Ca::new("users"), &["a"]);
    change(&mut data);
    Trust::from_data(&data)
}

fn set(key: &'static str, value: &'static str) -> impl FnOnce(&mut BTreeMap<String, String>) {
    move |data| {
        data.insert(key.to_owned(), value.to_owned());
    }
}

#[test]
fn the_config_maps_data_is_read() {
    let proxy = read(|_| {}).unwrap().front_proxy.unwrap();
    assert_eq!(proxy.allowed_names, ["a"]);
    assert_eq!(proxy.user_headers, ["x-remote-user"]);
    assert_eq!(proxy.extra_prefixes, ["x-remote-extra-"]);
    assert!(proxy.uid_headers.is_empty());
    // Absent, empty and null all mean "none".
    for empty in ["", "[]", "null"] {
        let trust = read(set("requestheader-allowed-names", empty)).unwrap();
        assert!(trust.front_proxy.unwrap().allowed_names.is_empty());
    }
    let trust = Trust::from_data(&BTreeMap::new()).unwrap();
    assert!(trust.front_proxy.is_none() && trust.client_ca.is_none());
    let trust = read(set("requestheader-client-ca-file", " \n")).unwrap();
    assert!(trust.front_proxy.is_none() && trust.client_ca.is_some());
}

#[test]
fn unusable_data_is_named() {
    let says = |key, value| read(set(key, value)).unwrap_err().to_string();
    assert!(
        says("requestheader-group-headers", "X")
            .starts_with("key requestheader-group-headers is not a JSON list of strings: ")
    );
    assert_eq!(
        says("requestheader-username-headers", r#"["a b"]"#),
        "key requestheader-username-headers names no header: \"a b\""
    );
    assert!(says("client-ca-file", "no pem").starts_with("key client-ca-file holds no usable CA"));
}

#[test]
fn a_shared_ca_without_allowed_names_is_noticed() {
    let telemetry = Telemetry::new();
    let store = TrustStore::new(Arc::new(AuthnMetrics::register(&telemetry)));
    let (one, other) = (Ca::new("one"), Ca::new("other"));
    let shared = |value: u8| {
        let line = format!("tidepole_server_trust_shared_ca {value}\n");
        assert!(telemetry.encode().contains(&line), "{}", telemetry.encode());
    };
    assert!(store.apply(&trust_data(&one, &one, &[])));
    shared(1);
    assert!(store.apply(&trust_data(&one, &one, &["front-proxy-client"])));
    shared(0);
    assert!(store.apply(&trust_data(&one, &other, &[])));
    shared(0);
    assert_eq!(store.current().generation, 3);
    assert!(
        telemetry.encode().contains("tidepole_server_trust_state{state=\"loaded\"} 1\n"),
        "{}",
        telemetry.encode()
    );
}
