//! Kubernetes objects: which namespaces a selector matches, which resources the cluster has, which
//! objects of them there are, and questions that have objects' names in them.
//!
//! Responsible for: API discovery ([`Resources`]), metadata-only watches of what somebody asks about
//! ([`Watches`]), the pods of HPAs' targets ([`Scales`]), the labels of namespaces ([`Namespaces`]), and writing the text of a question
//! about objects at the moment it is asked ([`AskingSource`]).
//! Not responsible for: what a definition or a rule means, what an answer says of which object.
//!
//! Invariants: readers never block, and take no lock; nothing is listed or watched before somebody
//! asks about it; of an object nothing is kept but namespace, name and labels; what was known
//! survives an outage of the API server, and what was never known is said to be unknown, with the
//! reason, instead of being taken for empty.

mod asking;
mod index;
mod leaf;
mod namespaces;
mod resources;
mod said;
mod scales;
mod watches;

pub use asking::AskingSource;
pub use index::{Changes, Found, Index, Pair, Words};
pub use namespaces::Namespaces;
pub use resources::{BuiltInResources, Resources};
pub use scales::Scales;
pub use watches::{WatchLimits, Watches};
