//! From the first byte read to the last connection closed.
//!
//! Stopping happens in stages, so that no request is lost: readiness turns red, connections that
//! exist are told to go away (an aggregator keeps one for hours), the listener stays open for the
//! grace so that those who have not heard yet are still served, then it closes, requests under
//! way end, and the process exits with 0. A second signal ends the wait.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::EXIT_INTERNAL;
use crate::config::Config;
use crate::runtime::{Running, start};

/// Requests that are under way when the listener closes get this long: longer than the longest
/// first read that a definition may ask for by default (2 s), within the 30 s that Kubernetes
/// gives a pod by default.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Background tasks get this long to end.
const TASK_DEADLINE: Duration = Duration::from_secs(5);

/// Name of the environment variable that sets the number of serving threads; tokio's own.
const WORKERS_VARIABLE: &str = "TOKIO_WORKER_THREADS";

/// The two runtimes of the process: reads are served on one, everything else (refreshing,
/// decoding, watching, the admin listener) runs on the other, so that decoding a large answer
/// never delays a read.
#[derive(Debug)]
pub struct Runtimes {
    serve: Runtime,
    refresh: Runtime,
}

impl Runtimes {
    /// One serving thread per core (or `TOKIO_WORKER_THREADS`), two for the rest.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new() -> anyhow::Result<Self> {
        let mut serve = Builder::new_multi_thread();
        serve.enable_all().thread_name("serve");
        if std::env::var_os(WORKERS_VARIABLE).is_none() {
            serve.worker_threads(std::thread::available_parallelism().map_or(1, usize::from));
        }
        let refresh = Builder::new_multi_thread()
            .enable_all()
            .thread_name("refresh")
            // Two, so that one large answer being decoded holds up no probe and no other refresh.
            .worker_threads(2)
            .build();
        Ok(Self {
            serve: serve.build().context("cannot start the serving threads")?,
            refresh: refresh.context("cannot start the refreshing thread")?,
        })
    }

    /// Handle of the serving runtime.
    #[must_use]
    pub fn serve(&self) -> &Handle {
        self.serve.handle()
    }

    /// Handle of the refreshing runtime.
    #[must_use]
    pub fn refresh(&self) -> &Handle {
        self.refresh.handle()
    }
}

/// Runs the server until a signal ends it or a background task dies.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    let runtimes = match Runtimes::new() {
        Ok(runtimes) => runtimes,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::from(EXIT_INTERNAL);
        }
    };
    let (serve, refresh) = (runtimes.serve().clone(), runtimes.refresh().clone());
    let code = runtimes.refresh.block_on(async {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!("cannot listen for signals: {error}");
                return ExitCode::from(EXIT_INTERNAL);
            }
        };
        let running = tokio::select! {
            started = start(config, serve, refresh) => match started {
                Ok(running) => running,
                Err(error) => {
                    tracing::error!("{error:#}");
                    return ExitCode::from(crate::cli::EXIT_INPUT);
                }
            },
            name = signals.next() => {
                tracing::info!(signal = name, "stopped while starting");
                return ExitCode::SUCCESS;
            }
        };
        until_stopped(running, &mut signals).await
    });
    // What has not ended by now (a blocking name lookup, say) must not hold the exit.
    runtimes.serve.shutdown_background();
    runtimes.refresh.shutdown_background();
    code
}

async fn until_stopped(mut running: Running, signals: &mut Signals) -> ExitCode {
    let code = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping");
            ExitCode::SUCCESS
        }
        died = running.died() => {
            tracing::error!("{died}; stopping, because values would silently grow old");
            ExitCode::from(EXIT_INTERNAL)
        }
    };
    let stopping = running.stop(REQUEST_DEADLINE, TASK_DEADLINE);
    tokio::select! {
        () = stopping => code,
        name = signals.next() => {
            tracing::warn!(signal = name, "second signal, not waiting any longer");
            ExitCode::from(EXIT_INTERNAL)
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
