//! Which series there are: `/api/v1/series`.
//!
//! An answer can have a million series of a few shapes. It is read as a stream, on a thread of its
//! own, and nothing but the shapes is kept.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc;

use super::PrometheusSource;
use super::credentials::Headers;
use super::decode::{self, Head, NAME_LABEL};
use super::{Method, failure};
use crate::model::{Cause, FetchError, SeriesLister, SeriesShape};

/// How long one listing may take, unless the source's `timeout` is longer. The original waits for
/// ever; a minute is what a Prometheus with millions of series takes at worst.
pub(super) const TIMEOUT: Duration = Duration::from_mins(1);

/// The word for metrics labels: listings take so much longer than queries that together they would
/// say nothing of either.
pub(super) const KIND: &str = "prometheus series";

/// Listings of one source at once: they are heavy for the server, and none is urgent.
pub(super) const CONCURRENT: usize = 2;

/// Bytes of one answer: some millions of series. They are not kept; this ends an endless answer.
const MAX_BYTES: usize = 1 << 30;

/// Shapes of one answer: about a hundred bytes each. More names are a wrong series query.
const MAX_SHAPES: usize = 100_000;

/// Labels of one series. Prometheus' own limits are about thirty.
const MAX_LABELS: usize = 1000;

/// Bytes of all shapes' names and labels.
const MAX_SHAPE_BYTES: usize = 64 << 20;

/// Bytes kept of an answer that is an error.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Parts of an answer on their way to the thread that reads them.
const CHUNKS: usize = 4;

/// Separates the parts of a shape's key; it is in no label's name.
const SEPARATOR: char = '\u{1f}';

impl SeriesLister for PrometheusSource {
    fn series<'a>(
        &'a self,
        selector: &'a str,
        start: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<SeriesShape>, FetchError>> {
        let gate = &self.listings;
        async move { gate.call(gate.deadline(), "", self.list(selector, start)).await }.boxed()
    }

    fn at_once(&self) -> usize {
        self.listings.width()
    }
}

