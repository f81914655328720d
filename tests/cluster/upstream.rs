//! What metrics are read from: a real Prometheus server and a real queue server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};

use crate::process::{Process, eventually, free_port};

/// Series that a Prometheus server scrapes every second; tests set their values.
#[derive(Clone, Debug)]
pub(crate) struct Exposition {
    series: Arc<Mutex<BTreeMap<String, f64>>>,
    port: u16,
}

impl Exposition {
    /// Serves an empty exposition on loopback for as long as the process lives.
    pub(crate) fn start() -> Self {
        let series = Arc::new(Mutex::new(BTreeMap::<String, f64>::new()));
        let shared = Arc::clone(&series);
        let port = expose(move || {
            let mut body = String::new();
            for (series, value) in shared.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                writeln!(body, "{series} {value}").expect("writing to a String cannot fail");
            }
            body
        });
        Self { series, port }
    }

    /// Sets one series, written as in the text format: `jobs{queue="a"}`.
    pub(crate) fn set(&self, series: &str, value: f64) {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).insert(series.to_owned(), value);
    }

    /// Removes one series: Prometheus marks it stale at its next scrape.
    pub(crate) fn remove(&self, series: &str) {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).remove(series);
    }
}

/// Serves an exposition on loopback, made anew for every scrape, for as long as the process lives;
/// the port.
pub(crate) fn expose(text: impl Fn() -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = text();
            // A scraper that has gone away is its own problem.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

/// A Prometheus server that can be stopped and started again on the same port and data.
#[derive(Debug)]
pub(crate) struct Prometheus {
    name: String,
    port: u16,
    folder: PathBuf,
    logs: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Prometheus {
    /// Starts a server that scrapes `exposition` every second.
    pub(crate) fn start(name: &str, folder: &Path, logs: &Path, exposition: &Exposition) -> Self {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             scrape_configs:\n  - job_name: tests\n    static_configs: \
             [{{ targets: ['127.0.0.1:{}'] }}]\n",
            exposition.port
        );
        Self::start_with(name, folder, logs, &config)
    }

    /// Starts a server with a config.
    pub(crate) fn start_with(name: &str, folder: &Path, logs: &Path, config: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        std::fs::write(folder.join("prometheus.yaml"), config).expect("the folder is ours");
        let server = Self {
            name: name.to_owned(),
            port: free_port(),
            folder,
            logs: logs.to_owned(),
            process: Mutex::new(None),
        };
        server.resume();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn address(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.port)
    }

    /// Stops the server; its port refuses connections.
    pub(crate) fn halt(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.expect("the server runs").stop(Duration::from_secs(20));
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn resume(&self) {
        let mut command = Command::new(tool(
            "TIDEPOLE_PROMETHEUS",
            "target/prometheus/usr/bin/prometheus",
            "prometheus",
        ));
        command
            .arg(format!("--config.file={}", self.folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", self.folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port));
        let mut process = Process::start(&self.name, &self.logs, &command);
        let ready = format!("{}/-/ready", self.url());
        eventually("Prometheus is ready", Duration::from_secs(30), || {
            process.assert_running();
            crate::http_get(&ready).map(|_| ())
        });
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }
}

/// An upstream that hangs: connections are accepted and read, and nothing is ever answered.
#[derive(Debug)]
pub(crate) struct Hanging {
    port: u16,
}

impl Hanging {
    /// Hangs on loopback for as long as the process lives.
    pub(crate) fn start() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A connection stays open until the other side gives it up.
                std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Stands before a Prometheus server and holds some of its answers back.
#[derive(Debug)]
pub(crate) struct Front {
    port: u16,
}

/// What becomes of one request.
#[derive(Clone, Copy)]
enum Hold {
    /// Forwarded, this much later.
    Back(Duration),
    /// Never answered.
    ForEver,
}

impl Front {
    /// How long each request to [`Front::slow`] is held back.
    pub(crate) const DELAY: Duration = Duration::from_secs(1);

    /// What a query that [`Front::partly`] never answers has in it.
    pub(crate) const UNANSWERED: &str = "unanswered";

    /// Every answer takes a second longer.
    pub(crate) fn slow(server: &Prometheus) -> Self {
        Self::start(server, |_| Hold::Back(Self::DELAY))
    }

    /// Some queries are never answered, all others at once.
    pub(crate) fn partly(server: &Prometheus) -> Self {
        Self::start(server, |line| {
            if line.contains(Self::UNANSWERED) { Hold::ForEver } else { Hold::Back(Duration::ZERO) }
        })
    }

    /// Stands there for as long as the process lives. `hold` judges by the request's first line.
    fn start(server: &Prometheus, hold: fn(&str) -> Hold) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let behind = server.address();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A side that has gone away is its own problem.
                std::thread::spawn(move || Self::forward(stream, behind, hold));
            }
        });
        Self { port }
    }

    /// One request without a body, on a connection of its own.
    fn forward(
        mut stream: TcpStream,
        behind: (Ipv4Addr, u16),
        hold: fn(&str) -> Hold,
    ) -> std::io::Result<()> {
        let mut lines = BufReader::new(&stream).lines();
        let line = lines.next().transpose()?.unwrap_or_default();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        drop(lines);
        match hold(&line) {
            Hold::Back(delay) => std::thread::sleep(delay),
            // Until the other side gives it up.
            Hold::ForEver => return std::io::copy(&mut stream, &mut std::io::sink()).map(drop),
        }
        let mut server = TcpStream::connect(behind)?;
        write!(server, "{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        std::io::copy(&mut server, &mut stream)?;
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A queue server that speaks the protocol of Amazon SQS.
#[derive(Debug)]
pub(crate) struct Queues {
    url: String,
    client: aws_sdk_sqs::Client,
    runtime: tokio::runtime::Runtime,
    _process: Process,
}

/// Any pair is accepted by the server; the adapter gets the same by its environment.
pub(crate) const ACCESS_KEY: &str = "test";

impl Queues {
    pub(crate) fn start(folder: &Path, logs: &Path) -> Self {
        let port = free_port();
        let config = folder.join("elasticmq.conf");
        std::fs::write(
            &config,
            format!(
                "include classpath(\"application.conf\")\n\
                 node-address {{ protocol = http, host = \"127.0.0.1\", port = {port} }}\n\
                 rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = \"127.0.0.1\", \
                 sqs-limits = strict }}\n\
                 rest-stats {{ enabled = false }}\n\
                 queues {{}}\n"
            ),
        )
        .expect("the folder is ours");
        let lib = tool("TIDEPOLE_ELASTICMQ_LIB", "target/elasticmq/lib", "");
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dconfig.file={}", config.display()))
            .arg("-cp")
            .arg(lib.join("*"))
            .arg("org.elasticmq.server.Main");
        let mut process = Process::start("elasticmq", logs, &command);
        let url = format!("http://127.0.0.1:{port}");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(&url)
            .credentials_provider(Credentials::new(ACCESS_KEY, ACCESS_KEY, None, None, "tests"))
            .build();
        let client = aws_sdk_sqs::Client::from_conf(config);
        eventually("the queue server answers", Duration::from_mins(1), || {
            process.assert_running();
            runtime
                .block_on(client.list_queues().send())
                .map(|_| ())
                .map_err(|error| format!("{error:?}"))
        });
        Self { url, client, runtime, _process: process }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Makes a queue; its URL.
    pub(crate) fn create(&self, name: &str) -> String {
        let made = self.runtime.block_on(self.client.create_queue().queue_name(name).send());
        made.expect("a queue can be made").queue_url.expect("a queue has a URL")
    }

    /// Deletes a queue with what is in it.
    pub(crate) fn remove(&self, queue: &str) {
        let deleted = self.runtime.block_on(self.client.delete_queue().queue_url(queue).send());
        deleted.expect("a queue can be deleted");
    }

    /// Puts `count` messages into a queue.
    pub(crate) fn send(&self, queue: &str, count: usize) {
        self.runtime.block_on(async {
            for number in 0..count {
                let message = self.client.send_message().queue_url(queue);
                message
                    .message_body(number.to_string())
                    .send()
                    .await
                    .expect("a message can be sent");
            }
        });
    }

    /// Takes `count` messages out of a queue: receives and deletes them.
    pub(crate) fn consume(&self, queue: &str, count: usize) {
        let mut left = count;
        while left > 0 {
            let handles = self.receive(queue, left);
            assert!(!handles.is_empty(), "{left} messages are missing in {queue}");
            left -= handles.len();
            self.delete(queue, &handles);
        }
    }

    /// Receives up to `count` messages, which are in flight from now on; their handles.
    pub(crate) fn receive(&self, queue: &str, count: usize) -> Vec<String> {
        // Ten is the protocol's limit for one call.
        let most = i32::try_from(count.min(10)).expect("ten fits");
        self.runtime.block_on(async {
            let answer = self.client.receive_message().queue_url(queue);
            let answer = answer
                .max_number_of_messages(most)
                .visibility_timeout(600)
                .send()
                .await
                .expect("messages can be received");
            answer.messages().iter().filter_map(|m| m.receipt_handle.clone()).collect()
        })
    }

    /// Deletes received messages.
    pub(crate) fn delete(&self, queue: &str, handles: &[String]) {
        self.runtime.block_on(async {
            for handle in handles {
                let message = self.client.delete_message().queue_url(queue);
                message.receipt_handle(handle).send().await.expect("a message can be deleted");
            }
        });
    }
}

/// A tool that `tests/run` provides: named by a variable, at its usual place, or on the path.
pub(crate) fn tool(variable: &str, usual: &str, on_path: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let usual = crate::root().join(usual);
    if usual.exists() { usual } else { PathBuf::from(on_path) }
}
