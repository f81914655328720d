//! Two replicas, a Secret, two bundles, and people who do things to them, in any order.
//!
//! Each read, deciding and each write of a replica are steps of their own, with anything in between;
//! writes carry the version that was read. What holds at every moment: every bundle that an API
//! server may still be using (it hears of changes within less than the pause) trusts what each ready
//! replica serves. A bundle from which somebody takes what is in it is excepted until it is repaired,
//! and as long as a replica is about to decide on what it read before.
//!
//! A failure tells all that happened: authorities are C0, C1 ..., pairs p0, p1 ...

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// How far behind an API server may be, in seconds.
const LAG: u64 = 9;
/// What a replica reads is at most so old when it decides, and a write takes no longer: one call,
/// since reads go out together.
const CALL: u64 = 10;
/// Each replica looks at least so often, in seconds.
const RESYNC: u64 = 60;
/// Clocks differ from the API server's by no more, in seconds.
const SKEW: i64 = 100;

#[derive(Clone, Debug)]
enum Op {
    /// A replica does its next step.
    Step(usize),
    Pass(u64),
    DeleteSecret,
    Garble(&'static str),
    /// Somebody puts back what the Secret was so many writes ago.
    Restore(usize),
    /// Somebody puts nothing, a stranger, or a stranger beside ours into a bundle.
    Edit(usize, u8),
    Restart(usize),
    ClockTo(usize, i64),
}

/// Of about six hundred, `harm` are each of the things that people do.
fn op(harm: u32) -> impl Strategy<Value = Op> {
    let key = prop::sample::select(vec!["tls.crt", "tls.key", "ca.crt", "ca.key", "next-ca.key"]);
    prop_oneof![
        300 => (0..2_usize).prop_map(Op::Step),
        150 => (1..40_u64).prop_map(Op::Pass),
        150 => (1..4_u64).prop_map(Op::Pass),
        harm => Just(Op::DeleteSecret),
        harm => (0..6_usize).prop_map(Op::Restore),
        harm => key.prop_map(Op::Garble),
        harm => (0..2_usize, 0..3_u8).prop_map(|(bundle, how)| Op::Edit(bundle, how)),
        harm => (0..2_usize).prop_map(Op::Restart),
        harm => (0..2_usize, -SKEW..SKEW).prop_map(|(replica, skew)| Op::ClockTo(replica, skew)),
    ]
}

#[derive(Clone, Debug)]
enum Write {
    Secret(u64, Box<Content>),
    Bundle(usize, u64, String),
}

/// What a replica has read and not decided on yet.
struct Read {
    begun: u64,
    /// How many of Secret and bundles have been read.
    parts: usize,
    secret: Option<BTreeMap<String, Vec<u8>>>,
    secret_version: u64,
    bundles: Vec<Bundle>,
    versions: Vec<u64>,
    now: Timestamp,
    tick: Tick,
}

struct Replica {
    keeper: Keeper,
    skew: i64,
    is_ready: bool,
    read: Option<Read>,
    writes: VecDeque<Write>,
    /// Since when it waits for its next step.
    stepped: u64,
    looked: u64,
}

/// A bundle and what it was before.
struct Trust {
    pem: String,
    version: u64,
    written: u64,
    /// Until when earlier contents were current.
    past: Vec<(u64, String)>,
    /// Edited, and not repaired yet.
    wounded: bool,
    /// Whether somebody other than a replica wrote it.
    edited: bool,
    /// The version of the last such writing that lost something.
    lost: u64,
}

struct Model {
    time: u64,
    secret: Option<BTreeMap<String, Vec<u8>>>,
    secret_version: u64,
    /// What it was, the last first.
    secrets: VecDeque<BTreeMap<String, Vec<u8>>>,
    trusts: Vec<Trust>,
    replicas: Vec<Replica>,
    /// Whether a bundle vouches for a leaf, but for the time: signatures are dear.
    vouched: HashMap<(String, Vec<u8>), bool>,
    trace: Trace,
}

/// What happened, for whoever has to find out why.
#[derive(Default)]
struct Trace {
    lines: Vec<String>,
    /// Authorities by the order in which they were seen.
    authorities: Vec<String>,
    pairs: Vec<Vec<u8>>,
}

impl Trace {
    fn note(&mut self, time: u64, line: &str) {
        self.lines.push(format!("{time:>6} {line}"));
    }

