//! Where in AWS a question may go: region and role, within what the operator allows.

use std::sync::Arc;

use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::model::{ProblemKind, SourceProfile, arn, region};

/// Stands for what only the source could tell, when a definition is checked without sources.
pub(super) const UNKNOWN: &str = "unknown";

/// The region that a question names, when it may.
pub(super) fn region<'a>(
    report: &mut Report<'_>,
    field: &Field,
    named: Option<&'a str>,
    profile: Option<&SourceProfile>,
) -> Option<&'a str> {
    let region = named?;
    report.check(field, region::check_region(region))?;
    is_allowed(report, field, region, profile).then_some(region)
}

/// Whether the source may be asked in a region; the report says why not. Without a source, only the
/// operator's rules are missing, and everything may.
pub(super) fn is_allowed(
    report: &mut Report<'_>,
    field: &Field,
    region: &str,
    profile: Option<&SourceProfile>,
) -> bool {
    let Some(profile) = profile else { return true };
    if profile.allowed_regions.iter().any(|allowed| **allowed == *region) {
        return true;
    }
    let message = format!(
        "source {} does not allow the region {region}; it allows {} (allowedRegions)",
        profile.name,
        profile.allowed_regions.join(", ")
    );
    report.add_of(ProblemKind::NotAllowed, field, message);
    false
}

/// The role that a question names, when it may. Without sources only its form is checked.
pub(super) fn role(
    report: &mut Report<'_>,
    field: &Field,
    named: Option<&str>,
    profile: Option<&SourceProfile>,
    without_sources: bool,
) -> Option<Arc<str>> {
    let role = named?;
    report.check(field, arn::check_role(role))?;
    if without_sources {
        return Some(role.into());
    }
    let profile = profile?;
    if profile.allowed_roles.iter().any(|pattern| pattern.matches(role)) {
        return Some(role.into());
    }
    let allowed: Vec<String> = profile.allowed_roles.iter().map(ToString::to_string).collect();
    let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    let message = format!(
        "source {} does not allow the role {role}; it allows {allowed} (allowedRoles)",
        profile.name
    );
    report.add_of(ProblemKind::NotAllowed, field, message);
    None
}
