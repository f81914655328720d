//! What a query's past fetches allow us to serve: a pure state machine on ticks.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{Cause, Decimal, FetchError, OnNoData, Policy, Sample, Tick};

/// The word of [`EntryState::trouble_kind`] for a value that is too old though nothing has failed.
pub const STALE: &str = "stale";

/// The upstream answered, without a datapoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoData {
    /// What it said.
    pub cause: Cause,
    /// When it said so.
    pub at: Tick,
    /// The same on the wall clock.
    pub timestamp: Timestamp,
}

/// The upstream could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub error: FetchError,
    /// When the latest attempt ended.
    pub at: Tick,
    /// How many attempts have failed since the last answer.
    pub consecutive: u32,
}

/// The memory of one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryState {
    /// The newest answer that had data.
    sample: Option<Arc<Sample>>,
    /// When it came; its datapoint may have been old by then.
    answered: Tick,
    /// An answer without data, newer than `sample`.
    no_data: Option<Box<NoData>>,
    /// Failed attempts, newer than both. Boxed like `no_data`: most queries have neither, and there
    /// may be a hundred thousand of them.
    failure: Option<Box<Failure>>,
}

/// What may be served, given a policy and a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View<'a> {
    /// No fetch has ended yet.
    Waiting,
    /// The newest fetch gave this sample.
    Fresh(&'a Sample),
    /// The newest fetch gave nothing; this earlier sample is still within `maxAge`.
    Servable(&'a Sample),
    /// The upstream had no datapoint, and the definition's author chose this number for that.
    Chosen(&'a Decimal, &'a NoData),
    /// The upstream has no datapoint, and nothing may be served in its place.
    NoData(&'a NoData),
    /// The upstream cannot be read, and nothing may be served in its place.
    Failed(&'a Failure),
    /// The last answer is older than `maxAge` and nothing has been heard since.
    Expired,
}

impl View<'_> {
    /// A fixed word for metrics labels and the status page.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fresh(_) => "fresh",
            Self::Servable(_) | Self::Chosen(..) => "servable",
            Self::NoData(_) | Self::Failed(_) => "failed",
            Self::Expired => "expired",
        }
    }
}

impl EntryState {
    /// The state after one more fetch has ended.
    #[must_use]
    pub fn after(
        &self,
        result: Result<Sample, FetchError>,
        tick: Tick,
        timestamp: Timestamp,
    ) -> Self {
        match result {
            Ok(sample) => Self {
                sample: Some(Arc::new(sample)),
                answered: tick,
                no_data: None,
                failure: None,
            },
            Err(FetchError::NoData(cause)) => Self {
                sample: self.sample.clone(),
                answered: self.answered,
                no_data: Some(Box::new(NoData { cause, at: tick, timestamp })),
                failure: None,
            },
            Err(
                error @ (FetchError::Partial(_)
                | FetchError::Denied(_)
                | FetchError::Throttled(_)
                | FetchError::Timeout(_)
                | FetchError::Unavailable(_)
                | FetchError::Malformed(_)
                | FetchError::Invalid(_)),
            ) => Self {
                sample: self.sample.clone(),
                answered: self.answered,
                no_data: self.no_data.clone(),
                failure: Some(Box::new(Failure {
                    error,
                    at: tick,
                    consecutive: self
                        .failure
                        .as_ref()
                        .map_or(1, |failure| failure.consecutive.saturating_add(1)),
                })),
            },
        }
    }

    /// What may be served at `now` under `policy`.
    #[must_use]
    pub fn view<'a>(&'a self, policy: &'a Policy, now: Tick) -> View<'a> {
        let young = |at: Tick| now.since(at) <= policy.max_age;
        let sample = self.sample.as_deref().filter(|sample| young(sample.observed));
        let instead = match (&self.no_data, &policy.on_no_data) {
            // The newest answer has data.
            (None, _) => match (sample, &self.failure) {
                (Some(sample), None) => return View::Fresh(sample),
                (Some(sample), Some(_)) => return View::Servable(sample),
                (None, None) if self.sample.is_none() => return View::Waiting,
                (None, _) => View::Expired,
            },
            (Some(no_data), OnNoData::Error) => View::NoData(no_data),
            (Some(no_data), OnNoData::Hold) => match sample {
                Some(sample) => return View::Servable(sample),
                None => View::NoData(no_data),
            },
            // The chosen number stands for an answer, so it ages as one.
            (Some(no_data), OnNoData::Value(number)) => {
                if young(no_data.at) {
                    return View::Chosen(number, no_data);
                }
                View::Expired
            }
        };
        // Nothing to serve: the newest trouble is what a reader should hear about.
        match &self.failure {
            Some(failure) => View::Failed(failure),
            None => instead,
        }
    }

