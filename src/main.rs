//! The `tidepole` binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use tidepole::cli::Cli;

/// Reads allocate a few small buffers each; this allocator spends less on them than the system's,
/// and gives memory back after definitions were replaced.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS provider for everything in this process. Fails only when one is installed already,
    // which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli.run()
}
