//! Routes: what a method and a path ask for.

use http::{Method, Uri};

use crate::api::attributes;
use crate::api::group::{BASE, GroupVersion, MetricPath};
use crate::api::params::Params;
use crate::api::path::Path;
use crate::model::{ApiError, Attributes, Probe};

/// A request as understood from its method and target alone: what authorization has to decide and
/// what [`crate::api::Api::answer`] answers. Every request has one; what cannot be understood is a
/// route that answers an error.
#[derive(Clone, Debug)]
pub struct Route {
    pub(super) method: Method,
    /// The path, or the target whose path cannot be read.
    pub(super) path: Result<Path, Uri>,
    pub(super) params: Params,
    pub(super) target: Target,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// `/`.
    Root,
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group(&'static str),
    /// `/apis/<group>/<version>`.
    Resources(&'static GroupVersion),
    /// A metric.
    Read(&'static GroupVersion, MetricPath),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3,
    /// `/openapi/v3/apis/<group>/<version>`.
    OpenApiV3Document(&'static GroupVersion),
    /// `/version`.
    Version,
    /// `/metrics`.
    Metrics,
    /// `/livez`, `/readyz`, `/healthz`.
    Health(Probe),
    /// One check of a health endpoint; its name is the path from the second segment on.
    HealthCheck(Probe),
    /// A path under our prefixes that means nothing, or one that cannot be read.
    Refused(ApiError),
    /// Any other path.
    Unknown,
}

impl Route {
    /// Reads a request's method and target.
    pub(super) fn read(served: &[&'static GroupVersion], method: &Method, uri: &Uri) -> Self {
        let method = method.clone();
        let path = match Path::read(uri) {
            Ok(path) => path,
            Err(error) => {
                let target = Target::Refused(error);
                return Self { method, path: Err(uri.clone()), params: Params::default(), target };
            }
        };
        let target = Target::read(served, &path);
        let params = if attributes::names_a_resource(&path) {
            Params::read(uri.query())
        } else {
            Params::default()
        };
        Self { method, path: Ok(path), params, target }
    }

    /// What authorization decides on.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        match &self.path {
            Ok(path) if attributes::names_a_resource(path) => {
                attributes::of_resource(&self.method, path, &self.params)
            }
            Ok(path) => attributes::of_path(&self.method, path.whole().into_owned()),
            Err(uri) => attributes::of_path(&self.method, uri.path().to_owned()),
        }
    }

    /// Whether everybody may have the answer: exactly `/livez`, `/readyz` and `/healthz`, read.
    /// Single checks are not among them, as in Go, because they tell why a check fails.
    #[must_use]
    pub fn always_allowed(&self) -> bool {
        let reads = self.method == Method::GET || self.method == Method::HEAD;
        let exact = |path: &Path| matches!(&*path.whole(), "/livez" | "/readyz" | "/healthz");
        reads && self.path.as_ref().is_ok_and(exact)
    }

    /// A fixed word for metrics and logs.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match &self.target {
            Target::Read(_, MetricPath::External(_)) => "external",
            Target::Read(_, MetricPath::Custom(_)) => "custom",
            Target::Root | Target::Groups | Target::Group(_) | Target::Resources(_) => "discovery",
            Target::OpenApiV2 | Target::OpenApiV3 | Target::OpenApiV3Document(_) => "openapi",
            Target::Version => "version",
            Target::Metrics => "metrics",
            Target::Health(_) | Target::HealthCheck(_) => "health",
            Target::Refused(_) | Target::Unknown => "other",
        }
    }
}

impl Target {
    fn read(served: &[&'static GroupVersion], path: &Path) -> Self {
        let segment = |i| path.segment(i);
        match (&*segment(0), path.len()) {
            (_, 0) => Self::Root,
            ("apis", count) => Self::api(served, path, count),
            ("openapi", count) => match (&*segment(1), count) {
                ("v2", 2) => Self::OpenApiV2,
                ("v3", 2) => Self::OpenApiV3,
                ("v3", 5) if segment(2) == "apis" => match find(served, &segment(3), &segment(4)) {
                    Some(gv) => Self::OpenApiV3Document(gv),
                    None => Self::Unknown,
                },
                _ => Self::Unknown,
            },
            ("version", 1) => Self::Version,
            ("metrics", 1) => Self::Metrics,
            ("livez", count) => Self::health(Probe::Live, count),
            ("readyz", count) => Self::health(Probe::Ready, count),
            ("healthz", count) => Self::health(Probe::Health, count),
            _ => Self::Unknown,
        }
    }

    fn health(probe: Probe, count: usize) -> Self {
        if count == 1 { Self::Health(probe) } else { Self::HealthCheck(probe) }
    }

    fn api(served: &[&'static GroupVersion], path: &Path, count: usize) -> Self {
        if count == 1 {
            return Self::Groups;
        }
        let group = path.segment(1);
        let Some(ours) = served.iter().find(|gv| gv.group == group) else { return Self::Unknown };
        if count == 2 {
            return Self::Group(ours.group);
        }
        match find(served, &group, &path.segment(2)) {
            Some(gv) if count == BASE => Self::Resources(gv),
            Some(gv) if !path.has_slash_inside() => match (gv.metric_path)(path) {
                Ok(metric) => Self::Read(gv, metric),
                Err(why) => Self::Refused(why),
            },
            _ => Self::Refused(ApiError::PathNotFound),
        }
    }
}

fn find(
    served: &[&'static GroupVersion],
    group: &str,
    version: &str,
) -> Option<&'static GroupVersion> {
    served.iter().find(|gv| gv.group == group && gv.version == version).copied()
}
