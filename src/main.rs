//! The `tidepole` binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use tidepole::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::read();
    // One TLS provider for everything in this process. Fails only when one is installed already,
    // which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli.run()
}
