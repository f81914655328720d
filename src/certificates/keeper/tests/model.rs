//! Two replicas, a Secret, two bundles, and people who do things to them, in any order.
//!
//! Reading, deciding and each write of a replica are steps of their own, with anything in between;
//! writes carry the version that was read. What holds at every moment: every bundle that an API
//! server may still be using (it hears of changes within less than the pause) trusts what each ready
//! replica serves. A bundle that somebody edits is excepted until it is repaired.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// How far behind an API server may be, in seconds.
const LAG: u64 = 9;
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
    /// Somebody puts nothing, a stranger, or a stranger beside ours into a bundle.
    Edit(usize, u8),
    Restart(usize),
    ClockTo(usize, i64),
}

fn op() -> impl Strategy<Value = Op> {
    let key = prop::sample::select(vec!["tls.crt", "tls.key", "ca.crt", "ca.key", "next-ca.key"]);
    prop_oneof![
        30 => (0..2_usize).prop_map(Op::Step),
        30 => (1..40_u64).prop_map(Op::Pass),
        1 => Just(Op::DeleteSecret),
        1 => key.prop_map(Op::Garble),
        1 => (0..2_usize, 0..3_u8).prop_map(|(bundle, how)| Op::Edit(bundle, how)),
        1 => (0..2_usize).prop_map(Op::Restart),
        1 => (0..2_usize, -SKEW..SKEW).prop_map(|(replica, skew)| Op::ClockTo(replica, skew)),
    ]
}

#[derive(Clone, Debug)]
enum Write {
    Secret(u64, Box<Content>),
    Bundle(usize, u64, String),
}

/// What a replica has read and not decided on yet.
struct Read {
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
    looked: u64,
}

/// A bundle and what it was before.
struct Trust {
    pem: String,
    version: u64,
    /// Until when earlier contents were current.
    past: Vec<(u64, String)>,
    /// Edited, and not repaired yet.
    wounded: bool,
    /// Whether somebody other than a replica wrote it.
    edited: bool,
}

struct Model {
    time: u64,
    secret: Option<BTreeMap<String, Vec<u8>>>,
    secret_version: u64,
    trusts: Vec<Trust>,
    replicas: Vec<Replica>,
    /// Whether a bundle vouches for a leaf, but for the time: signatures are dear.
    vouched: HashMap<(String, Vec<u8>), bool>,
}

impl Model {
    fn new() -> Self {
        let trust = || Trust {
            pem: String::new(),
            version: 1,
            past: Vec::new(),
            wounded: false,
            edited: false,
        };
        let replica = || Replica {
            keeper: Keeper::new(names(), SPANS),
            skew: 0,
            is_ready: false,
            read: None,
            writes: VecDeque::new(),
            looked: 0,
        };
        Self {
            time: 0,
            secret: None,
            secret_version: 0,
            trusts: vec![trust(), trust()],
            replicas: vec![replica(), replica()],
            vouched: HashMap::new(),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Step(replica) => self.step(*replica),
            Op::Pass(seconds) => {
                for _ in 0..*seconds {
                    self.time += 1;
                    for replica in 0..2 {
                        if self.time - self.replicas[replica].looked >= RESYNC {
                            self.round(replica);
                        }
                    }
                }
            }
            Op::DeleteSecret => {
                self.secret = None;
                self.secret_version += 1;
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
                self.put(*index, pem);
                // Whatever was written before is the editor's doing now.
                self.trusts[*index].past.clear();
                self.trusts[*index].wounded = true;
                self.trusts[*index].edited = true;
            }
            Op::Restart(replica) => {
                let replica = &mut self.replicas[*replica];
                replica.keeper = Keeper::new(names(), SPANS);
                (replica.is_ready, replica.read) = (false, None);
                replica.writes.clear();
            }
            Op::ClockTo(replica, skew) => self.replicas[*replica].skew = *skew,
        }
        self.check();
    }

    fn put(&mut self, index: usize, pem: String) {
        let time = self.time;
        let trust = &mut self.trusts[index];
        trust.version += 1;
        let before = std::mem::replace(&mut trust.pem, pem);
        if !std::mem::take(&mut trust.edited) {
            trust.past.push((time, before));
        }
    }

