//! Who is asking.

use std::collections::BTreeMap;

/// An authenticated (or anonymous) user, as Kubernetes describes one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// User name.
    pub user: String,
    /// Unique id, empty when not known.
    pub uid: String,
    /// Groups, in the order in which they were asserted.
    pub groups: Vec<String>,
    /// Extra attributes; keys are lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// Group of everybody who authenticated.
    pub const AUTHENTICATED: &'static str = "system:authenticated";
    /// Group of everybody who did not.
    pub const UNAUTHENTICATED: &'static str = "system:unauthenticated";
    /// Group that is allowed everything without asking, as in Go's generic API server.
    pub const MASTERS: &'static str = "system:masters";

    /// The anonymous user.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            user: "system:anonymous".to_owned(),
            groups: vec![Self::UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether this is the anonymous user.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.user == "system:anonymous"
    }

    /// Whether the user belongs to a group.
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
