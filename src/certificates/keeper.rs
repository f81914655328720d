//! What follows from what was seen. No cluster, no clock, no waiting: [`Keeper::look`] takes the
//! Secret, the bundles and the time, and says what to serve, what to write, and when to look again.
//!
//! It remembers what it has to: the last Secret that was whole (to bring it back when it is
//! deleted), what it serves, and since when it has seen which certificate in the bundles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::authority::{Authority, IssueError, plus};
use super::bundle::Bundle;
use super::content::{Content, is_same_set};
use super::pair::Pair;
use super::settings::Spans;
use super::x509::{Certificate, vouch};
use crate::model::Tick;

/// Certificates that nobody knows, kept in a bundle for a while, are at most so many.
const MAX_STRANGERS: usize = 16;

/// The Secret, as it was seen.
#[derive(Clone, Debug)]
pub(super) enum Secret {
    /// It could not be read.
    Unknown,
    /// There is none.
    Absent,
    /// Its data.
    There(BTreeMap<String, Vec<u8>>),
}

/// What was seen, and when.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) secret: Secret,
    /// Of each of our `APIServices`; `None` when they could not all be looked at.
    pub(super) bundles: Option<&'a [Bundle]>,
    pub(super) now: Timestamp,
    pub(super) tick: Tick,
}

/// What is to be renewed by a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotation {
    /// The pair, by the same authority.
    Pair,
    /// The authority, and the pair with it.
    Authority,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// The pair to be served from now on, when it is another one.
    pub(super) serve: Option<Arc<Pair>>,
    /// What the Secret should be, and what that renews.
    pub(super) secret: Result<Option<(Content, Option<Rotation>)>, IssueError>,
    /// `caBundle`s to be written, by `APIService`.
    pub(super) bundles: Vec<(String, String)>,
    /// When something is due at the latest that can be known now.
    pub(super) wake: Option<Duration>,
    /// Why this replica should not get requests; nothing from the first time on that there is
    /// nothing.
    pub(super) unready: Option<String>,
}

/// What is served.
#[derive(Debug)]
struct Serving {
    pair: Arc<Pair>,
    /// Who vouches for it, if anybody known does.
    issuer: Option<Certificate>,
    /// Whether that is an authority of ours, and not one of those that were in the bundles before.
    is_ours: bool,
}

/// The state machine of one replica.
#[derive(Debug)]
pub(super) struct Keeper {
    names: Vec<String>,
    spans: Spans,
    /// The last content that could sign.
    memory: Content,
    serving: Option<Serving>,
    /// What all bundles carry, and since when they surely do: since the first look after any of them
    /// was written. One that was there at two looks may have been missing in between.
    carried: Vec<(Certificate, Tick)>,
    /// The bundles at the last look, by name and [`Bundle::mark`].
    versions: Vec<(String, String)>,
    /// What any bundle carries, and when that was last needed, or else first seen.
    noticed: Vec<(Certificate, Tick)>,
    is_ready: bool,
}

impl Keeper {
    /// A replica that has seen nothing. The first of `names` is the one that the API server asks
    /// for.
    pub(super) fn new(names: Vec<String>, spans: Spans) -> Self {
        Self {
            names,
            spans,
            memory: Content::default(),
            serving: None,
            carried: Vec::new(),
            versions: Vec::new(),
            noticed: Vec::new(),
            is_ready: false,
        }
    }

    /// What is served.
    pub(super) fn serving(&self) -> Option<&Arc<Pair>> {
        self.serving.as_ref().map(|serving| &serving.pair)
    }

    /// The authority that signs, as far as is known.
    pub(super) fn signing(&self) -> Option<&Certificate> {
        self.memory.signing.as_ref().map(|signing| &signing.certificate)
    }

    /// Whether every one of our `APIServices` trusts what is served.
    pub(super) fn is_trusted(&self, seen: &Seen<'_>) -> bool {
        let Some(serving) = &self.serving else { return false };
        seen.bundles.is_some_and(|bundles| {
            bundles.iter().all(|bundle| self.trusts(bundle, &serving.pair, seen.now))
        })
    }

