//! Reads, as the aggregator sends them on for the HPA controller, spread over replicas.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::{Certificate, Client, Identity};
use serde_json::Value;

use super::crowd::hpas;
use super::{HPA_PERIOD, Times, authority, path, value_of};
use crate::adapter::Installation;
use crate::control_plane::ControlPlane;
use crate::read;
use crate::world::HPA_CONTROLLER;

/// Reads under way at once: the controller's workers.
const AT_ONCE: usize = 5;

/// How long a change is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The aggregator.
pub(super) struct Front {
    replicas: Vec<(Client, String)>,
}

impl Front {
    pub(super) fn new(plane: &ControlPlane, replicas: &[Installation]) -> Self {
        let pem = [read(&plane.front_proxy.key), read(&plane.front_proxy.cert)].concat();
        let one = |installation: &Installation| {
            let identity = Identity::from_pem(&pem).expect("our own pair is whole");
            let ca = Certificate::from_pem(&read(&authority(installation)));
            let name = "tidepole.tidepole.svc";
            let client = Client::builder()
                .identity(identity)
                .tls_certs_only([ca.expect("an authority is PEM")])
                .resolve(name, ([127, 0, 0, 1], installation.port).into())
                .no_proxy()
                .timeout(Duration::from_secs(10))
                .build();
            (client.expect("a client can be made"), format!("https://{name}:{}", installation.port))
        };
        Self { replicas: replicas.iter().map(one).collect() }
    }

    async fn get(&self, replica: usize, number: usize) -> Result<Value, String> {
        let (client, address) = &self.replicas[replica];
        let request = client
            .get(format!("{address}{}", path(number)))
            .header("X-Remote-User", HPA_CONTROLLER)
            .header("X-Remote-Group", "system:serviceaccounts")
            .header("X-Remote-Group", "system:authenticated");
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Reads of the first replica until the value is this one; how long that took since `begin`.
    pub(super) async fn until(
        &self,
        number: usize,
        value: usize,
        begin: Instant,
    ) -> Result<Duration, String> {
        let wanted = value.to_string();
        loop {
            let seen = self.get(0, number).await;
            if seen.as_ref().ok().and_then(value_of) == Some(&wanted) {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("{}: {seen:?} instead of {wanted}", path(number)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every HPA reads its metric once in each period, of one replica after the other.
    pub(super) async fn load(&self, during: Duration) -> Times {
        let begin = Instant::now();
        let every = HPA_PERIOD / u32::try_from(hpas()).expect("a thousand");
        let beat = tokio::time::interval(every);
        let reads = futures::stream::unfold((beat, 0_usize), |(mut beat, round)| async move {
            beat.tick().await;
            (begin.elapsed() < during).then_some((round, (beat, round + 1)))
        });
        let read = |round: usize| async move {
            let begin = Instant::now();
            // In the second period an HPA reads of the other one.
            let replica = (round + round / hpas()) % self.replicas.len();
            let list = self.get(replica, round % hpas()).await.unwrap_or_else(|e| panic!("{e}"));
            assert!(value_of(&list).is_some(), "{list}");
            begin.elapsed()
        };
        Times(reads.map(read).buffer_unordered(AT_ONCE).collect().await)
    }
}
