//! The scenarios, by what a user would look up.

mod access;
mod beat;
mod capacity;
mod certificates;
mod cloudwatch;
mod cloudwatch_adapter;
mod control_plane_alone;
mod crds;
mod custom;
mod explain;
mod failures;
mod hpa;
mod install;
mod lifecycle;
mod outages;
mod recorded;
mod registration;
mod replicas;
mod resources;
mod scale;
mod second_opinion;
mod status;
mod storm;
mod warmth;
