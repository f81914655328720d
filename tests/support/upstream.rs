//! Fake upstream servers for tests: they answer as told, count their hits, see what was sent, and
//! inject the faults that a real server cannot produce on command.
//!
//! A server runs on its own thread with its own runtime, so that it works for tests with a paused
//! clock, and lives until it is dropped. It speaks HTTP/1.1 by hand: a proper HTTP library
//! refuses to break a connection in the middle of an answer.
//!
//! Included by path: `#[path = "support/upstream.rs"] mod upstream;`

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    clippy::missing_panics_doc,
    reason = "shared by several test binaries, each of which uses a part"
)]

#[path = "upstream/cloudwatch.rs"]
pub mod cloudwatch;
#[path = "upstream/http1.rs"]
mod http1;
#[path = "upstream/prometheus.rs"]
mod prometheus;
#[path = "upstream/sigv4.rs"]
pub mod sigv4;
#[path = "upstream/sqs.rs"]
mod sqs;
#[path = "upstream/sts.rs"]
mod sts;

pub use cloudwatch::CloudWatch;
pub use http1::{Gate, Reply, Request, Upstream};
pub use prometheus::Prometheus;
pub use sigv4::KeyRing;
pub use sqs::{Queue, Sqs};
pub use sts::{Sts, StsCall};
