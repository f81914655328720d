//! `tidepole serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::EXIT_INPUT;
use crate::config::{Config, Overrides};
use crate::runtime::lifecycle;
use crate::telemetry::logging::{self, LogFormat};

/// Arguments of `tidepole serve`. Flags override the config file.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The server config
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Address of the API listener (server.listen)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of the admin listener (admin.listen)
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Serving certificate, PEM (server.tls.certFile)
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate, PEM (server.tls.keyFile)
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// The cluster to serve for (kubernetes.kubeconfig)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t)]
    log_format: Format,
    /// What is logged: error, warn, info, debug, trace, or a filter like `info,tidepole=debug`
    #[arg(long, value_name = "LEVEL", value_parser = filter)]
    log_level: Option<String>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn filter(text: &str) -> Result<String, logging::LoggingError> {
    logging::check_filter(text).map(|()| text.to_owned())
}

/// Runs the server until it is stopped.
#[must_use]
pub fn run(args: ServeArgs) -> ExitCode {
    let format = match args.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    if let Err(error) = logging::init(format, args.log_level.as_deref()) {
        eprintln!("tidepole: {error}");
        return ExitCode::from(EXIT_INPUT);
    }
    let overrides = Overrides {
        listen: args.listen,
        admin_listen: args.admin_listen,
        tls_cert_file: args.tls_cert_file,
        tls_private_key_file: args.tls_private_key_file,
        kubeconfig: args.kubeconfig,
    };
    match Config::load(&args.config, &overrides) {
        Ok(config) => lifecycle::run(config),
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::from(EXIT_INPUT)
        }
    }
}
