//! What a definition's cells give at one moment: the state that counts, and the values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::sentence::{named, no_value, show};
use crate::cache::{EntryState, QueryCell, View};
use crate::catalog::cells::CellOf;
use crate::definition::status::{CurrentValue, MAX_VALUES};
use crate::model::{
    Aggregate, Decimal, Entry, FetchError, Labels, Quantity, QueryTemplate, Sample, Tick,
};

/// The key under which a value says which namespace it is of, where a definition has a query for each:
/// no label can have this name.
const NAMESPACE_KEY: &str = "$namespace";

/// What stands in place of a namespace where none is known, as in what readers are told.
const NOWHERE: &str = "the cluster";

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) timestamp: Timestamp,
    pub(super) tick: Tick,
}

impl Moment {
    /// When a tick was, by the wall clock.
    fn at(self, tick: Tick) -> Timestamp {
        let ago = self.tick.since(tick);
        let ahead = tick.since(self.tick);
        let at = self.timestamp.checked_sub(ago).and_then(|at| at.checked_add(ahead));
        at.unwrap_or(self.timestamp)
    }
}

/// How a definition stands, from best to worst: of several cells the worst counts, and one that has
/// not been asked yet never hides what others say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stand {
    /// Nobody wants it.
    Idle,
    /// The first answer is awaited.
    Pending,
    /// The newest answer's value is served.
    Serving,
    /// There was no datapoint, and the author chose a number for that.
    Chosen {
        /// Whether the number is zero.
        zero: bool,
        /// What else went wrong since; empty when nothing did.
        trouble: &'static str,
    },
    /// An earlier value is served.
    Held {
        /// The kind of trouble.
        trouble: &'static str,
    },
    /// Nothing is served.
    Failing {
        /// The kind of trouble.
        trouble: &'static str,
    },
}

/// The kind of trouble of a value that is too old while nothing else has been heard.
const STALE: &str = crate::cache::STALE;

/// How one cell stands.
pub(super) fn stand(cell: &QueryCell, entry: &Entry, now: Tick) -> Stand {
    let state = cell.state();
    let failed = || state.trouble_kind(&entry.policy, now).unwrap_or(STALE);
    match state.view(&entry.policy, now) {
        View::Waiting if cell.is_scheduled() => Stand::Pending,
        View::Waiting => Stand::Idle,
        View::Fresh(_) => Stand::Serving,
        View::Servable(_) => Stand::Held { trouble: failed() },
        View::Chosen(number, _) => {
            let trouble = failed();
            let trouble = if trouble == FetchError::NO_DATA { "" } else { trouble };
            Stand::Chosen { zero: *number == Decimal::ZERO, trouble }
        }
        View::NoData(_) => Stand::Failing { trouble: FetchError::NO_DATA },
        View::Failed(failure) => Stand::Failing { trouble: failure.error.kind() },
        View::Expired => Stand::Failing { trouble: STALE },
    }
}

/// The worst of all cells, and how many are as bad in kind.
pub(super) fn worst(cells: &[CellOf], entry: &Entry, now: Tick) -> Stand {
    cells.iter().map(|cell| stand(&cell.cell, entry, now)).max().unwrap_or(Stand::Idle)
}

/// What a definition gives.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) stand: Stand,
    /// The sentence for it, without the value: it changes when the state does.
    pub(super) message: String,
    pub(super) value: Option<String>,
    pub(super) current: Vec<CurrentValue>,
    pub(super) sampled: Option<Timestamp>,
    /// The newest trouble: its kind, its text, and when.
    pub(super) trouble: Option<(&'static str, String, Timestamp)>,
    pub(super) next_refresh: Option<Timestamp>,
}