    fn number(&mut self, name: String) -> usize {
        let known = self.authorities.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.authorities.push(name);
            self.authorities.len() - 1
        })
    }

    fn authorities(&mut self, certificates: &[Certificate]) -> String {
        let mut numbers: Vec<usize> = Vec::new();
        for certificate in certificates {
            let (_, parsed) = x509_parser::parse_x509_certificate(&certificate.der).unwrap();
            numbers.push(self.number(parsed.subject().to_string()));
        }
        numbers.sort_unstable();
        let numbers: Vec<String> = numbers.iter().map(|number| format!("C{number}")).collect();
        format!("[{}]", numbers.join(" "))
    }

    fn pair(&mut self, pair: Option<&Arc<Pair>>) -> String {
        let Some(pair) = pair else { return "none".to_owned() };
        let (_, parsed) = x509_parser::parse_x509_certificate(&pair.leaf.der).unwrap();
        let issuer = self.number(parsed.issuer().to_string());
        let known = self.pairs.iter().position(|known| *known == *pair.leaf.der);
        let number = known.unwrap_or_else(|| {
            self.pairs.push(pair.leaf.der.to_vec());
            self.pairs.len() - 1
        });
        let end = pair.leaf.not_after.as_second() - START;
        format!("p{number} by C{issuer} until {end}")
    }

    fn content(&mut self, content: &Content) -> String {
        let one = |authority: &Option<Arc<Authority>>| -> Vec<Certificate> {
            authority.iter().map(|one| one.certificate.clone()).collect()
        };
        let (signing, next) = (one(&content.signing), one(&content.next));
        let (signing, next) = (self.authorities(&signing), self.authorities(&next));
        let trusted = self.authorities(&content.trusted);
        let pair = self.pair(content.pair.as_ref());
        format!("{{signing {signing} next {next} trusted {trusted} pair {pair}}}")
    }

    fn pem(&mut self, pem: &str) -> String {
        let found = Bundle::read("", "", pem.as_bytes(), false).certificates;
        self.authorities(&found)
    }

    fn secret(&mut self, secret: Option<&BTreeMap<String, Vec<u8>>>) -> String {
        secret.map_or("absent".to_owned(), |data| self.content(&Content::read(data)))
    }
}

impl Model {
    fn new() -> Self {
        let trust = || Trust {
            pem: String::new(),
            version: 1,
            written: 0,
            past: Vec::new(),
            wounded: false,
            edited: false,
            lost: 0,
        };
        let replica = || Replica {
            keeper: Keeper::new(names(), SPANS),
            skew: 0,
            is_ready: false,
            read: None,
            writes: VecDeque::new(),
            stepped: 0,
            looked: 0,
        };
        Self {
            time: 0,
            secret: None,
            secret_version: 0,
            secrets: VecDeque::new(),
            trusts: vec![trust(), trust()],
            replicas: vec![replica(), replica()],
            vouched: HashMap::new(),
            trace: Trace::default(),
        }
    }

