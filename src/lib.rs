//! Tidepole: a metrics adapter for Kubernetes' Horizontal Pod Autoscaler.
//!
//! One server behind the cluster's aggregator that answers `external.metrics.k8s.io` and
//! `custom.metrics.k8s.io` from memory, and a control side that keeps that memory fresh from
//! Prometheus, Amazon `CloudWatch` and SQS.
//!
//! # Map
//!
//! | layer | module | responsible for |
//! |---|---|---|
//! | L0 | [`model`] | the domain's words and pure rules |
//! | L0 | [`status`] | the only place that chooses an HTTP status |
//! | L0 | [`task`] | tracked background tasks |
//! | L0 | [`telemetry`] | the registry of our own metrics, logging, traces |
//! | L1 | [`definition`] | the documents users write, and their translation into catalog entries |
//! | L1 | [`source`] | reading upstreams: Prometheus, `CloudWatch`, SQS, simulated |
//! | L1 | [`cache`] | the state of every query, as a pure state machine and its stores |
//! | L1 | [`catalog`] | which metrics exist, as a snapshot that readers never lock |
//! | L1 | [`objects`] | which resources and objects the cluster has, and which match a selector |
//! | L1 | [`rules`] | the rule grammar of prometheus-adapter: series to metrics, metrics to queries |
//! | L1 | [`api`] | routes, negotiation, discovery, `OpenAPI`, wire types |
//! | L1 | [`server`] | TLS, connections, authentication, authorization |
//! | L1 | [`certificates`] | certificates that look after themselves, in a Secret and our `APIServices` |
//! | L2 | [`lookup`] | the request flow: name and selector to cached values |
//! | L2 | [`control`] | the control flow: file watch, HPA watch and refresher |
//! | L3 | [`config`] | the server config file |
//! | L4 | [`runtime`] | composition, lifecycle, readiness, the admin listener |
//! | L4 | [`cli`] | subcommands: serve, check, query |
//!
//! `ARCHITECTURE.md` has the flows and the import rules; the test `repo_layering` enforces them.

#![forbid(unsafe_code)]

pub mod api;
pub mod cache;
pub mod catalog;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod control;
pub mod definition;
pub mod lookup;
pub mod model;
pub mod objects;
pub mod rules;
pub mod runtime;
pub mod server;
pub mod source;
pub mod status;
pub mod task;
pub mod telemetry;
