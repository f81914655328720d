//! The server as its clients see it: in process, over real sockets on loopback.

#[path = "../support/lib.rs"]
mod support;

mod admin;
mod attacks;
mod browser;
mod certificates;
mod chaos;
mod client;
mod cloudwatch;
mod crowd;
mod custom;
mod custom_metrics;
mod delegated;
mod fake_cloudwatch;
mod faults;
mod hpa_watch;
mod http;
mod http2;
mod identities;
mod image;
mod k8s_cloudwatch_adapter;
mod logs;
mod metrics;
mod objects;
mod overload;
mod process;
mod query;
mod query_live;
mod readiness;
mod readme;
mod reload;
mod resource_watch;
mod rules;
mod secrets;
mod semantics;
mod shutdown;
mod sqs;
mod traces;