impl PrometheusSource {
    async fn list(&self, selector: &str, start: Timestamp) -> Result<Vec<SeriesShape>, FetchError> {
        let parameters =
            [("match[]", selector.to_owned()), ("start", seconds(start.as_millisecond()))];
        let client = self.connection.client(&*self.clock);
        let mut headers = self.credentials.headers(&*self.clock);
        let mut signed_as = None;
        let request = match &self.signer {
            None => {
                let url = decode::api(client.base_url(), "series");
                let request = match self.method {
                    Method::Get => client.inner().get(url).query(&parameters),
                    Method::Post => client.inner().post(url).form(&parameters),
                };
                let pairs = headers.iter().map(|(name, value)| (name.clone(), value.clone()));
                request.headers(pairs.collect()).build().map_err(|error| failure::no_answer(&error))
            }
            Some(signer) => {
                let (base, method) = (client.base_url(), self.method);
                match signer.request(base, "series", method, &parameters, headers.iter()).await {
                    Ok(prepared) => {
                        headers = headers.with_secrets(&prepared.secrets);
                        signed_as = Some((signer, prepared.identity));
                        Ok(prepared.request)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let answer = match request {
            Ok(request) => match client.inner().execute(request).await {
                Ok(response) => self.take(response).await,
                Err(error) => Err(failure::no_answer(&error)),
            },
            Err(error) => Err(error),
        };
        match answer {
            Ok(Taken::Series(shapes)) => unsecret(shapes, &headers),
            Ok(Taken::Refusal(head, body)) => {
                let refused =
                    signed_as.and_then(|(signer, who)| signer.refused(&head, &body, &who));
                let error = refused.unwrap_or_else(|| decode::refusal(&head, &body));
                Err(failure::redact(&error, &headers))
            }
            Err(error) => Err(failure::redact(&error, &headers)),
        }
    }

    /// Reads an answer while it comes.
    async fn take(&self, mut response: reqwest::Response) -> Result<Taken, FetchError> {
        let head = Head::of(&response);
        if !(200..300).contains(&head.status) {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk(&mut response, &head).await? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ERROR_BYTES {
                    body.truncate(MAX_ERROR_BYTES);
                    break;
                }
            }
            return Ok(Taken::Refusal(head, body));
        }
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let reading = tokio::task::spawn_blocking(move || {
            let mut start = Vec::new();
            let stream = Stream { chunks, rest: Bytes::new(), start: &mut start };
            let mut json = serde_json::Deserializer::from_reader(io::BufReader::new(stream));
            let read = Envelope::deserialize(&mut json);
            (read.map_err(|error| error.to_string()), start)
        });
        let mut bytes = 0_usize;
        while let Some(chunk) = self.chunk(&mut response, &head).await? {
            bytes = bytes.saturating_add(chunk.len());
            if bytes > MAX_BYTES {
                return Err(too_large(&format!(
                    "the list of series is larger than {MAX_BYTES} bytes"
                )));
            }
            if sender.send(chunk).await.is_err() {
                // The reader has seen enough: what it says comes below.
                break;
            }
        }
        drop(sender);
        let Ok((read, start)) = reading.await else {
            return Err(FetchError::Malformed("reading the list of series failed".into()));
        };
        let Ok(envelope) = read else {
            return Ok(Taken::Refusal(head, start));
        };
        if envelope.status.as_deref() != Some("success") {
            return Ok(Taken::Refusal(head, start));
        }
        if envelope.is_partial == Some(true) {
            let cause =
                "the list is partial (isPartial): a storage node of the server did not answer";
            return Err(FetchError::Partial(Cause::new(cause)));
        }
        match envelope.data {
            Some(Shapes { over: true, .. }) => Err(too_large(&format!(
                "the series query finds series of more than {MAX_SHAPES} different names and labels, or too \
                 long ones"
            ))),
            Some(shapes) => Ok(Taken::Series(shapes.in_order())),
            // The original takes this for a failure, too, and keeps what it had.
            None => Err(FetchError::Malformed("the answer has no list of series".into())),
        }
    }

    async fn chunk(
        &self,
        response: &mut reqwest::Response,
        head: &Head,
    ) -> Result<Option<Bytes>, FetchError> {
        let chunk = response.chunk().await.map_err(|error| failure::not_read(head, &error))?;
        self.listings.metrics().received(chunk.as_ref().map_or(0, Bytes::len));
        Ok(chunk)
    }
}

/// An answer, read.
enum Taken {
    Series(Vec<SeriesShape>),
    /// Not a list: its head and its beginning.
    Refusal(Head, Vec<u8>),
}

fn too_large(text: &str) -> FetchError {
    FetchError::Malformed(Cause::new(format!("{text}; make it more specific")))
}

/// Unix seconds with as many decimals as they need, as the original writes them.
fn seconds(milliseconds: i64) -> String {
    let (whole, part) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
    let text = format!("{whole}.{part:03}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The shapes, unless a secret of the request is among them.
fn unsecret(shapes: Vec<SeriesShape>, headers: &Headers) -> Result<Vec<SeriesShape>, FetchError> {
    let texts = shapes.iter().flat_map(|s| s.labels.iter().chain([&s.name]));
    for text in texts {
        if headers.secrets().are_in(text) {
            let cause = "the answer repeats the source's credentials";
            return Err(FetchError::Malformed(Cause::new(cause)));
        }
    }
    Ok(shapes)
}

/// The chunks of an answer, as a thing to read from.
struct Stream<'a> {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
    /// The beginning of all, for a message.
    start: &'a mut Vec<u8>,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            // The sender goes at the end of the answer, or when nobody waits for it any more.
            let Some(chunk) = self.chunks.blocking_recv() else { return Ok(0) };
            let room = MAX_ERROR_BYTES.saturating_sub(self.start.len()).min(chunk.len());
            self.start.extend_from_slice(&chunk[..room]);
            self.rest = chunk;
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// The answer's outer form.
#[derive(Deserialize)]
struct Envelope {
    status: Option<String>,
    data: Option<Shapes>,
    #[serde(rename = "isPartial", default)]
    is_partial: Option<bool>,
}

/// The shapes of a list, each with the place at which it was seen last.
#[derive(Default)]
struct Shapes {
    seen: HashMap<String, usize, ahash::RandomState>,
    /// Bytes of the keys.
    bytes: usize,
    over: bool,
}

impl Shapes {
    fn in_order(self) -> Vec<SeriesShape> {
        let mut all: Vec<(String, usize)> = self.seen.into_iter().collect();
        all.sort_unstable_by_key(|(_, at)| *at);
        let shape = |(key, _): (String, usize)| {
            let mut parts = key.split(SEPARATOR);
            SeriesShape {
                name: parts.next().unwrap_or_default().into(),
                labels: parts.map(Into::into).collect(),
            }
        };
        all.into_iter().map(shape).collect()
    }
}

impl<'de> Deserialize<'de> for Shapes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Shapes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of series")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shapes, A::Error> {
                let mut shapes = Shapes::default();
                let mut key = String::new();
                let mut at = 0;
                while let Some(Names { name, mut labels }) = seq.next_element()? {
                    labels.sort_unstable();
                    key.clear();
                    key.push_str(&name);
                    for label in &labels {
                        key.push(SEPARATOR);
                        key.push_str(label);
                    }
                    at += 1;
                    if let Some(last) = shapes.seen.get_mut(&key) {
                        *last = at;
                    } else if shapes.seen.len() < MAX_SHAPES
                        && shapes.bytes + key.len() <= MAX_SHAPE_BYTES
                    {
                        shapes.bytes += key.len();
                        shapes.seen.insert(key.clone(), at);
                    } else {
                        shapes.over = true;
                    }
                }
                Ok(shapes)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// One series without its values.
struct Names {
    name: String,
    labels: Vec<String>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label set")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Names { name: String::new(), labels: Vec::new() };
                while let Some(label) = map.next_key::<String>()? {
                    if label == NAME_LABEL {
                        names.name = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        if names.labels.len() >= MAX_LABELS {
                            return Err(A::Error::custom("a series has too many labels"));
                        }
                        names.labels.push(label);
                    }
                }
                Ok(names)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(text: &str) -> Vec<String> {
        let envelope: Envelope = serde_json::from_reader(text.as_bytes()).unwrap();
        let shapes = envelope.data.unwrap().in_order();
        shapes.iter().map(|s| format!("{}({})", s.name, s.labels.join(","))).collect()
    }

    #[test]
    fn a_shape_is_kept_once_where_it_was_last() {
        let text = r#"{"status":"success","data":[
            {"__name__":"a","pod":"1","namespace":"x"},
            {"__name__":"b","pod":"1"},
            {"__name__":"a","namespace":"y","pod":"2"},
            {"job":"nameless"},
            {"__name__":"a","pod":"3"}]}"#;
        assert_eq!(shapes(text), ["b(pod)", "a(namespace,pod)", "(job)", "a(pod)"]);
    }

    #[test]
    fn times_are_written_as_the_original_writes_them() {
        assert_eq!(seconds(1_700_000_000_000), "1700000000");
        assert_eq!(seconds(1_700_000_000_120), "1700000000.12");
        assert_eq!(seconds(1_700_000_010_000), "1700000010");
    }

    #[test]
    fn values_need_not_be_text() {
        let text = r#"{"data":[{"__name__":"a","x":1}],"status":"success"}"#;
        assert_eq!(shapes(text), ["a(x)"]);
    }
}
