//! What each component gets from the config.

use crate::config::{Config, SourceConfig, SourceSettings};
use crate::model::{SourceDirectory, SourceProfile};

impl Config {
    /// What definitions may know about the sources.
    #[must_use]
    pub fn source_directory(&self) -> SourceDirectory {
        SourceDirectory::new(self.sources.iter().map(SourceConfig::profile))
    }
}

impl SourceConfig {
    /// What definitions may know about this source.
    #[must_use]
    pub fn profile(&self) -> SourceProfile {
        let aws = match &self.settings {
            SourceSettings::Aws(aws) => Some(aws),
            SourceSettings::Prometheus(_) | SourceSettings::Simulated => None,
        };
        SourceProfile {
            name: self.name.clone(),
            kind: self.settings.kind(),
            region: aws.map(|aws| aws.region.clone()),
            allowed_regions: aws.map(|aws| aws.allowed_regions.clone()).unwrap_or_default(),
            allowed_roles: aws.map(|aws| aws.allowed_roles.clone()).unwrap_or_default(),
            allowed_namespaces: self.allowed_namespaces.clone(),
        }
    }
}
