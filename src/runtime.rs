//! (under construction)

pub mod admin;
