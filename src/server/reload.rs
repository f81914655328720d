//! The serving certificate in use, and its replacement when the files change.
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
use super::settings::{ServerError, Settings, TlsFiles};
use super::tls::Pair;
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
    /// The DNS names of the pair that was there at the start.
    names: Vec<String>,
    metrics: Arc<ConnectionMetrics>,
}

impl Certificates {
    /// Loads the files, or makes a self-signed pair when there are none.
    pub(super) fn load(
        settings: &Settings,
        metrics: Arc<ConnectionMetrics>,
    ) -> Result<Arc<Self>, ServerError> {
        let (pair, seen) = match &settings.tls {
            Some(files) => {
                let (certificate, key, contents) = read(files)?;
                (Pair::decode(files, &certificate, &key)?, Some(contents))
            }
            None => (Pair::self_signed()?, None),
        };
        let not_after = pair.not_after();
        let names = pair.dns_names();
        let current = ArcSwap::new(pair.into_config(settings)?);
        metrics.certificate_not_after(not_after);
        let seen = Mutex::new(seen);
        Ok(Arc::new(Self { current, settings: settings.clone(), seen, names, metrics }))
    }

    /// The DNS names of the pair that was there at the start.
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
        match replaced {
            Ok(not_after) => {
                self.metrics.certificate_reload(ReloadOutcome::Ok);
                self.metrics.certificate_not_after(not_after);
                tracing::info!(certificate = %files.certificate.display(), "serving certificate replaced");
            }
            Err(error) => {
                self.metrics.certificate_reload(ReloadOutcome::Failed);
                tracing::error!(%error, "the new serving certificate is unusable, the old one stays in use");
            }
        }
    }

    /// Starts watching, if there are files.
    pub(super) fn watch(self: &Arc<Self>, tasks: &TaskSet) {
        let Some(files) = self.settings.tls.clone() else { return };
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