    fn apply(&mut self, op: &Op) -> Result<(), String> {
        if !matches!(op, Op::Step(_) | Op::Pass(_)) {
            self.trace.note(self.time, &format!("{op:?}"));
        }
        match op {
            Op::Step(replica) => self.step(*replica),
            Op::Pass(seconds) => {
                for _ in 0..*seconds {
                    self.time += 1;
                    for replica in 0..2 {
                        self.hurry(replica)?;
                        if self.time - self.replicas[replica].looked >= RESYNC {
                            self.round(replica)?;
                        }
                    }
                }
            }
            Op::DeleteSecret => {
                self.secret = None;
                self.secret_version += 1;
            }
            Op::Restore(ago) => {
                if let Some(earlier) = self.secrets.get(*ago) {
                    self.secret = Some(earlier.clone());
                    self.secret_version += 1;
                }
            }
            Op::Garble(key) => {
                if let Some(data) = &mut self.secret {
                    data.insert((*key).to_owned(), b"garbage".to_vec());
                    self.secret_version += 1;
                }
            }
            Op::Edit(index, how) => {
                let (now, _) = at(self.time);
                let foreign = Authority::new(now, SPANS.authority).unwrap().certificate.pem();
                let pem = match how {
                    0 => String::new(),
                    1 => foreign,
                    _ => format!("{foreign}{}", self.trusts[*index].pem),
                };
                let still = self.trusts[*index].edited;
                self.put(*index, pem);
                let trust = &mut self.trusts[*index];
                if *how < 2 {
                    // Whatever was written before is the editor's doing now.
                    trust.past.clear();
                    (trust.wounded, trust.edited, trust.lost) = (true, true, trust.version);
                } else {
                    trust.edited = still;
                }
            }
            Op::Restart(replica) => {
                let replica = &mut self.replicas[*replica];
                replica.keeper = Keeper::new(names(), SPANS);
                (replica.is_ready, replica.read) = (false, None);
                replica.writes.clear();
            }
            Op::ClockTo(replica, skew) => self.replicas[*replica].skew = *skew,
        }
        self.check()
    }

    fn put(&mut self, index: usize, pem: String) {
        let time = self.time;
        let trust = &mut self.trusts[index];
        trust.version += 1;
        trust.written = time;
        let before = std::mem::replace(&mut trust.pem, pem);
        trust.edited = false;
        // What was there while it was wounded is the editor's doing, too.
        if !trust.wounded {
            trust.past.push((time, before));
        }
    }

    /// A replica whose call has taken as long as it may.
    fn hurry(&mut self, index: usize) -> Result<(), String> {
        let replica = &self.replicas[index];
        if replica.read.as_ref().is_some_and(|read| self.time - read.begun >= CALL) {
            while self.replicas[index].read.is_some() {
                self.step(index);
            }
        } else if !replica.writes.is_empty() && self.time - replica.stepped >= CALL {
            self.step(index);
        }
        self.check()
    }

    /// Reads all, or what is not read yet, at once.
    fn read(&self, index: usize, begun: u64) -> Read {
        let (_, tick) = at(self.time);
        let skewed = START + self.time.cast_signed() + self.replicas[index].skew;
        let bundles = self.trusts.iter().enumerate();
        Read {
            begun,
            parts: 1,
            secret: self.secret.clone(),
            secret_version: self.secret_version,
            bundles: bundles
                .map(|(at, trust)| {
                    let version = trust.version.to_string();
                    let bundle =
                        Bundle::read(&at.to_string(), &version, trust.pem.as_bytes(), false);
                    Bundle { written: Some(self::at(trust.written).0), ..bundle }
                })
                .collect(),
            versions: self.trusts.iter().map(|trust| trust.version).collect(),
            now: Timestamp::from_second(skewed).unwrap(),
            tick,
        }
    }