    /// The newest answer that had data, however old.
    #[must_use]
    pub fn last_sample(&self) -> Option<&Sample> {
        self.sample.as_deref()
    }

    /// When the newest answer that had data came, if any did.
    #[must_use]
    pub fn answered(&self) -> Option<Tick> {
        self.sample.as_ref().map(|_| self.answered)
    }

    /// The newest trouble: the text and when it was noted.
    #[must_use]
    pub fn trouble(&self) -> Option<(&str, Tick)> {
        match (&self.failure, &self.no_data) {
            (Some(failure), _) => Some((failure.error.cause().message(), failure.at)),
            (None, Some(no_data)) => Some((no_data.cause.message(), no_data.at)),
            (None, None) => None,
        }
    }

    /// What kind of trouble there is at `now`, held over or not: a [`FetchError::kind`] of the newest
    /// attempt, or [`STALE`] where the upstream answers, or has not said anything since, and what it
    /// had is older than `policy` allows.
    #[must_use]
    pub fn trouble_kind(&self, policy: &Policy, now: Tick) -> Option<&'static str> {
        match (&self.failure, &self.no_data, &self.sample) {
            (Some(failure), ..) => Some(failure.error.kind()),
            (None, Some(_), _) => Some(FetchError::NO_DATA),
            (None, None, Some(sample)) if now.since(sample.observed) > policy.max_age => {
                Some(STALE)
            }
            (None, None, _) => None,
        }
    }

    /// How many calls in a row have failed since the last answer.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failure.as_ref().map_or(0, |failure| failure.consecutive)
    }

    /// Whether the newest trouble is that the upstream asked for fewer calls.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        let error = self.failure.as_ref().map(|failure| &failure.error);
        matches!(error, Some(FetchError::Throttled(_)))
    }

    /// Whether any fetch has ended.
    #[must_use]
    pub fn is_tried(&self) -> bool {
        self.sample.is_some() || self.no_data.is_some() || self.failure.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Labels, Series};

    const MAX_AGE: Duration = Duration::from_mins(2);

    fn policy(on_no_data: OnNoData) -> Policy {
        Policy {
            refresh: Duration::from_secs(15),
            max_age: MAX_AGE,
            on_no_data,
            first_read_timeout: Duration::from_secs(2),
            keep_warm: false,
        }
    }

    fn sample(value: i64, at: Tick) -> Sample {
        Sample {
            timestamp: Timestamp::UNIX_EPOCH,
            observed: at,
            series: vec![Series { labels: Labels::empty(), value: Decimal::from(value) }],
            without_number: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn step(state: &EntryState, result: Result<Sample, FetchError>, at: u64) -> EntryState {
        state.after(result, Tick(at), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn every_trouble_has_its_own_word() {
        let policy = policy(OnNoData::Hold);
        let kind = |state: &EntryState, at| state.trouble_kind(&policy, Tick(at));
        assert_eq!(kind(&EntryState::default(), 5), None);
        let good = step(&EntryState::default(), Ok(sample(42, Tick(1000))), 1000);
        assert_eq!(kind(&good, 121_000), None);
        assert_eq!(kind(&good, 121_001), Some(STALE));
        let cause = || Cause::new("x");
        let errors = [
            FetchError::NoData(cause()),
            FetchError::Partial(cause()),
            FetchError::Denied(cause()),
            FetchError::Throttled(cause()),
            FetchError::Timeout(cause()),
            FetchError::Unavailable(cause()),
            FetchError::Malformed(cause()),
            FetchError::Invalid(cause()),
        ];
        // Held over or not.
        for at in [2000, 200_000] {
            let told = errors.clone().map(|error| kind(&step(&good, Err(error), 2000), at));
            assert_eq!(told, FetchError::KINDS.map(Some));
        }
        // The newest counts.
        let both = step(&step(&good, Err(no_data()), 2000), Err(down()), 3000);
        assert_eq!(kind(&both, 3000), Some("unavailable"));
        assert_eq!(kind(&step(&both, Ok(sample(43, Tick(4000))), 4000), 4000), None);
    }

    fn no_data() -> FetchError {
        FetchError::NoData(Cause::new("nothing there"))
    }

    fn down() -> FetchError {
        FetchError::Unavailable(Cause::new("connection refused"))
    }

    #[test]
    fn a_new_query_waits() {
        let policy = policy(OnNoData::Hold);
        assert_eq!(EntryState::default().view(&policy, Tick(5)), View::Waiting);
    }

    #[test]
    fn a_failure_holds_the_last_value_until_max_age_and_then_says_why() {
        let policy = policy(OnNoData::Value(Decimal::ZERO));
        let good = step(&EntryState::default(), Ok(sample(42, Tick(1000))), 1000);
        assert_eq!(good.view(&policy, Tick(1000)).state(), "fresh");
        let failed = step(&good, Err(down()), 16_000);
        assert_eq!(failed.view(&policy, Tick(121_000)), View::Servable(&sample(42, Tick(1000))));
        let View::Failed(failure) = failed.view(&policy, Tick(121_001)) else {
            panic!("a failure must never become the number chosen for no data")
        };
        assert_eq!((failure.consecutive, &failure.error), (1, &down()));
        assert_eq!(step(&failed, Err(down()), 31_000).failure.map(|f| f.consecutive), Some(2));
    }

    #[test]
    fn no_data_follows_the_policy() {
        let good = step(&EntryState::default(), Ok(sample(42, Tick(1000))), 1000);
        let empty = step(&good, Err(no_data()), 16_000);
        let now = Tick(16_000);
        assert_eq!(empty.view(&policy(OnNoData::Error), now).state(), "failed");
        assert_eq!(
            empty.view(&policy(OnNoData::Hold), now),
            View::Servable(&sample(42, Tick(1000)))
        );
        assert_eq!(empty.view(&policy(OnNoData::Hold), Tick(121_001)).state(), "failed");
        let chosen = policy(OnNoData::Value(Decimal::from(7_i64)));
        assert!(
            matches!(empty.view(&chosen, now), View::Chosen(n, _) if *n == Decimal::from(7_i64))
        );
        assert_eq!(empty.view(&chosen, Tick(136_001)), View::Expired);
        let then_down = step(&empty, Err(down()), 31_000);
        assert!(matches!(then_down.view(&chosen, Tick(31_000)), View::Chosen(..)));
        assert!(matches!(then_down.view(&chosen, Tick(136_001)), View::Failed(_)));
    }

    #[test]
    fn silence_expires_the_last_value() {
        let good = step(&EntryState::default(), Ok(sample(42, Tick(1000))), 1000);
        assert_eq!(good.view(&policy(OnNoData::Hold), Tick(121_001)), View::Expired);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Good(i64, u64),
        NoData,
        Down,
        Denied,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (any::<i32>(), 0..200_000_u64).prop_map(|(v, lag)| Event::Good(v.into(), lag)),
            Just(Event::NoData),
            Just(Event::Down),
            Just(Event::Denied),
        ]
    }

    fn on_no_data() -> impl Strategy<Value = OnNoData> {
        prop_oneof![
            Just(OnNoData::Error),
            Just(OnNoData::Hold),
            Just(OnNoData::Value(Decimal::from(-123_i64))),
        ]
    }

    proptest! {
        /// For any sequence of outcomes and clock steps: a served value is an upstream value not
        /// older than `maxAge`, or the author's number after a real "no data", or an error.
        #[test]
        fn nothing_is_ever_made_up(
            events in prop::collection::vec((event(), 0..100_000_u64), 0..40),
            wait in 0..300_000_u64,
            on_no_data in on_no_data(),
        ) {
            let policy = policy(on_no_data);
            let mut now = 1_000_000;
            let mut state = EntryState::default();
            let mut given = Vec::new();
            let mut empty_at = None;
            for (event, pause) in events {
                now += pause;
                let result = match event {
                    Event::Good(value, lag) => {
                        let made = sample(value, Tick(now - lag));
                        given.push(made.clone());
                        empty_at = None;
                        Ok(made)
                    }
                    Event::NoData => {
                        empty_at = Some(now);
                        Err(no_data())
                    }
                    Event::Down => Err(down()),
                    Event::Denied => Err(FetchError::Denied(Cause::new("no"))),
                };
                state = step(&state, result, now);
            }
            now += wait;
            match state.view(&policy, Tick(now)) {
                View::Fresh(s) => {
                    prop_assert_eq!(Some(s), given.last());
                    prop_assert!(Tick(now).since(s.observed) <= MAX_AGE);
                    prop_assert!(empty_at.is_none());
                }
                View::Servable(s) => {
                    prop_assert_eq!(Some(s), given.last());
                    prop_assert!(Tick(now).since(s.observed) <= MAX_AGE);
                    prop_assert!(empty_at.is_none() || policy.on_no_data == OnNoData::Hold);
                }
                View::Chosen(number, _) => {
                    prop_assert_eq!(&OnNoData::Value(number.clone()), &policy.on_no_data);
                    prop_assert!(now - empty_at.unwrap() <= 120_000);
                }
                View::Waiting => prop_assert!(!state.is_tried()),
                View::NoData(_) | View::Failed(_) | View::Expired => {}
            }
        }
    }
}