/// Looks at a definition's cells. `reader` is a namespace in which it is read, if one is known; `idle`
/// is what is said of one that nobody is known to want.
pub(super) fn look(
    entry: &Entry,
    cells: &[CellOf],
    reader: Option<&str>,
    now: Moment,
    idle: String,
) -> Picture {
    let mut picture = Picture {
        stand: Stand::Idle,
        message: idle,
        value: None,
        current: Vec::new(),
        sampled: None,
        trouble: None,
        next_refresh: None,
    };
    let mut worst: Option<(Stand, &CellOf)> = None;
    let mut shown = Shown::default();
    for cell in cells {
        let stand = stand(&cell.cell, entry, now.tick);
        // Of equals the first: its words stay while others come and go.
        if worst.is_none_or(|(before, _)| stand > before) {
            worst = Some((stand, cell));
        }
        shown.add(entry, cell, now);
        if let Some(next) = next_refresh(cell, now) {
            let sooner = picture.next_refresh.map_or(next, |before| before.min(next));
            picture.next_refresh = Some(sooner);
        }
    }
    let Some((stand, cell)) = worst else { return picture };
    picture.stand = stand;
    if stand > Stand::Idle {
        picture.message = sentence(entry, cell, stand, reader, now);
    }
    if cells.len() > 1 && stand > Stand::Serving {
        let bad =
            cells.iter().filter(|cell| self::stand(&cell.cell, entry, now.tick) > Stand::Serving);
        let counted = format!("{} of {} namespaces; ", bad.count(), cells.len());
        picture.message.insert_str(0, &counted);
    }
    let state = cell.cell.state();
    picture.trouble = state.trouble().map(|(text, at)| {
        let kind = state.trouble_kind(&entry.policy, now.tick).unwrap_or(STALE);
        (kind, text.to_owned(), now.at(at))
    });
    (picture.value, picture.current, picture.sampled) = shown.done();
    picture
}

/// What is served, of one or of several cells.
#[derive(Default)]
struct Shown {
    cells: usize,
    series: usize,
    only: Option<String>,
    current: Vec<CurrentValue>,
    sampled: Option<Timestamp>,
}

impl Shown {
    fn add(&mut self, entry: &Entry, cell: &CellOf, now: Moment) {
        let state = cell.cell.state();
        match state.view(&entry.policy, now.tick) {
            View::Fresh(sample) | View::Servable(sample) => {
                self.cells += 1;
                self.time(sample.timestamp);
                self.sample(entry, cell, sample);
            }
            View::Chosen(number, no_data) => {
                self.cells += 1;
                self.time(no_data.timestamp);
                self.item(entry, cell, &Labels::empty(), number);
            }
            View::Waiting | View::NoData(_) | View::Failed(_) | View::Expired => {}
        }
    }

    fn sample(&mut self, entry: &Entry, cell: &CellOf, sample: &Sample) {
        let transform = &entry.transform;
        if transform.aggregate != Aggregate::None && entry.objects.is_none() {
            if let Some(folded) = transform.fold(&sample.series) {
                self.item(entry, cell, &Labels::empty(), &transform.apply(&folded));
            }
            return;
        }
        for series in &sample.series {
            if self.current.len() < MAX_VALUES {
                self.item(entry, cell, &series.labels, &transform.apply(&series.value));
            } else {
                self.series += 1;
            }
        }
    }

    fn item(&mut self, entry: &Entry, cell: &CellOf, own: &Labels, served: &Decimal) {
        self.series += 1;
        let value = Quantity::from_decimal(served).to_string();
        self.only = Some(value.clone());
        if self.current.len() >= MAX_VALUES {
            return;
        }
        let labels = own.overlaid(&entry.labels);
        let mut labels: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        if let (Some(namespace), None) = (&cell.namespace, &entry.id.namespace) {
            labels.insert(NAMESPACE_KEY.to_owned(), namespace.to_string());
        }
        self.current.push(CurrentValue { labels, value });
    }

    /// The oldest counts: nothing that is shown is older.
    fn time(&mut self, sampled: Timestamp) {
        self.sampled = Some(self.sampled.map_or(sampled, |before| before.min(sampled)));
    }

    fn done(self) -> (Option<String>, Vec<CurrentValue>, Option<Timestamp>) {
        let value = match (self.series, self.only, self.cells) {
            (0, ..) => None,
            (1, only, _) => only,
            (series, ..) => Some(format!("{series} series")),
        };
        (value, self.current, self.sampled)
    }
}

