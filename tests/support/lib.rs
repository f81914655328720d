//! What the test binaries share. Each includes this file and uses a part of it.
//!
//! A server under test is started in process by `tidepole::runtime::start`; put the function that
//! starts one here, beside the parts that it needs.

#![allow(dead_code, reason = "every test binary uses another part")]

pub(crate) mod client;
pub(crate) mod openmetrics;
pub(crate) mod ports;
pub(crate) mod tls;
