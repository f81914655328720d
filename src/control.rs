//! The control flow: what keeps the memory fresh.
//!
//! Responsible for: watching definitions ([`file_watch`], [`resource_watch`]), announcing what HPAs refer to
//! ([`hpa_watch`]), following rule files and the series that their rules find ([`rule_watch`]), and refreshing wanted queries ([`refresher`]).
//! Not responsible for: answering requests.

pub mod ceiling;
pub mod declared;
pub mod events;
pub mod file_watch;
pub mod hpa_watch;
pub mod lease;
mod phase;
mod protection;
pub mod refresher;
pub mod resource_status;
pub mod resource_watch;
pub mod rule_watch;
pub mod schedule;

pub use hpa_watch::HpaWatch;
pub use refresher::Refresher;
pub use resource_watch::ResourceWatch;
pub use rule_watch::RuleWatch;
