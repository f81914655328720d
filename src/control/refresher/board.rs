//! What the refresher shows about the upstreams it calls.
//!
//! The refresher writes a list, at most once a second; scrapes and the status page read it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

pub use crate::control::protection::Phase;
use crate::model::{Clock, SourceName, Tick};

/// Upstreams that have series of their own; the others share one. Their names are regions and
/// roles, which operators allow by pattern.
const MAX_NAMED: usize = 100;

/// How an upstream is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The source that it belongs to.
    pub source: SourceName,
    /// What is called: service, region, role. Empty where the source has one upstream only.
    pub upstream: Arc<str>,
    /// Where its breaker is; none without one.
    pub phase: Option<Phase>,
    /// Calls that are allowed at present.
    pub calls_per_second: Option<f64>,
    /// Fetches under way.
    pub running: usize,
    /// Queries that are due and wait for a fetch.
    pub queued: usize,
    /// Those of them that have waited for more than a second.
    pub overdue: usize,
    /// Since when the one has waited that waits longest.
    pub waiting_since: Option<Tick>,
}

/// The latest list.
#[derive(Debug, Default)]
pub(super) struct Board(ArcSwap<Vec<Upstream>>);

impl Board {
    pub(super) fn put(&self, upstreams: Vec<Upstream>) {
        self.0.store(Arc::new(upstreams));
    }

    pub(super) fn get(&self) -> Arc<Vec<Upstream>> {
        self.0.load_full()
    }
}

/// The list as gauges.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) board: Arc<Board>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What one series of each family says.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    open: bool,
    calls_per_second: f64,
    running: usize,
    queued: usize,
}

impl Numbers {
    fn add(&mut self, upstream: &Upstream) {
        self.open |= upstream.phase.is_some_and(|phase| phase != Phase::Closed);
        self.calls_per_second += upstream.calls_per_second.unwrap_or(0.0);
        self.running += upstream.running;
        self.queued += upstream.queued;
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (upstreams, now) = (self.board.get(), self.clock.tick());
        let mut named: Vec<(&str, &str, Numbers)> = Vec::new();
        let mut others = Numbers::default();
        for (index, upstream) in upstreams.iter().enumerate() {
            let mut numbers = Numbers::default();
            if index < MAX_NAMED {
                numbers.add(upstream);
                named.push((upstream.source.as_str(), &upstream.upstream, numbers));
            } else {
                others.add(upstream);
            }
        }
        if upstreams.len() > MAX_NAMED {
            named.push(("", "other", others));
        }
        let mut family = |name, help, value: fn(&Numbers) -> f64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (source, upstream, numbers) in &named {
                let labels = [("source", *source), ("upstream", *upstream)];
                ConstGauge::new(value(numbers)).encode(family.encode_family(&labels)?)?;
            }
            Ok::<(), fmt::Error>(())
        };
        family(
            "upstream_breaker_open",
            "1 while an upstream is not asked because it keeps failing, but for a probe",
            |numbers| f64::from(u8::from(numbers.open)),
        )?;
        family(
            "upstream_allowed_calls_per_second",
            "The rate that an upstream is called at most; below its setting after it throttled",
            |numbers| numbers.calls_per_second,
        )?;
        family("upstream_fetches_running", "Fetches of an upstream under way", |numbers| {
            count(numbers.running)
        })?;
        family(
            "upstream_queued",
            "Queries of an upstream that are due and wait for a fetch",
            |numbers| count(numbers.queued),
        )?;
        encode_deficit(&upstreams, now, &mut encoder)
    }
}

/// By source: what is overdue, and for how long.
fn encode_deficit(
    upstreams: &[Upstream],
    now: Tick,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut sources: Vec<(&SourceName, usize, Duration)> = Vec::new();
    for upstream in upstreams {
        let late = upstream.waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        match sources.last_mut().filter(|(name, ..)| *name == &upstream.source) {
            Some((_, overdue, longest)) => {
                *overdue += upstream.overdue;
                *longest = late.max(*longest);
            }
            None => sources.push((&upstream.source, upstream.overdue, late)),
        }
    }
    let mut family = encoder.encode_descriptor(
        "refresh_overdue",
        "Queries that have waited for their fetch for more than a second: the deficit of a source",
        None,
        MetricType::Gauge,
    )?;
    for (source, overdue, _) in &sources {
        let labels = [("source", source.as_str())];
        ConstGauge::new(count(*overdue)).encode(family.encode_family(&labels)?)?;
    }
    let mut family = encoder.encode_descriptor(
        "refresh_lateness_seconds",
        "How long the query has waited for its fetch that waits longest",
        None,
        MetricType::Gauge,
    )?;
    for (source, _, late) in &sources {
        let labels = [("source", source.as_str())];
        ConstGauge::new(late.as_secs_f64()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "numbers of queries, far below 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ManualClock;
    use crate::telemetry::Telemetry;

    fn upstream(source: &str, name: &str) -> Upstream {
        Upstream {
            source: SourceName::new(source),
            upstream: name.into(),
            phase: Some(Phase::Closed),
            calls_per_second: Some(20.0),
            running: 1,
            queued: 2,
            overdue: 1,
            waiting_since: None,
        }
    }

    #[test]
    fn upstreams_are_shown_and_those_beyond_the_bound_are_summed() {
        let (telemetry, clock) = (Telemetry::new(), Arc::new(ManualClock::default()));
        let board = Arc::new(Board::default());
        let gauges = Gauges { board: Arc::clone(&board), clock: Arc::clone(&clock) as _ };
        telemetry.register(|registry| registry.register_collector(Box::new(gauges)));
        let mut list: Vec<_> = (0..102).map(|i| upstream("aws", &format!("sqs r{i:03}"))).collect();
        list.push(Upstream {
            phase: Some(Phase::HalfOpen),
            waiting_since: Some(clock.tick().before(Duration::from_secs(90))),
            ..upstream("main", "")
        });
        board.put(list);
        let text = telemetry.encode();
        for line in [
            "tidepole_upstream_breaker_open{source=\"aws\",upstream=\"sqs r000\"} 0.0",
            "tidepole_upstream_breaker_open{source=\"\",upstream=\"other\"} 1.0",
            "tidepole_upstream_allowed_calls_per_second{source=\"\",upstream=\"other\"} 60.0",
            "tidepole_upstream_fetches_running{source=\"aws\",upstream=\"sqs r099\"} 1.0",
            "tidepole_upstream_queued{source=\"\",upstream=\"other\"} 6.0",
            "tidepole_refresh_overdue{source=\"aws\"} 102.0",
            "tidepole_refresh_lateness_seconds{source=\"aws\"} 0.0",
            "tidepole_refresh_lateness_seconds{source=\"main\"} 90.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("tidepole_upstream_queued{").count(), MAX_NAMED + 1);
    }
}
