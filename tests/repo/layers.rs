//! Who imports whom, and where foreign types are named.
//!
//! Code for tests follows the layer table as well: a unit test that needs another layer is an
//! integration test and belongs into `tests/it`. It may name foreign types, to look at what its
//! module makes of them.

use std::path::Path;

use crate::Violation;
use crate::modules::{Module, walk};
use crate::source::{self, File};
use crate::table::{HOMES, Layer};

/// What `main.rs` may import from the library.
const MAIN_IMPORTS: [&str; 2] = ["cli", "runtime"];

/// Checks every file that `lib.rs` and `main.rs` reach.
pub(crate) fn check_crate(root: &Path) -> Vec<Violation> {
    let (modules, mut violations) = walk(root, "src/lib.rs");
    violations.extend(modules.iter().flat_map(check));
    let (mains, unread) = walk(root, "src/main.rs");
    violations.extend(unread);
    violations.extend(mains.iter().flat_map(check_main));
    violations
}

fn check(module: &Module) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut report = |line: usize, what: String| {
        violations.push(Violation::new(&module.path, line, what));
    };
    let Some(top) = module.names.first() else {
        for path in &module.file.paths {
            report(path.line, "lib.rs declares modules and contains no code".to_owned());
        }
        return violations;
    };
    let Some(layer) = Layer::of(top) else {
        report(0, format!("module {top} is not in the layer table"));
        return violations;
    };
    for path in &module.file.paths {
        match imported(path, &module.names) {
            Imported::Module(name) if name == "*" || Layer::of(&name).is_none() => {
                report(path.line, format!("names no module of the layer table: {}", shown(path)));
            }
            Imported::Module(name) if !layer.may_import(&name) => {
                report(path.line, format!("{top} must not import {name}: {}", shown(path)));
            }
            Imported::Foreign(name) if !module.test && !path.test => {
                let here = module.names.join("::");
                for home in HOMES.iter().filter(|h| h.covers(&name) && !h.is_home(&here)) {
                    report(
                        path.line,
                        format!("{name} stays in {}, not in {here}", home.modules.join(", ")),
                    );
                }
            }
            Imported::Module(_) | Imported::Foreign(_) | Imported::Own => {}
        }
    }
    violations
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Imported {
    /// A top-level module of this crate.
    Module(String),
    /// Something that may be a crate.
    Foreign(String),
    /// Something in the same top-level module.
    Own,
}

fn imported(path: &source::Path, names: &[String]) -> Imported {
    let first = path.segments[0].as_str();
    let second = || path.segments.get(1).cloned().unwrap_or_else(|| "*".to_owned());
    match first {
        "crate" | "tidepole" => Imported::Module(second()),
        "super" => {
            let up = path.segments.iter().take_while(|s| *s == "super").count();
            let depth = names.len() + path.inside.len();
            if up < depth {
                Imported::Own
            } else {
                Imported::Module(path.segments.get(up).cloned().unwrap_or_else(|| "*".to_owned()))
            }
        }
        "self" | "Self" => Imported::Own,
        _ => Imported::Foreign(first.to_owned()),
    }
}

fn check_main(module: &Module) -> Vec<Violation> {
    let wrong = |path: &&source::Path| {
        path.segments[0] == "tidepole"
            && !path.segments.get(1).is_some_and(|name| MAIN_IMPORTS.contains(&name.as_str()))
    };
    let paths = module.file.paths.iter().filter(wrong);
    paths
        .map(|path| {
            let what = format!("main imports {} only: {}", MAIN_IMPORTS.join(" and "), shown(path));
            Violation::new(&module.path, path.line, what)
        })
        .collect()
}

fn shown(path: &source::Path) -> String {
    path.segments.join("::")
}

/// Runs the check on a text as if it were the file of a module.
#[cfg(test)]
fn complaints(names: &[&str], text: &str) -> Vec<String> {
    let module = Module {
        path: "x.rs".into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        test: false,
        text: text.to_owned(),
        file: File::parse(text).unwrap(),
    };
    let found = if names == ["main"] { check_main(&module) } else { check(&module) };
    found.into_iter().map(|violation| violation.to_string()).collect()
}

#[test]
fn a_forbidden_import_is_caught_however_it_is_written() {
    let wrong = "x.rs:1: model must not import api: ";
    for (text, path) in [
        ("use crate::api;", "crate::api"),
        ("use crate::{model::Query, api::{Route, wire::Item}};", "crate::api::Route"),
        ("fn f() -> crate::api::Route { x }", "crate::api::Route"),
        ("fn f() { vec![crate::api::f()] }", "crate::api::f"),
        ("use super::super::api::Route;", "super::super::api::Route"),
        ("mod tests { use super::super::super::api; }", "super::super::super::api"),
        ("#[cfg(test)] mod tests { use crate::api::Route; }", "crate::api::Route"),
        ("pub use ::tidepole::api::Route;", "tidepole::api::Route"),
    ] {
        let found = complaints(&["model", "query"], text);
        assert_eq!(found.first(), Some(&format!("{wrong}{path}")), "{text}");
    }
    assert_eq!(
        complaints(&["model"], "use crate::*;\nuse crate as c;\nuse crate::apis;"),
        [
            "x.rs:1: names no module of the layer table: crate::*",
            "x.rs:2: names no module of the layer table: crate",
            "x.rs:3: names no module of the layer table: crate::apis",
        ]
    );
    assert_eq!(complaints(&["utils"], ""), ["x.rs:0: module utils is not in the layer table"]);
    assert_eq!(
        complaints(&[], "pub mod model;\npub use model::Query;"),
        ["x.rs:2: lib.rs declares modules and contains no code"]
    );
    assert_eq!(
        complaints(&["main"], "fn main() { tidepole::cli::run(); tidepole::api::f() }"),
        ["x.rs:1: main imports cli and runtime only: tidepole::api::f"]
    );
}

#[test]
fn an_allowed_import_is_not() {
    for (module, text) in [
        ("api", "use crate::{api::wire, model, status, task, telemetry};"),
        ("api", "// crate::cache\nconst X: &str = \"crate::cache\";"),
        ("model", "use super::query; use self::sample::Sample; use serde::Serialize;"),
        ("runtime", "use crate::{source, control, lookup, cli};"),
        ("config", "pub(in crate::config) struct X(crate::source::Settings);"),
    ] {
        assert_eq!(complaints(&[module, "x"], text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_foreign_type_away_from_home_is_caught() {
    assert_eq!(
        complaints(&["lookup"], "use http::StatusCode;\nfn f() -> aws_sdk_sqs::Client { x }"),
        [
            "x.rs:1: http stays in api, server, status, runtime, not in lookup",
            "x.rs:2: aws_sdk_sqs stays in source, not in lookup",
        ]
    );
    assert_eq!(
        complaints(&["server", "tls"], "use moka::future::Cache;"),
        ["x.rs:1: moka stays in cache, server::authn, server::authz, not in server::tls"]
    );
    assert_eq!(complaints(&["server", "authn", "token"], "use moka::future::Cache;").len(), 0);
    assert_eq!(complaints(&["lookup"], "#[cfg(test)] mod tests { use http::Uri; }").len(), 0);
    assert_eq!(
        complaints(&["lookup"], "fn f(http: u8) { let x = y.http; g(x::http::Z) }").len(),
        0
    );
}
