//! The two tables that the layer test enforces, and how `ARCHITECTURE.md` states them.

use std::collections::BTreeSet;

/// Modules that every layer may import.
pub(crate) const EVERYWHERE: [&str; 2] = ["task", "telemetry"];

/// A top-level module and what it may import from this crate.
pub(crate) struct Layer {
    pub(crate) level: &'static str,
    pub(crate) module: &'static str,
    /// `["*"]` means everything. [`EVERYWHERE`] comes on top, except for `model` and `task`.
    pub(crate) imports: &'static [&'static str],
}

/// Who may import whom. A module may always import itself.
#[rustfmt::skip]
pub(crate) const LAYERS: &[Layer] = &[
    Layer { level: "L0", module: "model", imports: &[] },
    Layer { level: "L0", module: "task", imports: &[] },
    Layer { level: "L0", module: "telemetry", imports: &["model"] },
    Layer { level: "L0", module: "status", imports: &["model"] },
    Layer { level: "L1", module: "definition", imports: &["model"] },
    Layer { level: "L1", module: "source", imports: &["model"] },
    Layer { level: "L1", module: "cache", imports: &["model"] },
    Layer { level: "L1", module: "catalog", imports: &["model", "cache"] },
    Layer { level: "L1", module: "objects", imports: &["model"] },
    Layer { level: "L1", module: "rules", imports: &["model"] },
    Layer { level: "L1", module: "api", imports: &["model", "status"] },
    Layer { level: "L1", module: "server", imports: &["model", "status"] },
    Layer { level: "L1", module: "certificates", imports: &["model"] },
    Layer { level: "L2", module: "lookup", imports: &["model", "cache", "catalog", "rules"] },
    Layer { level: "L2", module: "control", imports: &["model", "cache", "catalog", "definition", "rules"] },
    Layer { level: "L3", module: "config", imports: &["model", "definition", "rules", "source", "server", "certificates", "api", "cache"] },
    Layer { level: "L4", module: "runtime", imports: &["*"] },
    Layer { level: "L4", module: "cli", imports: &["*"] },
];

/// Crates whose types stay in some modules.
pub(crate) struct Home {
    /// Crate names as Rust code writes them; a trailing `*` matches any ending.
    pub(crate) crates: &'static [&'static str],
    /// Module paths; a home includes its children.
    pub(crate) modules: &'static [&'static str],
}

/// Where foreign types live. Crates that are not listed may be used anywhere.
#[rustfmt::skip]
pub(crate) const HOMES: &[Home] = &[
    Home {
        crates: &["http", "http_body", "hyper", "hyper_util", "axum", "tower", "tower_http"],
        modules: &["api", "server", "status", "runtime"],
    },
    Home { crates: &["maud"], modules: &["runtime"] },
    Home { crates: &["opentelemetry*"], modules: &["telemetry"] },
    Home {
        crates: &["rustls", "tokio_rustls", "rustls_pki_types", "x509_parser", "rcgen"],
        modules: &["server", "certificates", "source"],
    },
    Home {
        // Not `aws_lc_rs`: that is the TLS provider, which comes with rustls.
        crates: &["aws_config", "aws_credential_types", "aws_sdk_*", "aws_sigv4", "aws_smithy_*", "aws_types", "prometheus_http_query", "reqwest"],
        modules: &["source"],
    },
    Home { crates: &["moka"], modules: &["cache", "server::authn", "server::authz"] },
    Home {
        crates: &["kube", "k8s_openapi"],
        modules: &["control", "objects", "certificates", "server::authn", "server::authz", "runtime"],
    },
    Home { crates: &["clap", "clap_complete", "clap_mangen"], modules: &["cli"] },
    Home { crates: &["schemars"], modules: &["definition"] },
    Home { crates: &["serde_saphyr"], modules: &["api", "config", "control", "definition", "rules"] },
];

impl Home {
    /// Whether the rule is about this crate.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.crates.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        })
    }

    /// Whether the crate may be named in a module.
    pub(crate) fn is_home(&self, module: &str) -> bool {
        self.modules.iter().any(|home| {
            module.strip_prefix(home).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    }

    /// As the page states it.
    pub(crate) fn stated(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (owned(self.crates), owned(self.modules))
    }
}

impl Layer {
    /// The rule for a module.
    pub(crate) fn of(module: &str) -> Option<&'static Self> {
        LAYERS.iter().find(|layer| layer.module == module)
    }

    /// Whether the module may import another.
    pub(crate) fn may_import(&self, other: &str) -> bool {
        other == self.module
            || self.imports == ["*"]
            || self.imports.contains(&other)
            || (EVERYWHERE.contains(&other) && !["model", "task"].contains(&self.module))
    }

    /// As the page states it.
    pub(crate) fn stated(&self) -> (String, String, BTreeSet<String>) {
        let imports = if self.imports == ["*"] {
            BTreeSet::from(["everything".to_owned()])
        } else {
            owned(self.imports)
        };
        (self.level.to_owned(), self.module.to_owned(), imports)
    }
}

fn owned(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The layer table of the page: level, module, imports.
pub(crate) fn read_layers(page: &str) -> Vec<(String, String, BTreeSet<String>)> {
    rows(page, "| layer |")
        .into_iter()
        .flat_map(|cells| {
            let imports = match cells.last() {
                Some(cell) if cell.trim() == "everything" => {
                    BTreeSet::from(["everything".to_owned()])
                }
                Some(cell) => ticked(cell),
                None => BTreeSet::new(),
            };
            let level = cells[0].trim().to_owned();
            ticked_in_order(&cells[1])
                .into_iter()
                .map(move |module| (level.clone(), module, imports.clone()))
        })
        .collect()
}

/// The table of foreign types of the page: crates, modules.
pub(crate) fn read_homes(page: &str) -> Vec<(BTreeSet<String>, BTreeSet<String>)> {
    rows(page, "| foreign crates |")
        .into_iter()
        .map(|cells| (ticked(&cells[0]), ticked(&cells[1])))
        .collect()
}

/// The rows of the Markdown table whose header starts so, as cells.
fn rows(page: &str, header: &str) -> Vec<Vec<String>> {
    page.lines()
        .skip_while(|line| !line.starts_with(header))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::to_owned).collect())
        .collect()
}

fn ticked(cell: &str) -> BTreeSet<String> {
    ticked_in_order(cell).into_iter().collect()
}

fn ticked_in_order(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_page_is_read_as_it_is_written() {
    let page = "text\n\n| layer | module | may import |\n|---|---|---|\n| L0 | `model` | nothing |\n\
        | L1 | `a`, `b` | `model` |\n| L4 | `cli` | everything |\n\n| foreign crates | home |\n|---|---|\n\
        | `aws_*`, `x` | `s::t` |\n";
    let set = |names: &[&str]| owned(names);
    let row = |level: &str, module: &str, imports: &[&str]| {
        (level.to_owned(), module.to_owned(), set(imports))
    };
    assert_eq!(
        read_layers(page),
        [
            row("L0", "model", &[]),
            row("L1", "a", &["model"]),
            row("L1", "b", &["model"]),
            row("L4", "cli", &["everything"]),
        ]
    );
    assert_eq!(read_homes(page), [(set(&["aws_*", "x"]), set(&["s::t"]))]);
    assert_eq!(read_layers("no table here"), []);
}
