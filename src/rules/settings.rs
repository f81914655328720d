//! How the server config wants a rule file served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{OnNoData, Policy, SourceName};

/// The original's default of `--metrics-relist-interval`.
pub const DEFAULT_RELIST_INTERVAL: Duration = Duration::from_mins(10);

/// How often series may be listed at most. Listing is the heaviest thing that is asked of a
/// Prometheus; the original's charts ask every minute.
pub const MIN_RELIST_INTERVAL: Duration = Duration::from_secs(1);

/// One rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFileSettings {
    /// The file.
    pub path: PathBuf,
    /// The Prometheus source that has the series.
    pub source: SourceName,
    /// How often series are listed: the original's `--metrics-relist-interval`.
    pub relist_interval: Duration,
    /// How far back a series may have had its last sample: the original's `--metrics-max-age`.
    pub series_max_age: Duration,
    /// How often a value is read while it is wanted.
    pub refresh: Duration,
    /// A value older than this is never served; until then it is held while calls fail.
    pub sample_max_age: Duration,
    /// How long the first read of a query may wait.
    pub first_read_timeout: Duration,
}

impl RuleFileSettings {
    /// What is wrong with the settings: the field and a sentence.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let shown = |duration: Duration| format!("{duration:?}");
        if self.relist_interval < MIN_RELIST_INTERVAL {
            found.push(("relistInterval", format!("at least {}", shown(MIN_RELIST_INTERVAL))));
        }
        if self.series_max_age < self.relist_interval {
            // The original's rule, and its reason.
            found.push((
                "seriesMaxAge",
                format!(
                    "{} is below relistInterval {}: a series would be forgotten before the next \
                     list",
                    shown(self.series_max_age),
                    shown(self.relist_interval)
                ),
            ));
        }
        if self.refresh < Duration::from_secs(1) {
            found.push(("refresh", "at least 1s".to_owned()));
        }
        if self.sample_max_age < self.refresh {
            found.push((
                "sampleMaxAge",
                format!(
                    "{} is below refresh {}: every sample would be too old before the next is read",
                    shown(self.sample_max_age),
                    shown(self.refresh)
                ),
            ));
        }
        found
    }

    /// The freshness of the metrics of the file. An answer without data is told as such at once, as
    /// the original does: what is held is held while calls fail.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::new(Policy {
            refresh: self.refresh,
            max_age: self.sample_max_age,
            on_no_data: OnNoData::Error,
            first_read_timeout: self.first_read_timeout,
            keep_warm: false,
        })
    }
}