    /// What follows.
    pub(super) fn look(&mut self, seen: &Seen<'_>) -> Plan {
        self.notice(seen);
        let found = match &seen.secret {
            Secret::There(data) => Content::read(data),
            Secret::Absent | Secret::Unknown => Content::default(),
        };
        let serve = self.choose(seen, &found);
        let base = self.base(seen, &found);
        if found.signing.is_some() {
            self.memory = found.clone();
        }
        let bundles = self.publish(seen, &base);
        let secret = match &seen.secret {
            Secret::Unknown => Ok(None),
            Secret::Absent => self.advance(base, seen).map(Some),
            Secret::There(_) => self.advance(base, seen).map(|(content, rotation)| {
                (!content.is_same(&found)).then_some((content, rotation))
            }),
        };
        let unready = self.unready(seen);
        Plan { serve, secret, bundles, wake: self.wake(seen, &found), unready }
    }

    /// Notes which certificates are in which bundles.
    fn notice(&mut self, seen: &Seen<'_>) {
        let Some(bundles) = seen.bundles else { return };
        let noted = |known: &[(Certificate, Tick)], now: Vec<Certificate>| {
            let since = |certificate: &Certificate| {
                known.iter().find(|(known, _)| known == certificate).map(|(_, since)| *since)
            };
            now.into_iter()
                .map(|certificate| (since(&certificate).unwrap_or(seen.tick), certificate))
                .map(|(since, certificate)| (certificate, since))
                .collect()
        };
        let mut any: Vec<Certificate> = Vec::new();
        for certificate in bundles.iter().flat_map(|bundle| &bundle.certificates) {
            if !any.contains(certificate) {
                any.push(certificate.clone());
            }
        }
        let all: Vec<Certificate> = any
            .iter()
            .filter(|certificate| bundles.iter().all(|bundle| bundle.carries(certificate)))
            .cloned()
            .collect();
        self.noticed = noted(&self.noticed, any);
        let versions: Vec<(String, String)> =
            bundles.iter().map(|bundle| (bundle.name.clone(), bundle.mark())).collect();
        if versions != self.versions {
            self.carried.clear();
            self.versions = versions;
        }
        self.carried = noted(&self.carried, all);
    }

    /// Takes the Secret's pair into use when it can be.
    fn choose(&mut self, seen: &Seen<'_>, found: &Content) -> Option<Arc<Pair>> {
        let candidate = found.pair.as_ref().filter(|pair| self.is_usable(pair, seen.now))?;
        if self.serving.as_ref().is_some_and(|serving| serving.pair == *candidate) {
            return None;
        }
        let ends = |pair: &Pair| pair.leaf.not_after;
        let is_better = match &self.serving {
            // Nobody trusts what a server makes up for itself, so nothing is lost.
            None => true,
            Some(serving) if !self.is_usable(&serving.pair, seen.now) => true,
            // From a Secret that was restored, say. It is about to be renewed.
            Some(serving)
                if self.is_due(candidate, seen.now) && ends(candidate) < ends(&serving.pair) =>
            {
                false
            }
            Some(serving) => {
                let trusted = |bundles: &[Bundle], pair: &Pair| {
                    bundles.iter().all(|bundle| self.trusts(bundle, pair, seen.now))
                };
                let same = serving.issuer.as_ref().map(|issuer| [issuer]);
                // By the same authority it is trusted wherever what it follows is. A bundle that has
                // lost that authority gets it back, which is better than to use one that API
                // servers may not have heard of; only what nobody vouches for cannot be helped.
                same.is_some_and(|issuer| self.vouches(issuer, candidate, seen.now))
                    || seen.bundles.is_some_and(|bundles| {
                        self.is_settled(candidate, bundles, seen)
                            || serving.issuer.is_none()
                                && trusted(bundles, candidate)
                                && !trusted(bundles, &serving.pair)
                    })
            }
        };
        if !is_better {
            return None;
        }
        let find = |certificates: &[Certificate]| {
            certificates.iter().find(|one| self.vouches([*one], candidate, seen.now)).cloned()
        };
        let ours = find(&found.trusted);
        let is_ours = ours.is_some();
        let issuer = ours.or_else(|| {
            let noticed: Vec<Certificate> =
                self.noticed.iter().map(|(certificate, _)| certificate.clone()).collect();
            find(&noticed)
        });
        self.serving = Some(Serving { pair: Arc::clone(candidate), issuer, is_ours });
        Some(Arc::clone(candidate))
    }