    /// Read, decide, write, write ...
    fn step(&mut self, index: usize) {
        let time = self.time;
        if let Some(write) = self.replicas[index].writes.pop_front() {
            match write {
                Write::Secret(version, content) if version == self.secret_version => {
                    apply(&mut self.secret, &content);
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
        let Some(read) = self.replicas[index].read.take() else {
            let (_, tick) = at(time);
            let skewed = START + time.cast_signed() + self.replicas[index].skew;
            let bundles = self.trusts.iter().enumerate();
            let read = Read {
                secret: self.secret.clone(),
                secret_version: self.secret_version,
                bundles: bundles
                    .map(|(at, trust)| Bundle::read(&at.to_string(), trust.pem.as_bytes(), false))
                    .collect(),
                versions: self.trusts.iter().map(|trust| trust.version).collect(),
                now: Timestamp::from_second(skewed).unwrap(),
                tick,
            };
            self.replicas[index].read = Some(read);
            return;
        };
        let replica = &mut self.replicas[index];
        replica.looked = time;
        let secret = read.secret.map_or(Secret::Absent, Secret::There);
        let seen = Seen { secret, bundles: Some(&read.bundles), now: read.now, tick: read.tick };
        let plan = replica.keeper.look(&seen);
        replica.is_ready = plan.unready.is_none();
        for (name, pem) in plan.bundles {
            let bundle = name.parse::<usize>().unwrap();
            replica.writes.push_back(Write::Bundle(bundle, read.versions[bundle], pem));
        }
        if let Some((content, _)) = plan.secret.unwrap() {
            replica.writes.push_back(Write::Secret(read.secret_version, Box::new(content)));
        }
    }

    /// Whatever it was doing, and then looks with all that follows from them.
    fn round(&mut self, index: usize) {
        while !self.replicas[index].writes.is_empty() || self.replicas[index].read.is_some() {
            self.step(index);
            self.check();
        }
        for _ in 0..10 {
            self.step(index);
            self.step(index);
            self.check();
            if self.replicas[index].writes.is_empty() {
                return;
            }
            while !self.replicas[index].writes.is_empty() {
                self.step(index);
                self.check();
            }
        }
        panic!("ten looks, and still something to write");
    }

    fn check(&mut self) {
        let (time, now) = (self.time, at(self.time).0);
        let ready: Vec<Arc<Pair>> = self
            .replicas
            .iter()
            .filter(|replica| replica.is_ready)
            .map(|replica| Arc::clone(replica.keeper.serving().expect("it is ready")))
            .collect();
        for (index, trust) in self.trusts.iter_mut().enumerate() {
            let mut fails = |pem: &str| {
                let mut trusts = |pair: &Arc<Pair>| {
                    let key = (pem.to_owned(), pair.leaf.der.to_vec());
                    let known = self.vouched.entry(key).or_insert_with(|| {
                        let bundle = Bundle::read("", pem.as_bytes(), false);
                        vouch(&bundle.certificates, &pair.leaf, &names()[0], now)
                    });
                    // An authority ends no earlier than its pairs.
                    *known && !pair.leaf.has_expired(now) && pair.leaf.not_before <= now
                };
                !ready.iter().all(&mut trusts)
            };
            // What a replica writes is right for itself at once, and for all with their next looks.
            trust.wounded &= trust.edited || fails(&trust.pem);
            if trust.wounded {
                continue;
            }
            trust.past.retain(|(until, _)| *until + LAG > time);
            assert!(!fails(&trust.pem), "bundle {index} does not trust what is served, at {time}");
            for (_, past) in &trust.past {
                assert!(!fails(past), "an API server with an older bundle {index}, at {time}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    // A defect that is known and not mended yet: an API server that still uses an older bundle may not
    // trust a pair that a replica begins to serve.
    #[test]
    #[ignore = "fails for about one sequence in two hundred, with Secrets deleted and bundles edited several times within minutes"]
    fn what_is_served_is_trusted_whatever_happens(ops in prop::collection::vec(op(), 50..400)) {
        let mut model = Model::new();
        for op in &ops {
            model.apply(op);
        }
        // Left alone they come to rest: one pair, trusted everywhere. A rotation may be under way.
        for replica in &mut model.replicas {
            replica.skew = 0;
        }
        model.apply(&Op::Pass(4 * RESYNC));
        let served = |model: &Model, at: usize| model.replicas[at].keeper.serving().cloned();
        for _ in 0..3 {
            model.round(0);
            model.round(1);
            if served(&model, 0) == served(&model, 1) {
                break;
            }
            model.apply(&Op::Pass(LAG + 1));
        }
        model.check();
        let (now, _) = at(model.time);
        for trust in &model.trusts {
            let bundle = Bundle::read("", trust.pem.as_bytes(), false);
            let pair = served(&model, 0).expect("it serves");
            prop_assert!(vouch(&bundle.certificates, &pair.leaf, &names()[0], now));
        }
        prop_assert!(model.replicas.iter().all(|replica| replica.is_ready));
        prop_assert_eq!(served(&model, 0), served(&model, 1));
    }
}
