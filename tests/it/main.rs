//! The server as its clients see it: in process, over real sockets on loopback.

#[path = "../support/lib.rs"]
mod support;

mod admin;
mod client;
mod metrics;