    /// What the Secret should be before anything is renewed.
    fn base(&self, seen: &Seen<'_>, found: &Content) -> Content {
        let mut base = match &seen.secret {
            Secret::There(_) if found.signing.is_some() => found.clone(),
            Secret::There(_) => {
                // Nobody can sign any more: a rotation, with what is trusted still trusted, and what
                // is served still there for whoever starts meanwhile.
                let mut base = found.clone();
                base.trust(&self.memory.trusted);
                if !base.pair.as_ref().is_some_and(|pair| self.is_good(pair, &base, seen)) {
                    base.pair.clone_from(&self.memory.pair);
                }
                base
            }
            Secret::Absent | Secret::Unknown => self.memory.clone(),
        };
        if let Some(Serving { pair, issuer: Some(issuer), is_ours: true }) = &self.serving
            && !pair.leaf.has_expired(seen.now)
        {
            base.trust([issuer]);
        }
        // A clock that is behind may still take what has expired by ours.
        base.trusted
            .retain(|certificate| plus(certificate.not_after, self.spans.tolerance) > seen.now);
        for authority in [&mut base.signing, &mut base.next] {
            if authority.as_ref().is_some_and(|one| one.certificate.has_expired(seen.now)) {
                *authority = None;
            }
        }
        base
    }

    /// The bundles that are not as they should be, as they should be.
    fn publish(&mut self, seen: &Seen<'_>, base: &Content) -> Vec<(String, String)> {
        let mut needed = base.trusted.clone();
        if let Some(Serving { pair, issuer: Some(issuer), .. }) = &self.serving
            && !pair.leaf.has_expired(seen.now)
            && !needed.contains(issuer)
        {
            needed.push(issuer.clone());
        }
        let Some(bundles) = seen.bundles.filter(|_| !needed.is_empty()) else {
            return Vec::new();
        };
        for (certificate, needed_at) in &mut self.noticed {
            if needed.contains(certificate) {
                *needed_at = seen.tick;
            }
        }
        let is_known = !matches!(seen.secret, Secret::Unknown);
        let may_stay = |certificate: &&Certificate| {
            let since = self.noticed.iter().find(|(known, _)| known == *certificate);
            !needed.contains(certificate)
                && plus(certificate.not_after, self.spans.tolerance) > seen.now
                && since.is_some_and(|(_, since)| {
                    !is_known || seen.tick.since(*since) < self.spans.grace
                })
        };
        let wrong = bundles.iter().filter_map(|bundle| {
            let mut wanted = needed.clone();
            let strangers = bundle.certificates.iter().filter(may_stay);
            wanted.extend(strangers.take(MAX_STRANGERS).cloned());
            let is_right = bundle.is_clean && is_same_set(&bundle.certificates, &wanted);
            (!is_right).then(|| (bundle.name.clone(), Bundle::text(&wanted)))
        });
        wrong.collect()
    }

    /// The one next state of the Secret.
    fn advance(
        &self,
        mut content: Content,
        seen: &Seen<'_>,
    ) -> Result<(Content, Option<Rotation>), IssueError> {
        let now = seen.now;
        let mut rotation = None;
        let is_good = content.pair.as_ref().is_some_and(|pair| self.is_good(pair, &content, seen));
        let is_due = |authority: &Authority| {
            plus(now, self.spans.authority_renewal) >= authority.certificate.not_after
        };
        let wants_next = content.signing.as_ref().is_none_or(|signing| is_due(signing));
        if wants_next && content.next.is_none() {
            content.next = Some(Arc::new(Authority::new(now, self.spans.authority)?));
        }
        // Where nobody has a pair that is good for anything there is nothing to wait for.
        let nothing_to_lose = content.signing.is_none() && !is_good;
        let promoted = content
            .next
            .as_ref()
            .is_some_and(|next| nothing_to_lose || self.has_settled(&next.certificate, seen));
        if promoted {
            content.signing = content.next.take();
        }
        if let Some(signing) = &content.signing {
            let is_late = content.pair.as_ref().is_none_or(|pair| {
                let end = signing.end_of_pair(now, self.spans.pair);
                let lacks_name = !self.names.iter().all(|name| pair.leaf.names.contains(name));
                lacks_name
                    || self.is_due(pair, now) && end.as_second() > pair.leaf.not_after.as_second()
            });
            if promoted || !is_good || is_late {
                content.pair = Some(Arc::new(signing.issue(&self.names, now, self.spans.pair)?));
                rotation = Some(if promoted { Rotation::Authority } else { Rotation::Pair });
            }
        }
        content.trust([]);
        Ok((content, rotation))
    }