    /// Reads the Secret and the bundles in some order; time is told at the last.
    fn read_on(&mut self, index: usize) {
        let now = self.read(index, self.time);
        let Some(read) = &mut self.replicas[index].read else {
            self.replicas[index].read = Some(now);
            return;
        };
        let order = if index == 0 { [0, 1, 2] } else { [2, 1, 0] };
        let late = &order[read.parts..];
        if late.contains(&0) {
            (read.secret, read.secret_version) = (now.secret, now.secret_version);
        }
        for (at, (bundle, version)) in now.bundles.into_iter().zip(now.versions).enumerate() {
            if late.contains(&(at + 1)) {
                (read.bundles[at], read.versions[at]) = (bundle, version);
            }
        }
        (read.now, read.tick) = (now.now, now.tick);
        read.parts += 1;
        if late.len() > 1 {
            return;
        }
        let secret = self.trace.secret(read.secret.as_ref());
        let bundles: Vec<String> =
            read.bundles.iter().map(|seen| self.trace.authorities(&seen.certificates)).collect();
        let line = format!("{index} read {secret}, bundles {bundles:?}, since {}", read.begun);
        self.trace.note(self.time, &line);
    }

    /// Read, decide, write, write ...
    fn step(&mut self, index: usize) {
        let time = self.time;
        self.replicas[index].stepped = time;
        if let Some(write) = self.replicas[index].writes.pop_front() {
            let (what, current) = match &write {
                Write::Secret(version, content) => {
                    let what = format!("secret {}", self.trace.content(content));
                    (what, *version == self.secret_version)
                }
                Write::Bundle(bundle, version, pem) => {
                    let what = format!("b{bundle} {}", self.trace.pem(pem));
                    (what, *version == self.trusts[*bundle].version)
                }
            };
            let how = if current { "writes" } else { "CONFLICT" };
            self.trace.note(time, &format!("{index} {how} {what}"));
            match write {
                Write::Secret(version, content) if version == self.secret_version => {
                    apply(&mut self.secret, &content);
                    self.secrets.push_front(self.secret.clone().expect("it was written"));
                    self.secrets.truncate(6);
                    self.secret_version += 1;
                }
                Write::Bundle(bundle, version, pem) if version == self.trusts[bundle].version => {
                    self.put(bundle, pem);
                }
                // A conflict: looks again.
                Write::Secret(..) | Write::Bundle(..) => {}
            }
            return;
        }
        let Some(read) = self.replicas[index].read.take_if(|read| read.parts == 3) else {
            self.read_on(index);
            return;
        };
        let replica = &mut self.replicas[index];
        replica.looked = time;
        let secret = read.secret.map_or(Secret::Absent, Secret::There);
        let seen = Seen { secret, bundles: Some(&read.bundles), now: read.now, tick: read.tick };
        let plan = replica.keeper.look(&seen);
        replica.is_ready = plan.unready.is_none();
        let line = format!(
            "{index} decides: serves {}, ready {}, {} bundles and {} Secret to write",
            self.trace.pair(replica.keeper.serving()),
            replica.is_ready,
            plan.bundles.len(),
            u8::from(plan.secret.as_ref().unwrap().is_some()),
        );
        self.trace.note(time, &line);
        for (name, pem) in plan.bundles {
            let bundle = name.parse::<usize>().unwrap();
            replica.writes.push_back(Write::Bundle(bundle, read.versions[bundle], pem));
        }
        if let Some((content, _)) = plan.secret.unwrap() {
            replica.writes.push_back(Write::Secret(read.secret_version, Box::new(content)));
        }
    }

    /// Whatever it was doing, and then looks with all that follows from them.
    fn round(&mut self, index: usize) -> Result<(), String> {
        while !self.replicas[index].writes.is_empty() || self.replicas[index].read.is_some() {
            self.step(index);
            self.check()?;
        }
        for _ in 0..10 {
            for _ in 0..4 {
                self.step(index);
                self.check()?;
            }
            if self.replicas[index].writes.is_empty() {
                return Ok(());
            }
            while !self.replicas[index].writes.is_empty() {
                self.step(index);
                self.check()?;
            }
        }
        Err(self.failure("ten looks, and still something to write"))
    }

    fn failure(&self, what: &str) -> String {
        format!("{what}, at {}\n{}", self.time, self.trace.lines.join("\n"))
    }

