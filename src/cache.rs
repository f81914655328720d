//! The state of every query, and the stores that hold it.
//!
//! Responsible for: what the last fetches of a query said and what may therefore be served
//! ([`entry`], pure), the cell through which readers and the refresher share that state
//! ([`cell`]), what people see of the last hour ([`history`]), and the bounded store of queries that
//! exist only because somebody read or announced them ([`on_demand`]).
//! Not responsible for: when to fetch (the refresher), which metrics exist (the catalog, which
//! holds the cells of all known queries so that nothing wanted can be evicted).
//!
//! # Life of a query
//!
//! ```text
//! waiting --fetch ok--> fresh --fetch failed / no data--> servable --older than maxAge--> failed
//!    |                    ^  \--nothing fetched for maxAge--> expired                        |
//!    +--fetch failed--> failed ----------------fetch ok----------------------------------> fresh
//! ```
//!
//! Invariants: a served value is an upstream's value not older than `maxAge`, or the number the
//! definition's author chose for "no data", or there is an error. A failed call never becomes a
//! number. Readers take no lock: they load one `Arc`.

pub mod cell;
pub mod entry;
pub mod history;
pub mod on_demand;
pub mod read_phases;
pub mod sentence;

pub use cell::{Admission, Demand, Hold, QueryCell};
pub use entry::{EntryState, Failure, NoData, STALE, View};
pub use history::{History, Point};
pub use on_demand::OnDemand;
pub use read_phases::{PHASES, READ, ReadPhases};