    /// Why this replica should not get requests.
    fn unready(&mut self, seen: &Seen<'_>) -> Option<String> {
        if self.is_ready {
            return None;
        }
        let Some(serving) = &self.serving else {
            return Some("there is no serving certificate yet".to_owned());
        };
        let Some(bundles) = seen.bundles else {
            return Some("whether the serving certificate is trusted is not known".to_owned());
        };
        let wary = bundles.iter().find(|bundle| !self.trusts(bundle, &serving.pair, seen.now));
        if let Some(bundle) = wary {
            return Some(format!(
                "APIService {} does not trust the serving certificate yet",
                bundle.name
            ));
        }
        // It may have ended by the clocks of others. It is replaced before that, but for one that a
        // start finds in a Secret that was restored.
        if plus(seen.now, self.spans.tolerance) >= serving.pair.leaf.not_after {
            return Some(format!("the serving certificate ends within {:?}", self.spans.tolerance));
        }
        // A start has seen nothing change yet, but it need not wait for bundles that are as they are
        // for long by any clock.
        let age = self.spans.tolerance + self.spans.pause;
        let is_old =
            |bundle: &Bundle| bundle.written.is_some_and(|written| plus(written, age) <= seen.now);
        let is_known = bundles.iter().all(is_old) || self.is_settled(&serving.pair, bundles, seen);
        if !is_known {
            return Some(format!(
                "the APIServices trust the serving certificate since less than {:?}",
                self.spans.pause
            ));
        }
        self.is_ready = true;
        None
    }

    /// When something is due that depends on the time alone.
    fn wake(&self, seen: &Seen<'_>, found: &Content) -> Option<Duration> {
        let before = |end: Timestamp, renewal: Duration| {
            let until = end.duration_since(seen.now);
            Duration::try_from(until).unwrap_or_default().saturating_sub(renewal)
        };
        let mut waits = Vec::new();
        if let Some(pair) = &found.pair {
            waits.push(before(pair.leaf.not_after, self.spans.pair_renewal));
        }
        if let Some(signing) = &found.signing {
            waits.push(before(signing.certificate.not_after, self.spans.authority_renewal));
        }
        let left = |since: Tick, span: Duration| span.saturating_sub(seen.tick.since(since));
        waits.extend(self.carried.iter().map(|(_, since)| left(*since, self.spans.pause)));
        waits.extend(self.noticed.iter().map(|(_, since)| left(*since, self.spans.grace)));
        // What is due already and was not done has to wait for something else.
        waits.into_iter().filter(|wait| !wait.is_zero()).min()
    }

    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    fn is_usable(&self, pair: &Pair, now: Timestamp) -> bool {
        pair.is_usable(self.name(), now)
    }

    /// Whether the pair should be replaced for its age.
    fn is_due(&self, pair: &Pair, now: Timestamp) -> bool {
        plus(now, self.spans.pair_renewal) >= pair.leaf.not_after
    }

    fn vouches<'a>(
        &self,
        authorities: impl IntoIterator<Item = &'a Certificate>,
        pair: &Pair,
        now: Timestamp,
    ) -> bool {
        vouch(authorities, &pair.leaf, self.name(), now)
    }

    fn trusts(&self, bundle: &Bundle, pair: &Pair, now: Timestamp) -> bool {
        self.vouches(&bundle.certificates, pair, now)
    }

    /// Whether the pair is usable and its authority known: from the Secret, or to all bundles.
    fn is_good(&self, pair: &Pair, content: &Content, seen: &Seen<'_>) -> bool {
        let is_trusted = |bundles: &[Bundle]| {
            !bundles.is_empty() && bundles.iter().all(|bundle| self.trusts(bundle, pair, seen.now))
        };
        self.is_usable(pair, seen.now)
            && (self.vouches(&content.trusted, pair, seen.now)
                || seen.bundles.is_some_and(is_trusted))
    }

    /// Whether all bundles carry the certificate since long enough.
    fn has_settled(&self, certificate: &Certificate, seen: &Seen<'_>) -> bool {
        let Some(bundles) = seen.bundles else { return false };
        let since = self.carried.iter().find(|(carried, _)| carried == certificate);
        bundles.is_empty()
            || since.is_some_and(|(_, since)| seen.tick.since(*since) >= self.spans.pause)
    }

    /// Whether all bundles carry the pair's authority since long enough.
    fn is_settled(&self, pair: &Pair, bundles: &[Bundle], seen: &Seen<'_>) -> bool {
        let mut settled = self
            .carried
            .iter()
            .filter(|(_, since)| seen.tick.since(*since) >= self.spans.pause)
            .map(|(certificate, _)| certificate);
        bundles.is_empty() || settled.any(|one| self.vouches([one], pair, seen.now))
    }
}

#[cfg(test)]
mod tests;
