use proptest::prelude::*;

use super::*;
use crate::server::authn::trust::Trust;
use crate::server::testing::{Ca, trust_data};

fn proxy(uid: bool) -> FrontProxy {
    let (proxy, users) = (Ca::new("proxy"), Ca::new("users"));
    let mut data = trust_data(&proxy, &users, &[]);
    let user = r#"["X-Other-User", "X-Remote-User"]"#;
    data.insert("requestheader-username-headers".into(), user.into());
    if uid {
        data.insert("requestheader-uid-headers".into(), r#"["X-Remote-Uid"]"#.into());
    }
    Trust::from_data(&data).unwrap().front_proxy.unwrap()
}

fn headers(fields: &[(&str, &[u8])]) -> HeaderMap {
    let field = |(name, value): &(&str, &[u8])| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap())
    };
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        map.append(name, value);
    }
    map
}

#[test]
fn the_first_header_with_a_first_value_names_the_user() {
    let proxy = proxy(true);
    let user = |fields: &[(&str, &[u8])]| proxy.identity(&headers(fields)).unwrap().map(|i| i.user);
    assert_eq!(user(&[]), None);
    assert_eq!(user(&[("x-remote-user", b"")]), None);
    assert_eq!(user(&[("x-remote-user", b"a"), ("x-remote-user", b"b")]).unwrap(), "a");
    assert_eq!(user(&[("x-remote-user", b"a"), ("x-other-user", b"b")]).unwrap(), "b");
    assert_eq!(user(&[("x-remote-user", b"a"), ("x-other-user", b"")]).unwrap(), "a");
    let broken = proxy.identity(&headers(&[("x-remote-user", b"\xff")]));
    assert_eq!(broken, Err("header x-remote-user is not UTF-8".to_owned()));
}

#[test]
fn groups_extras_and_uid_follow_the_configured_names() {
    let fields: &[(&str, &[u8])] = &[
        ("x-remote-user", b"u"),
        ("x-remote-uid", b"1"),
        ("x-remote-group", b"a"),
        ("x-remote-group", b""),
        ("x-remote-group", b"b,c"),
        ("x-remote-extra-Scopes", b"s1"),
        ("x-remote-extra-scopes", b""),
        ("x-remote-extra-acme.com%2Fproject", b"p"),
        ("x-remote-extra-odd%2", b"kept"),
    ];
    let identity = proxy(true).identity(&headers(fields)).unwrap().unwrap();
    assert_eq!(identity.uid, "1");
    assert_eq!(identity.groups, ["a", "b,c"]);
    let extra: Vec<_> = identity.extra.iter().map(|(k, v)| (k.as_str(), v.join("|"))).collect();
    let expected = [("acme.com/project", "p"), ("odd%2", "kept"), ("scopes", "s1|")];
    assert_eq!(extra, expected.map(|(k, v)| (k, v.to_owned())));
    // A uid counts only when the cluster lists its header.
    assert_eq!(proxy(false).identity(&headers(fields)).unwrap().unwrap().uid, "");
}

#[test]
fn nothing_of_an_identity_survives() {
    let mut map = headers(&[
        ("x-other-user", b"a"),
        ("x-remote-user", b"a"),
        ("x-remote-extra-a", b"a"),
        ("x-remote-anything", b"a"),
        ("authorization", b"Basic a"),
        ("accept", b"a"),
        ("x-forwarded-for", b"a"),
    ]);
    let proxy = proxy(false);
    let without_proxy = strip(&mut map.clone(), None);
    assert_eq!(without_proxy, Stripped { impersonation: false });
    assert_eq!(strip(&mut map, Some(&proxy)), Stripped { impersonation: false });
    let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["accept", "x-forwarded-for"]);
    let mut map = headers(&[("impersonate-extra-x", b"a")]);
    assert_eq!(strip(&mut map, None), Stripped { impersonation: true });
}

/// Headers that say who asks, and some that only look like it.
const NAMES: [&str; 14] = [
    "X-Other-User",
    "X-Remote-User",
    "X_Remote_User",
    "X-Remote-Users",
    "X-Remote-Group",
    "X_Remote_Group",
    "X-Remote-Groups",
    "X-Remote-Extra-scopes",
    "X-Remote-Extra-%zz",
    "X-Remote-Extra-",
    "X-Remote-Uid",
    "Authorization",
    "Impersonate-User",
    "Accept",
];

proptest! {
    #[test]
    fn only_what_is_asserted_counts(
        fields in proptest::collection::vec(
            (proptest::sample::select(&NAMES[..]), proptest::collection::vec(any::<u8>(), 0..8)),
            0..12,
        ),
    ) {
        static PROXY: std::sync::LazyLock<FrontProxy> = std::sync::LazyLock::new(|| proxy(false));
        // What no HTTP library lets in is left out.
        let fields: Vec<(&str, &[u8])> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .filter(|(_, value)| HeaderValue::from_bytes(value).is_ok())
            .collect();
        let mut map = headers(&fields);
        let of = |name: &str| -> Vec<&[u8]> {
            fields.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect()
        };
        let first = |name: &str| of(name).first().copied().filter(|value| !value.is_empty());
        let user = first("X-Other-User").or_else(|| first("X-Remote-User"));
        match PROXY.identity(&map) {
            Ok(None) => prop_assert_eq!(user, None),
            Ok(Some(identity)) => {
                prop_assert_eq!(Some(identity.user.as_bytes()), user);
                prop_assert_eq!(&*identity.uid, "");
                let groups: Vec<&[u8]> = identity.groups.iter().map(String::as_bytes).collect();
                let mut wanted = of("X-Remote-Group");
                wanted.retain(|value| !value.is_empty());
                prop_assert_eq!(groups, wanted);
                let extras: usize = identity.extra.values().map(Vec::len).sum();
                let wanted = fields.iter().filter(|(name, _)| name.starts_with("X-Remote-Extra-"));
                prop_assert_eq!(extras, wanted.count());
            }
            // Two users must not become one by a lossy reading.
            Err(_) => prop_assert!(fields.iter().any(|(_, value)| std::str::from_utf8(value).is_err())),
        }
        let stripped = strip(&mut map, Some(&PROXY));
        prop_assert_eq!(stripped.impersonation, !of("Impersonate-User").is_empty());
        for name in map.keys() {
            let known = ["x_remote_user", "x_remote_group", "impersonate-user", "accept"];
            prop_assert!(known.contains(&name.as_str()), "{} is left", name);
        }
    }

    #[test]
    fn an_escaped_key_reads_back(key in "[a-z0-9./é%-]{0,20}") {
        let escaped = percent_encoding::utf8_percent_encode(
            &key,
            percent_encoding::NON_ALPHANUMERIC,
        ).to_string().to_ascii_lowercase();
        prop_assert_eq!(unescape(&escaped), key);
    }

    #[test]
    fn any_key_is_read_somehow(key in ".{0,30}") {
        unescape(&key);
    }
}
