//! Reads of external metrics.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::api::Answer;
use crate::api::attributes;
use crate::api::group::{ExternalPath, GroupVersion};
use crate::api::json::write_string;
use crate::api::path::Path;
use crate::api::read::{self, List, Reads, Request, hints, whole_seconds};
use crate::model::{ApiError, Attributes, ExternalReading, MetricsProvider, Selector};

/// Reads and answers.
pub(super) fn answer(
    reads: &Arc<Reads>,
    provider: &dyn MetricsProvider,
    request: &Request<'_>,
    path: &Path,
    place: ExternalPath,
) -> Answer {
    let ask = || {
        if request.params.watch {
            return Err(ApiError::WatchNotSupported { group: request.gv.group });
        }
        let (namespace, metric) = (path.segment(place.namespace), path.segment(place.metric));
        Ok(provider.external(&namespace, &metric, &request.params.selector))
    };
    read::answer(reads, request, ask, || {
        let (namespace, metric) = (path.segment(place.namespace), path.segment(place.metric));
        let mut attributes = attributes::of_resource(request.method, path, request.params);
        if let Attributes::Resource(attributes) = &mut attributes {
            // All of the metric: not only the series that the request happens to select.
            attributes.label_selector = Selector::default();
        }
        let near = provider.near_external(&namespace, &metric);
        hints(&attributes, near, |attributes| &mut attributes.resource)
    })
}

impl List for ExternalReading {
    fn render(&self, gv: &GroupVersion) -> Bytes {
        render(gv, self)
    }

    fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.items.iter().map(|item| item.timestamp)
    }
}

/// `metricLabels` is `{}` for a series without labels and `null` for what is no series, and
/// `timestamp` has whole seconds, as Go's encoder writes them; `window` is not known and therefore
/// absent.
fn render(gv: &GroupVersion, reading: &ExternalReading) -> Bytes {
    let labels: usize = reading
        .items
        .iter()
        .flat_map(|item| item.labels.iter().map(|(k, v)| k.len() + v.len() + 8))
        .sum();
    let each = 96 + reading.metric.as_str().len();
    let mut out = Vec::with_capacity(128 + reading.items.len() * each + labels);
    out.extend_from_slice(br#"{"kind":""#);
    out.extend_from_slice(gv.list_kind.as_bytes());
    out.extend_from_slice(br#"","apiVersion":""#);
    out.extend_from_slice(gv.name.as_bytes());
    out.extend_from_slice(br#"","metadata":{},"items":["#);
    if reading.items.is_empty() {
        out.extend_from_slice(b"]}\n");
        return out.into();
    }
    // The same for every item: its name, and mostly its time.
    let start = out.len();
    out.extend_from_slice(br#"{"metricName":"#);
    write_string(&mut out, reading.metric.as_str());
    out.extend_from_slice(br#","metricLabels":"#);
    let name = start..out.len();
    let mut time: Option<(Timestamp, Range<usize>)> = None;
    for (i, item) in reading.items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
            out.extend_from_within(name.clone());
        }
        if item.labels.is_empty() {
            let none: &[u8] = if item.labels.is_absent() { b"null" } else { b"{}" };
            out.extend_from_slice(none);
        } else {
            for (j, (key, value)) in item.labels.iter().enumerate() {
                out.push(if j == 0 { b'{' } else { b',' });
                write_string(&mut out, key);
                out.push(b':');
                write_string(&mut out, value);
            }
            out.push(b'}');
        }
        match &time {
            Some((written, place)) if *written == item.timestamp => {
                out.extend_from_within(place.clone());
            }
            _ => {
                let start = out.len();
                let seconds = whole_seconds(item.timestamp);
                // Writing to a Vec cannot fail: it grows.
                let _ = write!(out, r#","timestamp":"{seconds}","value":""#);
                time = Some((item.timestamp, start..out.len()));
            }
        }
        let _ = write!(out, "{}", item.value);
        out.extend_from_slice(br#""}"#);
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}
