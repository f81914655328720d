//! Managed certificates against an API server that does as it is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::cluster_api::{ClusterApi, trust};
use crate::support::server::{Setup, Tidepole};
use crate::support::tls::{Authority, install_provider};
use crate::support::wait::{PATIENCE, until};

const EXTERNAL: &str = "v1beta1.external.metrics.k8s.io";
const CUSTOM: &str = "v1beta1.custom.metrics.k8s.io";
/// Somebody else's.
const CUSTOM_2: &str = "v1beta2.custom.metrics.k8s.io";
const SECRET: &str = "tidepole-serving";
const NAME: &str = "tidepole.tidepole.svc";

fn cluster() -> ClusterApi {
    let (front_proxy, clients) = (Authority::new("front-proxy-ca"), Authority::new("client-ca"));
    let cluster = ClusterApi::start(trust(&front_proxy.pem(), &clients.pem()));
    cluster.certificates().register(EXTERNAL, "tidepole", "tidepole");
    cluster.certificates().register(CUSTOM, "tidepole", "tidepole");
    cluster.certificates().register(CUSTOM_2, "monitoring", "prometheus-adapter");
    cluster
}

/// A replica. Its pause is a quarter of `renewBefore`.
async fn replica(cluster: &ClusterApi, lives: &str) -> Tidepole {
    let tls = format!("{{ managed: {{ namespace: tidepole, {lives} }} }}");
    Setup::new("  - { name: sim, simulated: {} }").cluster(cluster).tls(&tls).start().await
}

/// What an API server with this bundle sees of a replica: its certificate, or why it is not taken.
async fn shown(server: &Tidepole, bundle: &str) -> Result<CertificateDer<'static>, String> {
    install_provider();
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.expect("a bundle is PEM")).expect("an authority is an anchor");
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.running.api_address()).await.expect("it listens");
    let name = ServerName::try_from(NAME).expect("a name");
    let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let tls = tls.map_err(|error| error.to_string())?;
    let chain = tls.get_ref().1.peer_certificates().expect("a server shows a certificate");
    Ok(chain[0].clone().into_owned())
}

/// The same with what an `APIService` trusts now.
async fn seen(cluster: &ClusterApi, server: &Tidepole) -> Result<CertificateDer<'static>, String> {
    let mut leaf = Err("nobody looked".to_owned());
    for name in [EXTERNAL, CUSTOM] {
        leaf = Ok(shown(server, &cluster.certificates().bundle(name)).await?);
    }
    leaf
}

fn data(secret: &Value, key: &str) -> String {
    let encoded = secret["data"][key].as_str().unwrap_or_default();
    String::from_utf8(BASE64_STANDARD.decode(encoded).expect("data is base64")).expect("text")
}

