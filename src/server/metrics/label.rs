//! The values that labels take, as closed sets.

/// A label value from a closed set.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(in crate::server) enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// Why a connection ended.
    EndReason {
        /// The peer closed it.
        Peer = "peer",
        /// It broke, or the peer broke the protocol.
        Error = "error",
        /// Nothing was asked for a while.
        Idle = "idle",
        /// It was old, and its load should wander.
        Recycled = "recycled",
        /// Its certificate's standing changed with the trust.
        TrustChanged = "trust_changed",
        /// An unauthenticated request was answered on it.
        Unauthenticated = "unauthenticated",
        /// It was a stranger's, and there were too many of these.
        Crowded = "crowded",
        /// The server drained.
        Drained = "drained",
        /// The server's time to drain was over, or the connection would not end.
        Cut = "cut",
    }
}

label! {
    /// Why a handshake failed.
    HandshakeError {
        /// It took too long.
        Timeout = "timeout",
        /// The two sides did not come to terms.
        Tls = "tls",
        /// It gave way to a newer one: too many were under way.
        Evicted = "evicted",
    }
}

label! {
    /// How a certificate reload went.
    ReloadOutcome {
        /// The new pair is in use.
        Ok = "ok",
        /// The old pair stays.
        Failed = "failed",
    }
}

label! {
    /// How a requester was recognised.
    Method {
        /// By the front proxy's headers.
        FrontProxy = "front_proxy",
        /// By a client certificate.
        Certificate = "certificate",
        /// By a bearer token.
        Token = "token",
        /// Not at all.
        Anonymous = "anonymous",
        /// Credentials were there and none held.
        Refused = "refused",
    }
}

label! {
    /// What decided on access.
    Decider {
        /// Membership in `system:masters`.
        Masters = "masters",
        /// A review, fresh or remembered.
        Review = "review",
    }
}

label! {
    /// The decision on access.
    Access {
        /// Go ahead.
        Allowed = "allowed",
        /// No.
        Denied = "denied",
        /// Nobody could say; the request failed.
        Error = "error",
    }
}

label! {
    /// How a call to the API server ended.
    CallOutcome {
        /// With an answer.
        Ok = "ok",
        /// With an error.
        Error = "error",
        /// Not in time.
        Timeout = "timeout",
    }
}

label! {
    /// What a cache of reviews did.
    CacheEvent {
        /// Answered.
        Hit = "hit",
        /// Had to ask.
        Miss = "miss",
        /// Asked in the background before the answer ran out.
        Refresh = "refresh",
    }
}

label! {
    /// What is known of the cluster's trust configuration.
    TrustState {
        /// Nothing yet.
        Pending = "pending",
        /// The current version is in use.
        Loaded = "loaded",
        /// The `ConfigMap` does not exist.
        Absent = "absent",
        /// We may not read it.
        Forbidden = "forbidden",
        /// Its newest version is unusable; the last good one stays.
        Malformed = "malformed",
        /// The API server does not answer; the last good one stays.
        Unavailable = "unavailable",
    }
}