    fn check(&mut self) -> Result<(), String> {
        let (time, now) = (self.time, at(self.time).0);
        let ready: Vec<Arc<Pair>> = self
            .replicas
            .iter()
            .filter(|replica| replica.is_ready)
            .map(|replica| Arc::clone(replica.keeper.serving().expect("it is ready")))
            .collect();
        let mut wrong = None;
        // Who has read before somebody's edit decides in ignorance of it, within a call's time.
        let ignorant = |(index, trust): (usize, &Trust)| {
            let mut read = self.replicas.iter().filter_map(|replica| replica.read.as_ref());
            read.any(|read| read.versions[index] < trust.lost)
        };
        let ignorant: Vec<bool> = self.trusts.iter().enumerate().map(ignorant).collect();
        for (index, trust) in self.trusts.iter_mut().enumerate() {
            let mut fails = |pem: &str| {
                let mut trusts = |pair: &Arc<Pair>| {
                    let key = (pem.to_owned(), pair.leaf.der.to_vec());
                    let known = self.vouched.entry(key).or_insert_with(|| {
                        let bundle = Bundle::read("", "", pem.as_bytes(), false);
                        vouch(&bundle.certificates, &pair.leaf, &names()[0], now)
                    });
                    // An authority ends no earlier than its pairs.
                    *known && !pair.leaf.has_expired(now) && pair.leaf.not_before <= now
                };
                !ready.iter().all(&mut trusts)
            };
            // What a replica writes is right for itself at once, and for all with their next looks.
            trust.wounded &= trust.edited || ignorant[index] || fails(&trust.pem);
            if trust.wounded {
                continue;
            }
            trust.past.retain(|(until, _)| *until + LAG > time);
            if fails(&trust.pem) {
                wrong = Some(format!("bundle {index} does not trust what is served"));
            } else if trust.past.iter().any(|(_, past)| fails(past)) {
                wrong = Some(format!("an API server with an older bundle {index}"));
            }
        }
        wrong.map_or(Ok(()), |wrong| Err(self.failure(&wrong)))
    }
}

/// Does all of it, and then leaves the replicas alone: they come to rest with one pair, trusted
/// everywhere.
fn live(ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    let end = |model: &mut Model| -> Result<(), String> {
        for op in ops {
            model.apply(op)?;
        }
        for replica in &mut model.replicas {
            replica.skew = 0;
        }
        model.apply(&Op::Pass(4 * RESYNC))?;
        let served = |model: &Model, at: usize| model.replicas[at].keeper.serving().cloned();
        // A rotation may be under way.
        for _ in 0..3 {
            model.round(0)?;
            model.round(1)?;
            if served(model, 0) == served(model, 1) {
                break;
            }
            model.apply(&Op::Pass(LAG + 1))?;
        }
        model.check()?;
        let (now, _) = at(model.time);
        for trust in &model.trusts {
            let bundle = Bundle::read("", "", trust.pem.as_bytes(), false);
            let pair = served(model, 0).expect("it serves");
            if !vouch(&bundle.certificates, &pair.leaf, &names()[0], now) {
                return Err(model.failure("not trusted in the end"));
            }
        }
        if !model.replicas.iter().all(|replica| replica.is_ready) {
            return Err(model.failure("not ready in the end"));
        }
        if served(model, 0) != served(model, 1) {
            return Err(model.failure("not the same pair in the end"));
        }
        Ok(())
    };
    end(&mut model).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn what_is_served_is_trusted_whatever_happens(ops in prop::collection::vec(op(8), 50..400)) {
        live(&ops)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "minutes, as many sequences as PROPTEST_CASES says: cargo test --lib -- --ignored however_hostile"]
    fn what_is_served_is_trusted_however_hostile(
        ops in (1..60_u32).prop_flat_map(|harm| prop::collection::vec(op(harm), 50..2000)),
    ) {
        live(&ops)?;
    }
}
