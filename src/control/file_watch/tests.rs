//! The watch on real folders. Waits are bounded and end with the event.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use tokio::runtime::Handle;

use super::*;
use crate::task::TaskSet;

struct Sink(mpsc::UnboundedSender<(Vec<String>, Vec<String>)>);

impl Apply for Sink {
    fn apply(&self, entries: Vec<Arc<Entry>>, problems: Vec<Problem>) {
        let names = entries.iter().map(|entry| entry.metric.to_string()).collect();
        let messages = problems.iter().map(|problem| problem.message.clone()).collect();
        self.0.send((names, messages)).unwrap();
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    applied: mpsc::UnboundedReceiver<(Vec<String>, Vec<String>)>,
    tasks: TaskSet,
    telemetry: Telemetry,
}

impl Fixture {
    /// Watches the folder `root` of a new temporary folder that `prepare` has filled.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let (sender, applied) = mpsc::unbounded_channel();
        let telemetry = Telemetry::new();
        let simulated = crate::model::SourceProfile {
            name: crate::model::SourceName::new("sim"),
            kind: crate::model::SourceKind::Simulated,
            region: None,
            allowed_regions: Vec::new(),
            allowed_roles: Vec::new(),
            cost: crate::model::CostSettings::default(),
            allowed_namespaces: Vec::new(),
        };
        let settings = Settings {
            paths: vec![dir.path().join("root")],
            sources: SourceDirectory::new([simulated]),
            defaults: Defaults::default(),
            cluster: true,
        };
        let mut watch = FileWatch::new(settings, Arc::new(Sink(sender)), &telemetry);
        watch.load();
        let (tasks, _died) = TaskSet::new(Handle::current());
        tasks.service("file watch", watch.run(tasks.shutdown_token().clone()));
        Self { dir, applied, tasks, telemetry }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits for a hand-over with these names.
    async fn names(&mut self, expected: &[&str]) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left = Duration::from_secs(20).saturating_sub(start.elapsed());
            let (names, messages) = tokio::time::timeout(left, self.applied.recv())
                .await
                .unwrap_or_else(|_| panic!("never saw {expected:?}"))
                .unwrap();
            if names == expected {
                return messages;
            }
        }
    }
}

fn document(name: &str) -> String {
    format!(
        "apiVersion: tidepole.dev/v1alpha1\nkind: ClusterExternalMetric\nmetadata: {{name: {name}}}\nspec: {{simulated: {{constant: 1}}}}\n"
    )
}

#[tokio::test]
async fn files_are_followed_through_edits_and_deletion() {
    let mut fixture = Fixture::new(|dir| {
        fs::create_dir(dir.join("root")).unwrap();
        fs::write(dir.join("root/a.yaml"), document("a")).unwrap();
    });
    assert_eq!(fixture.names(&["a"]).await, [""; 0]);
    fs::write(fixture.path("root/b.yaml"), document("b")).unwrap();
    assert_eq!(fixture.names(&["a", "b"]).await, [""; 0]);
    // A bad edit keeps what worked, and says so.
    fs::write(fixture.path("root/b.yaml"), document("b").replace("constant", "konstant")).unwrap();
    let messages = fixture.names(&["a", "b"]).await;
    assert_eq!(messages, ["unknown field; did you mean `constant`?"]);
    let text = fixture.telemetry.encode();
    assert!(text.contains("tidepole_definition_file_problems 1"), "{text}");
    assert!(text.contains("tidepole_definition_file_reloads_total{outcome=\"clean\"} 2"), "{text}");
    // A replaced file, as editors do it.
    fs::write(fixture.path("root/.b.tmp"), document("c")).unwrap();
    fs::rename(fixture.path("root/.b.tmp"), fixture.path("root/b.yaml")).unwrap();
    assert_eq!(fixture.names(&["a", "c"]).await, [""; 0]);
    fs::remove_file(fixture.path("root/a.yaml")).unwrap();
    assert_eq!(fixture.names(&["c"]).await, [""; 0]);
    // A new folder is watched too.
    fs::create_dir(fixture.path("root/sub")).unwrap();
    fs::write(fixture.path("root/sub/d.yaml"), document("d")).unwrap();
    assert_eq!(fixture.names(&["c", "d"]).await, [""; 0]);
    fs::write(fixture.path("root/sub/d.yaml"), document("e")).unwrap();
    assert_eq!(fixture.names(&["c", "e"]).await, [""; 0]);
    fixture.tasks.stop().await;
}

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_one_change() {
    let mut fixture = Fixture::new(|dir| {
        let root = dir.join("root");
        fs::create_dir_all(root.join("..1")).unwrap();
        fs::write(root.join("..1/a.yaml"), document("one")).unwrap();
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    });
    fixture.names(&["one"]).await;
    for (number, name) in [(2, "two"), (3, "three")] {
        let root = fixture.path("root");
        fs::create_dir(root.join(format!("..{number}"))).unwrap();
        fs::write(root.join(format!("..{number}/a.yaml")), document(name)).unwrap();
        symlink(format!("..{number}"), root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        fs::remove_dir_all(root.join(format!("..{}", number - 1))).unwrap();
        fixture.names(&[name]).await;
    }
    fixture.tasks.stop().await;
}

#[tokio::test]
async fn a_folder_that_appears_late_is_found() {
    let mut fixture = Fixture::new(|_| {});
    assert_eq!(fixture.names(&[]).await, ["there is no such file or folder"]);
    fs::create_dir(fixture.path("root")).unwrap();
    fs::write(fixture.path("root/a.yaml"), document("a")).unwrap();
    assert_eq!(fixture.names(&["a"]).await, [""; 0]);
    fixture.tasks.stop().await;
}

#[tokio::test]
async fn reading_makes_no_further_reading() {
    let mut fixture = Fixture::new(|dir| {
        fs::create_dir(dir.join("root")).unwrap();
        fs::write(dir.join("root/a.yaml"), document("a")).unwrap();
    });
    fixture.names(&["a"]).await;
    fs::write(fixture.path("root/a.yaml"), document("b")).unwrap();
    fixture.names(&["b"]).await;
    // Nothing more is handed over for a while of several debounce times.
    let more = tokio::time::timeout(DEBOUNCE * 4, fixture.applied.recv()).await;
    assert!(more.is_err(), "{more:?}");
    fixture.tasks.stop().await;
}
