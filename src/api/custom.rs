//! Reads of metrics of Kubernetes objects.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::api::Answer;
use crate::api::attributes;
use crate::api::group::{CUSTOM_V1BETA1, CustomPath, GroupVersion};
use crate::api::json::write_string;
use crate::api::path::Path;
use crate::api::read::{self, List, Reads, Request, hints, whole_seconds};
use crate::model::{
    ApiError, CustomItem, CustomReading, CustomRequest, MetricsProvider, ObjectChoice, Operator,
    Requirement, Selector,
};

/// The name that stands for all objects.
const ALL: &str = "*";

/// Reads and answers. A wish to watch is ignored, as adapters written in Go ignore it.
pub(super) fn answer(
    reads: &Arc<Reads>,
    provider: &dyn MetricsProvider,
    request: &Request<'_>,
    path: &Path,
    place: CustomPath,
) -> Answer {
    let ask = || {
        let params = request.params;
        params.fields.check_name(&path.segment(place.field_name)).map_err(ApiError::BadRequest)?;
        if let Some(problem) = &params.metric_problem {
            return Err(ApiError::Unclassified(problem.clone()));
        }
        let resource = place.resource.map(|i| path.segment(i));
        let namespace = place.namespace.map(|i| path.segment(i));
        let (name, metric) = (path.segment(place.name), path.segment(place.metric));
        Ok(provider.custom(&CustomRequest {
            resource: resource.as_deref().unwrap_or("namespaces"),
            namespace: namespace.as_deref(),
            objects: if name == ALL {
                ObjectChoice::Matching(&params.selector)
            } else {
                ObjectChoice::Named(&name)
            },
            metric: &metric,
            metric_selector: &params.metric_selector,
        }))
    };
    read::answer(reads, request, ask, || {
        let resource = place.resource.map(|i| path.segment(i));
        let namespace = place.namespace.map(|i| path.segment(i));
        let (name, metric) = (path.segment(place.name), path.segment(place.metric));
        let near = provider.near_custom(&CustomRequest {
            resource: resource.as_deref().unwrap_or("namespaces"),
            namespace: namespace.as_deref(),
            objects: if name == ALL {
                ObjectChoice::Matching(&request.params.selector)
            } else {
                ObjectChoice::Named(&name)
            },
            metric: &metric,
            metric_selector: &request.params.metric_selector,
        });
        let attributes = attributes::of_resource(request.method, path, request.params);
        // Of a metric of a namespace, `.../metrics/<metric>`, it is the name.
        let is_name = place.resource.is_none();
        hints(&attributes, near, |attributes| {
            if is_name { &mut attributes.name } else { &mut attributes.subresource }
        })
    })
}

impl List for CustomReading {
    fn render(&self, gv: &GroupVersion) -> Bytes {
        render(gv, self)
    }

    fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.items.iter().map(|item| item.timestamp)
    }
}

