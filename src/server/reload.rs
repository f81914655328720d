//! The serving certificate in use, and its replacement when the files change or another pair is
//! handed to the server.
//!
//! The directories are watched (the kubelet swaps a `..data` symlink, so watching the files would
//! miss it), and a slow timer catches what a watch cannot see. A pair is validated before it
//! replaces the one in use; a broken one is reported and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::metrics::{ConnectionMetrics, ReloadOutcome};
use super::settings::{ServerError, ServingPairs, Settings, TlsFiles};
use super::tls::Pair;
use crate::model::ServingPair;
use crate::task::TaskSet;

/// How often the files are read without a reason; the Go server's interval.
const SLOW_TIMER: Duration = Duration::from_mins(1);

/// A swap touches several names; one read after the last of them is enough.
const SETTLE: Duration = Duration::from_millis(200);

type Contents = [u8; 32];

/// The TLS configuration in use.
pub(super) struct Certificates {
    current: ArcSwap<ServerConfig>,
    settings: Settings,
    /// What the files held when last looked at, good or bad, so that one bad state is reported
    /// once.
    seen: Mutex<Option<Contents>>,
    /// The pair that was handed over last, if any was.
    given: Mutex<Option<Arc<ServingPair>>>,
    /// The DNS names of the pair that was there at the start, or that all pairs have.
    names: Vec<String>,
    metrics: Arc<ConnectionMetrics>,
}

impl Certificates {
    /// Loads the files, or takes the pair that is handed over, or makes a self-signed one when there
    /// is neither.
    pub(super) fn load(
        settings: &Settings,
        metrics: Arc<ConnectionMetrics>,
    ) -> Result<Arc<Self>, ServerError> {
        let given = settings.pairs.as_ref().and_then(|pairs| pairs.current.borrow().clone());
        let (pair, seen) = match (&settings.tls, &given) {
            (Some(files), _) => {
                let (certificate, key, contents) = read(files)?;
                (Pair::decode(files, &certificate, &key)?, Some(contents))
            }
            (None, Some(given)) => (Pair::given(given)?, None),
            (None, None) => (Pair::self_signed()?, None),
        };
        let not_after = pair.not_after();
        let names = match (&settings.tls, &settings.pairs) {
            (None, Some(pairs)) => pairs.names.clone(),
            _ => pair.dns_names(),
        };
        let current = ArcSwap::new(pair.into_config(settings)?);
        metrics.certificate_not_after(not_after);
        let (seen, given) = (Mutex::new(seen), Mutex::new(given));
        Ok(Arc::new(Self { current, settings: settings.clone(), seen, given, names, metrics }))
    }

    /// The DNS names of the pair that was there at the start, or that all pairs have.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The configuration for the next connection.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Looks at the files and takes over what they hold if it is new and sound.
    fn reload(&self, files: &TlsFiles) {
        let read = read(files);
        let contents = read.as_ref().ok().map(|(_, _, contents)| *contents);
        {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if *seen == contents {
                return;
            }
            *seen = contents;
        }
        let replaced = read.and_then(|(certificate, key, _)| {
            let pair = Pair::decode(files, &certificate, &key)?;
            let not_after = pair.not_after();
            self.current.store(pair.into_config(&self.settings)?);
            Ok(not_after)
        });
        if replaced.is_ok() {
            tracing::info!(certificate = %files.certificate.display(), "serving certificate replaced");
        }
        self.tell(replaced);
    }

    /// Takes over a pair that was handed over, if it is new and sound.
    fn take(&self, pair: Arc<ServingPair>) {
        let replaced = {
            let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if given.as_ref() == Some(&pair) {
                return;
            }
            let decoded = Pair::given(&pair);
            *given = Some(pair);
            decoded.and_then(|pair| {
                let not_after = pair.not_after();
                self.current.store(pair.into_config(&self.settings)?);
                Ok(not_after)
            })
        };
        self.tell(replaced);
    }

    /// Counts a replacement, and says when it failed. `replaced` has the end of the new certificate.
    fn tell(&self, replaced: Result<Option<i64>, ServerError>) {
        match replaced {
            Ok(not_after) => {
                self.metrics.certificate_reload(ReloadOutcome::Ok);
                self.metrics.certificate_not_after(not_after);
            }
            Err(error) => {
                self.metrics.certificate_reload(ReloadOutcome::Failed);
                tracing::error!(%error, "the new serving certificate is unusable, the old one stays in use");
            }
        }
    }

    /// Starts watching, if there is something that can change.
    pub(super) fn watch(self: &Arc<Self>, tasks: &TaskSet) {
        match (&self.settings.tls, &self.settings.pairs) {
            (Some(files), _) => self.watch_files(files.clone(), tasks),
            (None, Some(pairs)) => self.watch_pairs(pairs.clone(), tasks),
            (None, None) => {}
        }
    }

    fn watch_pairs(self: &Arc<Self>, mut pairs: ServingPairs, tasks: &TaskSet) {
        let this = Arc::clone(self);
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("certificate replacement", async move {
            loop {
                // Before waiting: there may have been a change since the start.
                let pair = pairs.current.borrow_and_update().clone();
                if let Some(pair) = pair {
                    this.take(pair);
                }
                let told = tokio::select! {
                    () = shutdown.cancelled() => return,
                    told = pairs.current.changed() => told,
                };
                if told.is_err() {
                    // Nobody makes pairs any more: the process ends.
                    shutdown.cancelled().await;
                    return;
                }
            }
        });
    }

    fn watch_files(self: &Arc<Self>, files: TlsFiles, tasks: &TaskSet) {
        let this = Arc::clone(self);
        let shutdown = tasks.shutdown_token().clone();
        tasks.service("certificate watch", async move {
            let (tell, mut told) = mpsc::channel(1);
            // Both live as long as the loop: without the watcher nothing is seen, without a
            // sender the channel would be always ready.
            let _watcher = watch_directories(&files, tell.clone());
            // Something may have changed before the watch was there.
            this.reload(&files);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(SLOW_TIMER) => {}
                    _ = told.recv() => {
                        tokio::time::sleep(SETTLE).await;
                        while told.try_recv().is_ok() {}
                    }
                }
                this.reload(&files);
            }
        });
    }
}

/// Both files and a digest of their contents.
fn read(files: &TlsFiles) -> Result<(Vec<u8>, Vec<u8>, Contents), ServerError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|cause| ServerError::ReadFile { path: path.clone(), cause })
    };
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    let mut digest = Sha256::new();
    digest.update((certificate.len() as u64).to_be_bytes());
    digest.update(&certificate);
    digest.update(&key);
    Ok((certificate, key, digest.finalize().into()))
}

/// Reports changes in the files' directories. Without a watch (no inotify instance left) the slow
/// timer does the work alone.
fn watch_directories(files: &TlsFiles, tell: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let watch = || -> notify::Result<RecommendedWatcher> {
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Our own reads are events, too; reacting to them would never end.
                if event.is_ok_and(|e| !e.kind.is_access()) {
                    // A full channel says the same already.
                    let _ = tell.try_send(());
                }
            })?;
        let mut directories = [&files.certificate, &files.key]
            .map(|file| {
                file.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."))
            })
            .to_vec();
        directories.dedup();
        for directory in directories {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    };
    watch()
        .inspect_err(|error| {
            tracing::warn!(%error, "certificate files cannot be watched, they are read once a minute");
        })
        .ok()
}

#[cfg(test)]
mod tests;