fn authorities(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

async fn metric(server: &Tidepole, series: &str) -> f64 {
    let text = server.admin("/metrics").await.text().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_share_one_pair_and_heal_what_people_do() {
    let cluster = cluster();
    // Every first write meets somebody who was faster.
    cluster.certificates().quarrel(3);
    let lives = "certLifetime: 1h, caLifetime: 2h, renewBefore: 4s";
    let (one, other) = tokio::join!(replica(&cluster, lives), replica(&cluster, lives));
    one.ready().await;
    other.ready().await;
    let leaf = seen(&cluster, &one).await.expect("it is trusted");
    assert_eq!(seen(&cluster, &other).await.expect("it is trusted"), leaf);
    let secret = cluster.certificates().secret("tidepole", SECRET).expect("it was made");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let bundle = cluster.certificates().bundle(EXTERNAL);
    assert_eq!(data(&secret, "ca.crt"), bundle);
    assert_eq!(authorities(&bundle), 1);
    assert_eq!(cluster.certificates().spec(EXTERNAL)["insecureSkipTLSVerify"], Value::Null);
    let foreign = cluster.certificates().spec(CUSTOM_2);
    assert_eq!(foreign["caBundle"], Value::Null, "somebody else's is left alone");
    assert_eq!(foreign["insecureSkipTLSVerify"], true);
    let writes = cluster.certificates().writes();
    // The server's own count of what ends when agrees.
    let ends =
        metric(&one, "tidepole_certificates_not_after_timestamp_seconds{what=\"pair\"}").await;
    assert!(
        (ends - metric(&one, "tidepole_server_certificate_not_after_timestamp_seconds").await)
            .abs()
            < 0.5
    );
    assert!((metric(&one, "tidepole_certificates_trusted").await - 1.0).abs() < 0.1);

    // A bundle that is emptied is filled again, one that has a stranger in it keeps it for a while.
    cluster.certificates().edit_bundle(EXTERNAL, "");
    cluster.certificates().edit_bundle(CUSTOM, &Authority::new("stranger").pem());
    until("the bundles are repaired", async || seen(&cluster, &one).await).await;
    assert_eq!(authorities(&cluster.certificates().bundle(EXTERNAL)), 1);
    assert_eq!(authorities(&cluster.certificates().bundle(CUSTOM)), 2);

    // A Secret that is deleted comes back as it was; nothing else moves.
    cluster.certificates().edit_secret("tidepole", SECRET, None);
    let back = until("the Secret is back", async || {
        cluster.certificates().secret("tidepole", SECRET).ok_or_else(String::new)
    })
    .await;
    assert_eq!(back["data"], secret["data"]);
    assert_eq!(seen(&cluster, &other).await.expect("it is trusted"), leaf);

    // Without the authority's key there is a new authority, and no moment without trust.
    cluster.certificates().edit_secret("tidepole", SECRET, Some("ca.key"));
    until("both serve a pair of another authority", async || {
        let now = [seen(&cluster, &one).await?, seen(&cluster, &other).await?];
        let done = now[0] == now[1] && now[0] != leaf;
        if done { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!(authorities(&cluster.certificates().bundle(EXTERNAL)), 2, "the old one, too");
    // It ends: a handful of writes, not a quarrel.
    let before = cluster.certificates().writes();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.certificates().writes(), before);
    assert!(before - writes < 20, "{} writes", before - writes);
    for mut server in [one, other] {
        server.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_and_authorities_rotate_and_every_handshake_succeeds() {
    let cluster = cluster();
    // Everything is renewed after six seconds of ten; the pause is one.
    let lives = "certLifetime: 10s, caLifetime: 10s, renewBefore: 4s";
    let (one, other) = tokio::join!(replica(&cluster, lives), replica(&cluster, lives));
    one.ready().await;
    other.ready().await;
    let first = cluster.certificates().secret("tidepole", SECRET).expect("it was made");
    let begin = Instant::now();
    let mut bundles: VecDeque<(Instant, String)> = VecDeque::new();
    let (mut handshakes, mut leaves) = (0, Vec::new());
    // Until both have served a pair of another authority for a while.
    let mut rotated: Option<Instant> = None;
    while rotated.is_none_or(|at| at.elapsed() < Duration::from_millis(1500)) {
        assert!(begin.elapsed() < PATIENCE, "no other authority");
        let now = Instant::now();
        bundles.push_back((now, cluster.certificates().bundle(CUSTOM)));
        // An API server that is half a second behind; the pause is one.
        while bundles.get(1).is_some_and(|(at, _)| now - *at > Duration::from_millis(500)) {
            bundles.pop_front();
        }
        let mut shows = Vec::new();
        for server in [&one, &other] {
            let behind = shown(server, &bundles[0].1).await;
            let leaf = behind.unwrap_or_else(|e| panic!("{e}, after {:?}", begin.elapsed()));
            seen(&cluster, server).await.unwrap_or_else(|e| panic!("{e}, {:?}", begin.elapsed()));
            handshakes += 3;
            if !leaves.contains(&leaf) {
                leaves.push(leaf.clone());
            }
            shows.push(leaf);
        }
        let secret = cluster.certificates().secret("tidepole", SECRET).expect("it is there");
        if data(&first, "ca.key") != data(&secret, "ca.key")
            && shows[0] == shows[1]
            && shows[0] != leaves[0]
        {
            rotated.get_or_insert(now);
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(leaves.len() >= 2, "{} pairs", leaves.len());
    println!("measured: {handshakes} handshakes over {} pairs, none failed", leaves.len());
    let rotated = "tidepole_certificates_rotations_total{what=\"authority\"}";
    assert!(metric(&one, rotated).await + metric(&other, rotated).await >= 2.0);
    for mut server in [one, other] {
        server.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_permissions_are_told_and_nothing_is_lost() {
    let cluster = cluster();
    let all = [("get", "secrets"), ("create", "secrets"), ("patch", "apiservices")];
    for (verb, resource) in all {
        cluster.certificates().refuse(verb, resource, true);
    }
    let mut server = replica(&cluster, "certLifetime: 1h, caLifetime: 2h, renewBefore: 4s").await;
    for ((verb, resource), says) in all.into_iter().zip([
        "Secret tidepole/tidepole-serving cannot be read: secrets is forbidden: User \"tidepole\" \
         cannot get it; grant get, list and watch on it",
        "Secret tidepole/tidepole-serving cannot be written: secrets is forbidden: User \
         \"tidepole\" cannot create it; grant update on it, and create on secrets in its namespace",
        "does not trust the serving certificate yet: the caBundle of APIService",
    ]) {
        until("readiness says what is missing", async || {
            let answer = server.admin("/readyz?verbose").await;
            let told = answer.status != 200 && answer.text().contains(says);
            if told { Ok(()) } else { Err(answer.text().to_owned()) }
        })
        .await;
        assert_eq!(server.admin("/livez").await.status, 200);
        shown(&server, &Authority::new("any").pem()).await.expect_err("nobody trusts it yet");
        cluster.certificates().refuse(verb, resource, false);
    }
    server.ready().await;
    seen(&cluster, &server).await.expect("it is trusted");
    for operation in ["read_secret", "write_secret", "write_api_service"] {
        let series = format!("tidepole_certificates_failures_total{{operation=\"{operation}\"}}");
        assert!(metric(&server, &series).await >= 1.0, "{operation}");
    }

    // Once ready it stays so: taking every replica away would help nobody.
    cluster.certificates().refuse("get", "apiservices", true);
    cluster.certificates().edit_bundle(EXTERNAL, "");
    until("the failure is counted", async || {
        let series = "tidepole_certificates_failures_total{operation=\"read_api_service\"}";
        if metric(&server, series).await >= 1.0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!(server.admin("/readyz").await.status, 200);
    cluster.certificates().refuse("get", "apiservices", false);
    until("the bundle is repaired", async || seen(&cluster, &server).await).await;
    server.check();
}
