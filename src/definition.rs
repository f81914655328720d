//! (wip)
pub mod aws;
pub mod decode;
pub mod document;
pub mod field;
pub mod names;
pub mod recording;
pub mod report;
pub mod scalar;
pub mod yaml;
