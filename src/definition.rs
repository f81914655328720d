//! (wip)
pub mod decode;
pub mod document;
pub mod field;
pub mod report;
pub mod scalar;
pub mod yaml;
