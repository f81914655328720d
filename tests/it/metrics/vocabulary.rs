//! Words of the page that no scrape has: where a family belongs, when it is there, and what the
//! values of labels are that are no fixed words.

/// A part of the page.
pub(super) struct Part {
    pub(super) title: &'static str,
    /// Families whose names begin like this; the first part that fits has them.
    pub(super) prefixes: &'static [&'static str],
    /// When those families are there that a server without cluster, rules and upstreams lacks.
    pub(super) when: &'static str,
}

/// The parts, in the page's order.
pub(super) const PARTS: &[Part] = &[
    Part {
        title: "Reads",
        prefixes: &["tidepole_read", "metrics_apiserver_"],
        when: "once a metric was read",
    },
    Part {
        title: "Values and definitions",
        prefixes: &[
            "tidepole_metrics",
            "tidepole_definition_state",
            "tidepole_definition_sample",
            "tidepole_definition_max",
            "tidepole_definition_uses",
        ],
        when: "with definitions",
    },
    Part {
        title: "What is asked of upstreams that bill, and its cost",
        prefixes: &[
            "tidepole_definition_upstream",
            "tidepole_definition_metrics",
            "tidepole_estimated_cost",
            "tidepole_cloudwatch_metrics",
        ],
        when: "with definitions of an `aws` source",
    },
    Part {
        title: "Definition files and the catalog",
        prefixes: &["tidepole_definition", "tidepole_on_demand"],
        when: "",
    },
    Part {
        title: "Metric resources",
        prefixes: &[
            "tidepole_metric_resources",
            "tidepole_resource",
            "tidepole_lease",
            "tidepole_events",
        ],
        when: "with a cluster",
    },
    Part { title: "Rules", prefixes: &["tidepole_rule"], when: "with rule files" },
    Part {
        title: "Upstreams",
        prefixes: &["tidepole_upstream", "tidepole_cloudwatch"],
        when: "with a source that calls an upstream of this kind",
    },
    Part { title: "Refreshing", prefixes: &["tidepole_refresh"], when: "" },
    Part {
        title: "The cluster",
        prefixes: &["tidepole_hpa_watch", "tidepole_object", "tidepole_scale", "tidepole_cluster"],
        when: "with a cluster",
    },
    Part {
        title: "The API listener",
        prefixes: &["tidepole_server"],
        when: "with a cluster that decides who may read",
    },
    Part { title: "Traces", prefixes: &["tidepole_trace"], when: "with `telemetry.traces`" },
    Part { title: "The process", prefixes: &["process_", "tidepole_build"], when: "on Linux" },
];

/// A label whose values are no fixed words.
pub(super) struct Free {
    /// The family's name begins like this.
    pub(super) family: &'static str,
    pub(super) label: &'static str,
    pub(super) values: &'static str,
}

/// The first that fits says what the values are.
pub(super) const FREE: &[Free] = &[
    Free { family: "", label: "source", values: "a source's name" },
    Free {
        family: "",
        label: "upstream",
        values: "what of the source is called: service, region, role; empty where there is one alone, `other` beyond the first 100",
    },
    Free { family: "", label: "namespace", values: "the definition's" },
    Free { family: "", label: "name", values: "the definition's" },
    Free { family: "", label: "version", values: "as in `tidepole --version`" },
    Free {
        family: "tidepole_definition",
        label: "kind",
        values: "`ExternalMetric`, `ClusterExternalMetric`, `CustomMetric`, `ClusterCustomMetric`, `ExternalMetric.metrics.aws`",
    },
    Free {
        family: "tidepole_definition_state",
        label: "state",
        values: "the words of `tidepole_metrics`",
    },
];
