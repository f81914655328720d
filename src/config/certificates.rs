//! `server.tls.managed`.

use std::time::Duration;

use crate::certificates::Settings;
use crate::config::document::{KeyPair, Managed};
use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::definition::scalar::GoDuration;

/// The settings of managed certificates, when they are asked for. `cluster` is whether there is one;
/// `flags` whether files were named on the command line, which win.
pub(super) fn managed(
    report: &mut Report<'_>,
    spec: Option<&KeyPair>,
    cluster: bool,
    flags: bool,
) -> Option<Settings> {
    let tls = spec?;
    let field = Field::of("server.tls.managed");
    let Managed { secret, service, namespace, ca_lifetime, cert_lifetime, renew_before } =
        tls.managed.as_ref()?;
    if tls.cert_file.is_some() || tls.key_file.is_some() {
        report.add(&field, "certificates are either managed or from certFile and keyFile");
    }
    if !cluster {
        report.add(
            &field,
            "managed certificates are kept in a cluster, and kubernetes.enabled is false",
        );
    }
    let own = Settings::default();
    let or = |given: Option<GoDuration>, default: Duration| given.map_or(default, |given| given.0);
    let settings = Settings {
        secret: secret.clone().unwrap_or(own.secret),
        service: service.clone().unwrap_or(own.service),
        namespace: namespace.clone(),
        ca_lifetime: or(*ca_lifetime, own.ca_lifetime),
        cert_lifetime: or(*cert_lifetime, own.cert_lifetime),
        renew_before: renew_before.map(|given| given.0),
    };
    for (key, message) in settings.problems() {
        let key = field.key(key);
        if !report.has_problem(&key) {
            report.add(&key, message);
        }
    }
    (!flags).then_some(settings)
}