/// The list, with fields in the order of Go's types. Namespaces are left out where there is none,
/// the time has whole seconds, and `window` (`windowSeconds`) is not known and therefore absent.
fn render(gv: &GroupVersion, reading: &CustomReading) -> Bytes {
    let first_version = gv.version == CUSTOM_V1BETA1.version;
    let selector = label_selector(&reading.selector);
    // What follows the object in every item, and what ends it.
    let (mut before, mut after) = (Vec::new(), Vec::from(br#"""#));
    if first_version {
        before.extend_from_slice(br#","metricName":"#);
        write_string(&mut before, &reading.metric);
        after.extend_from_slice(br#","selector":"#);
        after.extend_from_slice(&selector);
    } else {
        before.extend_from_slice(br#","metric":{"name":"#);
        write_string(&mut before, &reading.metric);
        before.extend_from_slice(br#","selector":"#);
        before.extend_from_slice(&selector);
        before.push(b'}');
    }
    after.push(b'}');

    let objects: usize = reading
        .items
        .iter()
        .map(|CustomItem { object, .. }| {
            let namespace = object.namespace.as_ref().map_or(0, |n| n.len());
            object.kind.len() + object.name.len() + object.api_version.len() + namespace
        })
        .sum();
    let each = 144 + before.len() + after.len();
    let mut out = Vec::with_capacity(128 + reading.items.len() * each + objects);
    out.extend_from_slice(br#"{"kind":""#);
    out.extend_from_slice(gv.list_kind.as_bytes());
    out.extend_from_slice(br#"","apiVersion":""#);
    out.extend_from_slice(gv.name.as_bytes());
    out.extend_from_slice(br#"","metadata":{},"items":["#);
    // Items of one list mostly differ in name and value alone: what is around these is copied.
    let mut last: Option<Written<'_>> = None;
    for (i, item) in reading.items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let object = &item.object;
        let copied = last.as_ref().filter(|w| w.fits(item));
        if let Some(written) = copied {
            out.extend_from_within(written.head.clone());
            write_string(&mut out, &object.name);
            out.extend_from_within(written.tail.clone());
        } else {
            let start = out.len();
            out.extend_from_slice(br#"{"describedObject":{"kind":"#);
            write_string(&mut out, &object.kind);
            if let Some(namespace) = &object.namespace {
                out.extend_from_slice(br#","namespace":"#);
                write_string(&mut out, namespace);
            }
            out.extend_from_slice(br#","name":"#);
            let head = start..out.len();
            write_string(&mut out, &object.name);
            let start = out.len();
            out.extend_from_slice(br#","apiVersion":"#);
            write_string(&mut out, &object.api_version);
            out.push(b'}');
            out.extend_from_slice(&before);
            // Writing to a Vec cannot fail: it grows.
            let seconds = whole_seconds(item.timestamp);
            let _ = write!(out, r#","timestamp":"{seconds}","value":""#);
            last = Some(Written { item, head, tail: start..out.len() });
        }
        let _ = write!(out, "{}", item.value);
        out.extend_from_slice(&after);
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}

/// Where an item was written: what comes before its object's name, and between name and value.
struct Written<'a> {
    item: &'a CustomItem,
    head: Range<usize>,
    tail: Range<usize>,
}

impl Written<'_> {
    fn fits(&self, item: &CustomItem) -> bool {
        let (ours, theirs) = (&self.item.object, &item.object);
        self.item.timestamp == item.timestamp
            && ours.kind == theirs.kind
            && ours.namespace == theirs.namespace
            && ours.api_version == theirs.api_version
    }
}

/// A selector as `metav1.LabelSelector`: what was written with `=` in `matchLabels` (of two with
/// one key the later), everything else in `matchExpressions`; `null` for none.
///
/// Go's conversion refuses `!=`; here it is `NotIn`, which means the same. Comparisons of integers
/// have no form of their own in a `LabelSelector` and are told as `Gt` and `Lt`, as in a node's.
fn label_selector(selector: &Selector) -> Vec<u8> {
    if selector.is_everything() {
        return b"null".to_vec();
    }
    let (labels, others): (Vec<&Requirement>, Vec<&Requirement>) =
        selector.requirements().iter().partition(|r| r.operator == Operator::Equals);
    let labels: BTreeMap<&str, &str> =
        labels.iter().filter_map(|r| Some((&*r.key, &**r.values.first()?))).collect();
    let mut out = vec![b'{'];
    for (i, (key, value)) in labels.iter().enumerate() {
        out.extend_from_slice(if i == 0 { br#""matchLabels":{"# } else { b"," });
        write_string(&mut out, key);
        out.push(b':');
        write_string(&mut out, value);
    }
    if !labels.is_empty() {
        out.push(b'}');
    }
    let mut expressions = 0;
    for requirement in others {
        if expressions > 0 {
            out.push(b',');
        } else {
            let start: &[u8] = if labels.is_empty() { b"" } else { b"," };
            out.extend_from_slice(start);
            out.extend_from_slice(br#""matchExpressions":["#);
        }
        expressions += 1;
        out.extend_from_slice(br#"{"key":"#);
        write_string(&mut out, &requirement.key);
        out.extend_from_slice(br#","operator":"#);
        write_string(&mut out, operator(requirement.operator));
        for (i, value) in requirement.values.iter().enumerate() {
            out.extend_from_slice(if i == 0 { br#","values":["# } else { b"," });
            write_string(&mut out, value);
        }
        if !requirement.values.is_empty() {
            out.push(b']');
        }
        out.push(b'}');
    }
    if expressions > 0 {
        out.push(b']');
    }
    out.push(b'}');
    out
}

fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Equals | Operator::In => "In",
        Operator::NotEquals | Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        Operator::GreaterThan => "Gt",
        Operator::LessThan => "Lt",
    }
}
