//! What operators say about managed certificates, and what follows from it.

use std::time::Duration;

/// Settings of managed certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Secret's name. Default `tidepole-serving`.
    pub secret: String,
    /// The Service that our `APIServices` point to. Default `tidepole`.
    pub service: String,
    /// The namespace of both; none: the one that the process runs in.
    pub namespace: Option<String>,
    /// How long an authority lives. Default a year.
    pub ca_lifetime: Duration,
    /// How long a serving pair lives. Default 90 days, as those of public authorities.
    pub cert_lifetime: Duration,
    /// How long before its end either is replaced; none: a third of its life.
    pub renew_before: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            secret: "tidepole-serving".to_owned(),
            service: "tidepole".to_owned(),
            namespace: None,
            ca_lifetime: Duration::from_hours(365 * 24),
            cert_lifetime: Duration::from_hours(90 * 24),
            renew_before: None,
        }
    }
}

/// Shorter lives end before an API server has heard of what follows them.
const MIN_LIFETIME: Duration = Duration::from_secs(10);
/// Ten years. What should live longer needs nobody to look after it.
const MAX_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates know whole seconds.
const MIN_RENEWAL: Duration = Duration::from_secs(1);

impl Settings {
    /// What is wrong with them: the setting, as the server config names it, and why it cannot be.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let label = "expected a name of lower-case letters, digits and \"-\", of at most 63";
        if !is_label(&self.service) {
            found.push(("service", label.to_owned()));
        }
        if self.namespace.as_deref().is_some_and(|namespace| !is_label(namespace)) {
            found.push(("namespace", label.to_owned()));
        }
        if self.secret.len() > 253 || !self.secret.split('.').all(is_label) {
            let message = "expected a name of lower-case letters, digits, \"-\" and \".\"";
            found.push(("secret", message.to_owned()));
        }
        let bounds = MIN_LIFETIME..=MAX_LIFETIME;
        for (key, lifetime) in
            [("caLifetime", self.ca_lifetime), ("certLifetime", self.cert_lifetime)]
        {
            if !bounds.contains(&lifetime) {
                found.push((key, "expected a duration from 10s to 87600h".to_owned()));
            }
        }
        if found.is_empty() && self.cert_lifetime > self.ca_lifetime {
            let message = "a certificate cannot live longer than its authority (caLifetime)";
            found.push(("certLifetime", message.to_owned()));
        }
        if let Some(before) = self.renew_before
            && !(MIN_RENEWAL..=self.cert_lifetime / 2).contains(&before)
        {
            found.push((
                "renewBefore",
                "expected a duration from 1s to half of certLifetime".to_owned(),
            ));
        }
        found
    }

    /// The DNS names of the serving certificate. The first is the one that the API server verifies.
    #[must_use]
    pub fn names(&self, namespace: &str) -> Vec<String> {
        let service = &self.service;
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            "localhost".to_owned(),
        ]
    }

    /// The times that follow from the settings.
    #[must_use]
    pub fn spans(&self) -> Spans {
        let renewal = |lifetime: Duration| self.renew_before.unwrap_or(lifetime / 3);
        let pair_renewal = renewal(self.cert_lifetime);
        Spans {
            authority: self.ca_lifetime,
            pair: self.cert_lifetime,
            authority_renewal: renewal(self.ca_lifetime),
            pair_renewal,
            pause: LONGEST_PAUSE.min(pair_renewal / 4),
            grace: LONGEST_GRACE.min(self.cert_lifetime / 3),
            tolerance: BACKDATED.min(pair_renewal),
        }
    }
}

/// A `caBundle` that was written reaches an API server by its watch of `APIServices`, within a second
/// or so; one that is behind on its watches has this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A rollout from certificates of another origin to ours is over after this time, and a replica that
/// was cut off has seen the Secret again.
const LONGEST_GRACE: Duration = Duration::from_hours(1);

/// Certificates begin to be valid this long before they are made, so that a clock that is behind by
/// less takes them.
pub(super) const BACKDATED: Duration = Duration::from_hours(1);

/// Times that the state machine goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spans {
    /// Life of an authority.
    pub authority: Duration,
    /// Life of a pair.
    pub pair: Duration,
    /// An authority is replaced this long before its end.
    pub authority_renewal: Duration,
    /// A pair is replaced this long before its end.
    pub pair_renewal: Duration,
    /// From a bundle that was seen to carry an authority to its use, so that every API server has
    /// heard of it: 10 s, or a quarter of a pair's renewal if that is less.
    pub pause: Duration,
    /// How long certificates that nobody knows stay in a bundle: an hour, or a third of a pair's
    /// life if that is less.
    pub grace: Duration,
    /// By how much clocks may differ: an hour, or a pair's renewal if that is less.
    pub tolerance: Duration,
}

/// An RFC 1123 label, as Services and namespaces are named.
fn is_label(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(fine)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_from_lives() {
        let spans = Settings::default().spans();
        assert_eq!(spans.pair_renewal, Duration::from_hours(30 * 24));
        assert_eq!(spans.pause, Duration::from_secs(10));
        assert_eq!((spans.grace, spans.tolerance), (LONGEST_GRACE, BACKDATED));
        let short = Settings {
            cert_lifetime: Duration::from_secs(12),
            ca_lifetime: Duration::from_secs(24),
            ..Settings::default()
        };
        let spans = short.spans();
        assert_eq!((spans.pause, spans.grace), (Duration::from_secs(1), Duration::from_secs(4)));
        assert!(short.problems().is_empty());
        let before = Some(Duration::from_secs(2));
        let spans = Settings { renew_before: before, ..short }.spans();
        assert_eq!(
            (spans.pair_renewal, spans.authority_renewal),
            (Duration::from_secs(2), Duration::from_secs(2))
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let keys = |change: &dyn Fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert!(keys(&|_| {}).is_empty());
        assert_eq!(keys(&|s| s.secret = "a_b".to_owned()), ["secret"]);
        assert_eq!(keys(&|s| s.service = "a.b".to_owned()), ["service"]);
        assert_eq!(keys(&|s| s.namespace = Some(String::new())), ["namespace"]);
        assert_eq!(keys(&|s| s.cert_lifetime = Duration::from_secs(9)), ["certLifetime"]);
        assert_eq!(keys(&|s| s.ca_lifetime = Duration::from_hours(24)), ["certLifetime"]);
        assert_eq!(keys(&|s| s.renew_before = Some(Duration::ZERO)), ["renewBefore"]);
        assert_eq!(keys(&|s| s.renew_before = Some(s.cert_lifetime)), ["renewBefore"]);
    }
}