/// About when the source is asked next. The refresher knows it to the millisecond; this is what
/// follows from the newest answer and the interval.
fn next_refresh(cell: &CellOf, now: Moment) -> Option<Timestamp> {
    let cell = &cell.cell;
    if !cell.is_scheduled() {
        return None;
    }
    if let Some(until) = cell.apart_until() {
        return Some(now.at(until).max(now.timestamp));
    }
    let state = cell.state();
    let heard = state.answered().into_iter().chain(state.trouble().map(|(_, at)| at)).max();
    let next = heard.map_or(now.timestamp, |heard| now.at(heard.after(cell.refresh())));
    Some(next.max(now.timestamp))
}

fn sentence(
    entry: &Entry,
    cell: &CellOf,
    stand: Stand,
    reader: Option<&str>,
    now: Moment,
) -> String {
    let own = entry.id.namespace.as_deref();
    let at = own.or(cell.namespace.as_deref()).or(reader).unwrap_or(NOWHERE);
    let query = cell.cell.query();
    let state = cell.cell.state();
    let view = state.view(&entry.policy, now.tick);
    match (stand, view) {
        (Stand::Pending, _) => format!(
            "{} in {at}: source {} has not yet answered the first query",
            named(entry),
            query.source
        ),
        (Stand::Serving, _) => format!(
            "{} in {at}: source {} is asked every {}",
            named(entry),
            query.source,
            show(entry.policy.refresh)
        ),
        (_, View::Servable(sample)) => held(entry, at, &state, sample),
        (_, View::Chosen(number, no_data)) => {
            let mut text = format!(
                "{} in {at}: {} (source {}); {} is served, because onNoData says so",
                named(entry),
                no_data.cause,
                query.source,
                Quantity::from_decimal(number)
            );
            if let (Stand::Chosen { trouble, .. }, Some((since, _))) = (stand, state.trouble())
                && !trouble.is_empty()
            {
                text.push_str("; since then: ");
                text.push_str(since);
            }
            text
        }
        // The state has moved on since it was looked at: its words are as true.
        (_, view) => no_value(entry, at, query, &state, &view, now.tick),
    }
}

/// Why the source is not asked.
pub(super) fn not_asked(entry: &Entry, why: &str) -> String {
    let source = entry.query.source();
    format!("{}: {why}; source {source} is not asked until somebody reads it", named(entry))
}

fn held(entry: &Entry, at: &str, state: &EntryState, sample: &Sample) -> String {
    let trouble = state.trouble().map_or("no newer answer", |(text, _)| text);
    let value = match &sample.series[..] {
        [one] => Quantity::from_decimal(&entry.transform.apply(&one.value)).to_string(),
        many => format!("of {} series", many.len()),
    };
    format!(
        "{} in {at}: {trouble} (source {}); the last good value {value} of {} is served until it is \
         older than maxAge {}",
        named(entry),
        entry.query.source(),
        sample.timestamp.strftime("%H:%M:%SZ"),
        show(entry.policy.max_age)
    )
}

/// Who is asked, and how: `main (prometheus)`.
pub(super) fn source(entry: &Entry) -> String {
    let kind = match &entry.query {
        QueryTemplate::Fixed(query) => match query.spec.kind() {
            // Objects are asked about in PromQL.
            "objects" => "prometheus",
            kind => kind,
        },
        QueryTemplate::PerNamespace { .. } | QueryTemplate::PerObjects(_) => "prometheus",
    };
    format!("{} ({kind})", entry.query.source())
}

/// Whether two moments are the same, told by two looks at two clocks.
pub(super) fn is_about(a: &str, b: &str) -> bool {
    const JITTER: Duration = Duration::from_secs(2);
    match (a.parse::<Timestamp>(), b.parse::<Timestamp>()) {
        (Ok(a), Ok(b)) => a.duration_since(b).unsigned_abs() < JITTER,
        _ => false,
    }
}

/// The namespace of a reader, as long as it is needed.
pub(super) fn namespace_of(readers: &[super::readers::Reader]) -> Option<&Arc<str>> {
    readers.first().map(|reader| &reader.namespace)
}
