//! The command line.
//!
//! Exit codes: 0 fine, 1 the input is wrong, 2 usage (clap), 70 internal.

pub mod check;
pub mod crds;
pub mod man;
pub mod prometheus_adapter;
pub mod query;
mod rule_files;
pub mod serve;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The input (a config file, a definition) is wrong.
pub const EXIT_INPUT: u8 = 1;
/// Something failed that is not the input's fault (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_INTERNAL: u8 = 70;

/// Metrics adapter for Kubernetes' Horizontal Pod Autoscaler.
#[derive(Debug, Parser)]
#[command(name = "tidepole", version, propagate_version = true, about, long_about = None)]
#[command(after_help = "Examples:
  tidepole serve --config config/demo.yaml   serve simulated metrics, no cluster needed
  tidepole check config/ metrics.d/          find every mistake before it is deployed
  tidepole query jobs_depth                  read a metric as an HPA does, from the cluster
  tidepole query -f config/demo.d gpu-slots-free
                                             show how one value comes about
  tidepole completions bash                  shell completion")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_help = "Examples:
  tidepole serve --config /etc/tidepole/config.yaml
  tidepole serve --config config/demo.yaml --listen 127.0.0.1:7443 --log-format json")]
    Serve(serve::ServeArgs),
    /// Validate server configs, metric definitions and rule files; silent when all is well
    #[command(after_help = "Examples:
  tidepole check config/demo.yaml            a server config and the definitions it names
  tidepole check metrics.d/ more.yaml        definitions alone
  tidepole check rules.yaml                  a rules file of prometheus-adapter
  tidepole check --explain rules.yaml --prometheus http://localhost:9090
                                             and what each rule makes of the series there are
  tidepole check --cost config/demo.yaml     and what they cost per month

Every mistake is one line: file:line:column: field: what is wrong

Exit code: 0 all is well; 1 there are mistakes, or what --explain had to ask did not answer; 2 usage")]
    Check {
        /// Print what reading CloudWatch and SQS for these definitions costs
        #[arg(long)]
        cost: bool,
        /// Print what each rule of the rule files makes of the series there are: metrics, the query
        /// for an example object, problems
        #[arg(long)]
        explain: bool,
        /// The Prometheus server that --explain lists series of
        #[arg(long, value_name = "URL", requires = "explain")]
        prometheus: Option<String>,
        /// The server config whose sources and cluster --explain asks [default: the one among the
        /// paths]
        #[arg(long, value_name = "FILE", requires = "explain", conflicts_with = "prometheus")]
        config: Option<PathBuf>,
        /// The cluster whose resources count for --explain; without one, Kubernetes' own do
        #[arg(long, value_name = "FILE", requires = "explain")]
        kubeconfig: Option<PathBuf>,
        /// Files or folders (*.yaml, *.yml, *.json)
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Read one metric from a running server, or show how its value comes about
    #[command(after_help = query::AFTER_HELP, after_long_help = query::AFTER_LONG_HELP)]
    Query(query::QueryArgs),
    /// Print the custom resource definitions of the metric kinds, for `kubectl apply`
    #[command(after_help = "Examples:
  tidepole crds | kubectl apply -f -         teach a cluster the kinds of metrics
  tidepole crds --output deploy/crds         one file for each kind")]
    Crds {
        /// Write one file for each kind into this folder instead
        #[arg(long, value_name = "FOLDER")]
        output: Option<PathBuf>,
    },
    /// Serve prometheus-adapter's rules file, with its command line; also when called as `adapter`
    #[command(
        after_help = "Flags of prometheus-adapter that have no effect here (caches, audit, tuning) are taken, and told in
the log. The rules file is watched: an edit that is wrong leaves the last good file in force.

Exit code: 0 after SIGTERM or SIGINT; 1 a flag's value or the rules file is wrong (a line for each
mistake, with its place), or an address cannot be had; 2 usage; 70 internal

Example:
  tidepole prometheus-adapter --prometheus-url=http://prometheus:9090/ --config=/etc/adapter/config.yaml --secure-port=6443 --cert-dir=/tmp/certs"
    )]
    PrometheusAdapter(Box<prometheus_adapter::AdapterArgs>),
    /// Print the manual page, or write one for each command
    #[command(after_help = "Examples:
  tidepole man | man -l -                    read it
  tidepole man --output /usr/local/share/man/man1
                                             tidepole.1, tidepole-query.1 and the others")]
    Man {
        /// Write the pages of all commands into this folder
        #[arg(long, value_name = "FOLDER")]
        output: Option<PathBuf>,
    },
    /// Print a shell completion script
    #[command(after_help = "Example:
  tidepole completions bash > /etc/bash_completion.d/tidepole")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The name under which the original's image runs its binary, and ours both.
