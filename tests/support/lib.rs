//! What the test binaries share. Each includes this file and uses a part of it.
//!
//! A server under test is started by [`server::Setup`], in process or as a process of its own.

#![allow(dead_code, reason = "every test binary uses another part")]

pub(crate) mod client;
pub(crate) mod cluster_api;
pub(crate) mod frames;
pub(crate) mod openmetrics;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wait;
