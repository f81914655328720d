//! Certificates that look after themselves: an authority and a serving pair of our own, in a Secret
//! that the replicas share, and the trust in them in our own `APIServices`.
//!
//! Responsible for: making both, renewing both well before they end, writing `spec.caBundle` of the
//! `APIServices` that point to our Service, and telling which pair is to be served and when.
//! Not responsible for: serving it (`server` takes [`Pairs`]), certificates from files.
//!
//! | module | responsible for |
//! |---|---|
//! | `settings` | what operators say |
//! | `x509`, `authority`, `pair` | certificates: parsing, verifying, issuing |
//! | `content`, `bundle` | what is in the Secret, and in a `caBundle` |
//! | `keeper` | what follows from what was seen: pure, without a cluster |
//! | `cluster` | reading and writing, with preconditions |
//! | `upkeep` | looking, at the right times |
//! | `standing`, `metrics` | what readiness and operators are told |
//!
//! # How a rotation goes
//! Nothing is agreed on between replicas but what stands in the API server. Each looks, works out
//! the one next state, and writes it on the condition that nobody has written since.
//!
//! 1. An authority is due: a next one is put into the Secret beside it.
//! 2. Its certificate is added to every `caBundle`.
//! 3. When all of them were seen to carry it for [`Spans::pause`], it signs a new pair, and both
//!    take their predecessors' place in the Secret.
//! 4. A replica serves a pair from the Secret when it has itself seen its authority in all bundles
//!    for that long, and none of them written meanwhile, or when the same authority signed the pair
//!    before. A Secret that was restored gives no pair that is about to end.
//!
//! # Invariants
//! * A pair is served only when every one of our `APIServices` trusts its authority, but for a
//!   process that has none yet: it shows the best it has, and is not ready.
//! * A bundle that is written has the authority of the pair that this replica serves, and every
//!   authority in the Secret until it has expired: whoever was cut off may still serve a pair of it.
//!   What leaves the Secret earlier stays for [`Spans::grace`].
//! * What is decided on is no older than one call may take: all is read at the same time.
//! * Whatever is in the Secret or in a bundle, the pair in use stays in use until a better one is
//!   there.
//! * No key is in a log line, an error, a label or a `Debug` form.

mod authority;
mod bundle;
mod cluster;
mod content;
mod keeper;
mod metrics;
mod pair;
mod settings;
mod standing;
mod upkeep;
mod x509;

pub use settings::{Settings, Spans};
pub use standing::Standing;
pub use upkeep::{Pairs, Parts, start};