const ADAPTER: &str = "adapter";

impl Cli {
    /// Reads the command line. Called as `adapter`, everything is an argument of
    /// `tidepole prometheus-adapter`, unless it begins with another subcommand: the image's entry
    /// point is called so, for those who come from prometheus-adapter, whose pods say no command.
    #[must_use]
    pub fn read() -> Self {
        Self::parse_from(arguments(std::env::args_os()))
    }

    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Check { paths, cost, explain, prometheus, config, kubeconfig } => {
                let checked = check::check(&paths);
                for problem in &checked.problems {
                    eprintln!("{problem}");
                }
                if cost {
                    let tables: Vec<String> =
                        checked.costs.iter().map(ToString::to_string).collect();
                    // A reader that went away needs no table.
                    let _ = write!(std::io::stdout(), "{}", tables.join("\n"));
                }
                let is_fine = checked.problems.is_empty();
                let is_told = !explain
                    || (is_fine && explained(checked, prometheus, config.as_deref(), kubeconfig));
                if is_fine && is_told { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INPUT) }
            }
            Command::Query(args) => query::run(&args),
            Command::Crds { output } => match crds::run(output.as_deref()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::from(EXIT_INTERNAL)
                }
            },
            Command::Man { output } => match man::run(Self::command(), output.as_deref()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::from(EXIT_INTERNAL)
                }
            },
            Command::PrometheusAdapter(args) => prometheus_adapter::run(&args),
            Command::Completions { shell } => {
                let mut command = Self::command();
                clap_complete::generate(shell, &mut command, "tidepole", &mut std::io::stdout());
                ExitCode::SUCCESS
            }
        }
    }
}

/// `tidepole check --explain`; whether everything that was asked answered.
fn explained(
    checked: check::Checked,
    prometheus: Option<String>,
    config: Option<&Path>,
    kubeconfig: Option<PathBuf>,
) -> bool {
    let config = match config.map(check::explain::config) {
        Some(Ok(config)) => Ok(Some(config)),
        Some(Err(problems)) => Err(problems),
        None => Ok(checked.config),
    };
    let explained = config.and_then(|config| {
        if checked.rule_files.is_empty() {
            return Err(vec!["--explain: there is no rules file among the paths".to_owned()]);
        }
        let ask = check::explain::Ask { prometheus, config, kubeconfig };
        check::explain::explain(&checked.rule_files, &ask)
    });
    match explained {
        Ok((text, answered)) => {
            // A reader that went away needs no more.
            let _ = std::io::stdout().write_all(text.as_bytes());
            answered
        }
        Err(lines) => {
            for line in lines {
                eprintln!("{line}");
            }
            false
        }
    }
}

/// The command line as clap is to read it.
fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = given.collect();
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    let is_subcommand =
        |word: &OsString| Cli::command().get_subcommands().any(|s| word == s.get_name());
    if called.is_some_and(|name| name == ADAPTER) && !arguments.get(1).is_some_and(is_subcommand) {
        arguments.insert(1, "prometheus-adapter".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn called_as_adapter_it_takes_the_originals_arguments() {
        let read = |words: &[&str]| arguments(words.iter().map(OsString::from));
        assert_eq!(
            read(&["/adapter", "--config=x"]),
            ["/adapter", "prometheus-adapter", "--config=x"].map(OsString::from)
        );
        // The chart's own first argument; and no argument at all.
        let chart = ["/adapter", "/adapter", "--v=4"];
        assert_eq!(
            read(&chart),
            ["/adapter", "prometheus-adapter", "/adapter", "--v=4"].map(OsString::from)
        );
        assert_eq!(read(&["/adapter"]), ["/adapter", "prometheus-adapter"].map(OsString::from));
        for plain in [["/usr/bin/tidepole", "serve"], ["/adapter", "serve"], ["/adapter", "check"]]
        {
            assert_eq!(read(&plain), plain.map(OsString::from));
        }
    }
}
