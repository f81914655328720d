//! The server's configuration in effect.

use std::time::Duration;

use maud::html;

use super::overview::{files, reports};
use super::shell::{self, Frame, Tab, clip};
use super::view::View;

/// The configuration in effect, as it is shown. Whoever makes it leaves secrets out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Part by part.
    pub sections: Vec<Section>,
}

/// A part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// What it is about.
    pub title: String,
    /// The setting, as the config file names it, and its value.
    pub settings: Vec<(String, String)>,
}

/// What the last change of the definition files came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// How long ago it was taken over.
    pub ago: Duration,
    /// Definitions in the files that serve.
    pub entries: usize,
    /// Mistakes in the files.
    pub problems: usize,
}

/// Renders the page.
pub(super) fn render(
    configuration: &Configuration,
    reloaded: Option<&Reloaded>,
    view: &View,
    ready: bool,
) -> String {
    let frame = Frame {
        title: "Configuration".to_owned(),
        tab: Tab::Configuration,
        reload: None,
        ready,
        json: None,
    };
    let body = html! {
        h1 { "Configuration" }
        p.sub { "In effect, with defaults and flags. Secrets are not shown. The server config is read at start; definitions and rules are followed." }
        section {
            h2 { "Definition files, last reload" }
            p { (files(reloaded)) }
        }
        (reports("Definitions with mistakes", &view.problems, ToString::to_string))
        @if let Some(rules) = &view.rules {
            (reports("Rule files with mistakes", &rules.files, Clone::clone))
        }
        @for section in &configuration.sections {
            section {
                h2 { (section.title) }
                (shell::scroll(&section.title, &html! { table.settings {
                    caption.hidden { (section.title) }
                    thead.hidden { tr { th scope="col" { "Setting" } th scope="col" { "Value" } } }
                    tbody { @for (name, value) in &section.settings { tr {
                        th scope="row" { code { (name) } }
                        td { (clip(value)) }
                    } } }
                } }))
            }
        }
    };
    shell::render(&frame, &body)
}
