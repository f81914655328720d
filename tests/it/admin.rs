//! The admin listener over a real socket, with the process's own registry behind it.

use std::sync::Arc;
use std::time::Duration;

use tidepole::model::{Probe, ProbeReport, Problem, ServerState};
use tidepole::runtime::admin::{self, Admin, Inventory, MetricRow, SourceCost};
use tidepole::task::TaskSet;
use tidepole::telemetry::Telemetry;
use tokio::runtime::Handle;

use crate::support::client::Connection;
use crate::support::openmetrics;

struct Process(Telemetry);

impl ServerState for Process {
    fn probe(&self, _: Probe) -> Vec<ProbeReport> {
        vec![ProbeReport { name: "ping", failure: None }]
    }

    fn metrics_text(&self) -> String {
        self.0.encode()
    }
}

struct Nothing;

impl Inventory for Nothing {
    fn metrics(&self) -> Vec<MetricRow> {
        Vec::new()
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn conflicts(&self) -> Vec<String> {
        Vec::new()
    }

    fn costs(&self) -> Vec<SourceCost> {
        Vec::new()
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn one_connection_reads_everything_and_is_closed_at_the_end() {
    let (tasks, _died) = TaskSet::new(Handle::current());
    let listener = tidepole::server::bind("[::]:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = Arc::new(Process(Telemetry::for_process()));
    admin::serve(listener, Admin::new(state, Arc::new(Nothing)), &tasks);
    let mut connection = Connection::plain(([127, 0, 0, 1], port).into()).await.unwrap();
    for (path, kind) in [
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz?verbose", "text/plain; charset=utf-8"),
        ("/", "text/html; charset=utf-8"),
        ("/api/metrics", "application/json"),
    ] {
        let answer = connection.get(path, &[]).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, kind), "{path}");
    }
    let metrics = connection.get("/metrics", &[]).await.unwrap();
    let families = openmetrics::parse(metrics.text()).unwrap();
    assert!(families.contains_key("process_open_fds"), "{:?}", families.keys());
    assert_eq!(connection.get("/api/metrics", &[]).await.unwrap().json()["total"], 0);
    tasks.stop().await;
    connection.closed().await.unwrap();
}
