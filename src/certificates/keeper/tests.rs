mod model;

use super::*;
use crate::certificates::settings::Settings;

const SPANS: Spans = Spans {
    authority: Duration::from_mins(50),
    pair: Duration::from_mins(15),
    authority_renewal: Duration::from_secs(1000),
    pair_renewal: Duration::from_mins(5),
    pause: Duration::from_secs(10),
    grace: Duration::from_mins(5),
    tolerance: Duration::from_mins(5),
};

/// 2027-01-15, whatever the machine says.
const START: i64 = 1_800_000_000;

fn names() -> Vec<String> {
    Settings::default().names("tidepole")
}

fn at(seconds: u64) -> (Timestamp, Tick) {
    let now = Timestamp::from_second(START + seconds.cast_signed()).unwrap();
    (now, Tick(10_000_000 + seconds * 1000))
}

/// A Secret and two bundles, of which one replica is the only writer.
struct Alone {
    keeper: Keeper,
    secret: Option<BTreeMap<String, Vec<u8>>>,
    bundles: Vec<String>,
    /// When one of them was written last.
    written: Timestamp,
    rotations: Vec<Rotation>,
    unready: Option<String>,
}

impl Alone {
    fn new() -> Self {
        Self {
            keeper: Keeper::new(names(), SPANS),
            secret: None,
            bundles: vec![String::new(); 2],
            written: at(0).0,
            rotations: Vec::new(),
            unready: None,
        }
    }

    fn seen(&self) -> Vec<Bundle> {
        let read = |(index, pem): (usize, &String)| {
            // Nobody else writes, so the content tells one version from the next.
            let bundle = Bundle::read(&index.to_string(), pem, pem.as_bytes(), false);
            Bundle { written: Some(self.written), ..bundle }
        };
        self.bundles.iter().enumerate().map(read).collect()
    }

    /// Looks once and does what follows; gives the number of writes.
    fn step(&mut self, seconds: u64) -> usize {
        let bundles = self.seen();
        let (now, tick) = at(seconds);
        let secret = self.secret.clone().map_or(Secret::Absent, Secret::There);
        let plan = self.keeper.look(&Seen { secret, bundles: Some(&bundles), now, tick });
        let mut writes = plan.bundles.len();
        for (name, text) in plan.bundles {
            self.bundles[name.parse::<usize>().unwrap()] = text;
            self.written = now;
        }
        if let Some((content, rotation)) = plan.secret.unwrap() {
            writes += 1;
            self.rotations.extend(rotation);
            apply(&mut self.secret, &content);
        }
        self.unready = plan.unready;
        writes
    }

    /// Looks until nothing is to be done.
    fn settle(&mut self, seconds: u64) {
        for _ in 0..10 {
            if self.step(seconds) == 0 {
                return;
            }
        }
        panic!("ten looks, and still something to write");
    }

    fn value(&mut self, key: &str) -> &mut Vec<u8> {
        self.secret.as_mut().unwrap().entry(key.to_owned()).or_default()
    }

    fn is_trusted(&self, seconds: u64) -> bool {
        let bundles = self.seen();
        let pair = self.keeper.serving().unwrap();
        bundles.iter().all(|bundle| self.keeper.trusts(bundle, pair, at(seconds).0))
    }

    fn served(&self) -> Certificate {
        self.keeper.serving().unwrap().leaf.clone()
    }
}

/// Writes content into a Secret, as the cluster side does.
pub(super) fn apply(secret: &mut Option<BTreeMap<String, Vec<u8>>>, content: &Content) {
    let data = secret.get_or_insert_default();
    for (key, value) in content.data() {
        match value {
            Some(value) => data.insert(key.to_owned(), value),
            None => data.remove(key),
        };
    }
}

fn carried(bundle: &str) -> usize {
    super::super::x509::certificates(bundle.as_bytes()).0.len()
}

#[test]
fn a_first_start_makes_everything_and_waits_to_be_known() {
    let mut world = Alone::new();
    world.settle(0);
    let pair = world.served();
    assert_eq!(pair.names, names());
    assert!(world.is_trusted(0));
    assert!(world.unready.as_ref().unwrap().contains("since less than 10s"), "{:?}", world.unready);
    assert_eq!(world.step(9), 0);
    assert!(world.unready.is_some());
    assert_eq!(world.step(10), 0);
    assert_eq!(world.unready, None);

    // A second replica finds all there, serves it at once and writes nothing. It does not wait when
    // the bundles are as they are for long.
    for (start, waits) in [(11, true), (400, false)] {
        world.keeper = Keeper::new(names(), SPANS);
        assert_eq!(world.step(start), 0);
        assert_eq!(world.served(), pair);
        assert_eq!(world.unready.is_some(), waits);
        assert_eq!(world.step(start + 10), 0);
        assert_eq!(world.unready, None);
    }
}

#[test]
fn a_pair_is_renewed_in_time_and_nothing_else_is_written() {
    let mut world = Alone::new();
    world.settle(0);
    let (first, bundles) = (world.served(), world.bundles.clone());
    assert_eq!(world.step(599), 0);
    world.settle(601);
    assert_ne!(world.served(), first);
    assert!(world.is_trusted(601));
    assert_eq!(world.bundles, bundles);
    assert_eq!(world.rotations.last(), Some(&Rotation::Pair));
    let left = world.served().not_after.duration_since(at(601).0);
    assert_eq!(left, SPANS.pair.try_into().unwrap());
}

#[test]
fn a_new_authority_is_trusted_before_it_signs_and_the_old_one_until_it_ends() {
    let mut world = Alone::new();
    for seconds in (0..=1980).step_by(20) {
        world.settle(seconds);
    }
    assert_eq!(carried(&world.bundles[0]), 1);
    world.rotations.clear();
    let old = world.keeper.signing().unwrap().clone();
    world.settle(2000);
    assert_eq!(world.rotations, []);
    assert_eq!(world.keeper.signing(), Some(&old));
    assert!(world.secret.as_ref().unwrap().contains_key("next-ca.key"));
    assert_eq!(world.bundles.iter().map(|b| carried(b)).collect::<Vec<_>>(), [2, 2]);
    let before = world.served();
    world.settle(2009);
    assert_eq!(world.served(), before);
    world.settle(2010);
    assert_eq!(world.rotations, [Rotation::Authority]);
    assert_ne!(world.served(), before);
    assert_ne!(world.keeper.signing(), Some(&old));
    assert!(!world.secret.as_ref().unwrap().contains_key("next-ca.key"));
    assert!(world.is_trusted(2010));
    for seconds in (2020..=3280).step_by(20) {
        world.settle(seconds);
        assert_eq!(carried(&world.bundles[0]), 2, "{seconds}");
    }
    world.settle(3300);
    assert_eq!(carried(&world.bundles[0]), 1);
}

#[test]
fn a_deleted_secret_comes_back_as_it_was() {
    let mut world = Alone::new();
    world.settle(0);
    let (pair, bundles, was) = (world.served(), world.bundles.clone(), world.secret.take());
    world.settle(20);
    assert_eq!((&world.served(), &world.bundles, &world.secret), (&pair, &bundles, &was));
}

#[test]
fn what_somebody_did_to_the_secret_is_a_rotation_without_a_gap() {
    for key in ["tls.crt", "tls.key", "ca.crt", "ca.key"] {
        let mut world = Alone::new();
        world.settle(0);
        world.settle(20);
        let pair = world.served();
        *world.value(key) = b"-----BEGIN CERTIFICATE-----\ngarbage".to_vec();
        world.value("notes").push(7);
        world.settle(30);
        assert!(world.is_trusted(30), "{key}");
        if key.starts_with("ca") {
            assert_eq!(world.served(), pair, "{key}");
        }
        world.settle(40);
        assert_ne!(world.served(), pair, "{key}");
        assert!(world.is_trusted(40), "{key}");
        assert_eq!(*world.value("notes"), [7], "other keys are left alone");
    }
}

#[test]
fn an_edited_bundle_is_repaired_and_strangers_go_in_time() {
    let mut world = Alone::new();
    world.settle(0);
    world.settle(20);
    let right = world.bundles[0].clone();
    world.bundles[0] = "garbage".to_owned();
    world.settle(30);
    assert_eq!(world.bundles[0], right);
    let foreign = Authority::new(at(0).0, Duration::from_hours(10)).unwrap().certificate.pem();
    world.bundles[1] = foreign.clone();
    world.settle(40);
    assert_eq!(world.bundles[1], format!("{right}{foreign}"), "it may be in use by somebody");
    world.bundles[1] = format!("{foreign}{}", world.bundles[1]);
    world.settle(50);
    assert_eq!(carried(&world.bundles[1]), 2, "nothing twice");
    world.settle(339);
    assert_eq!(carried(&world.bundles[1]), 2);
    world.settle(340);
    assert_eq!(world.bundles[1], right);
}

/// As it is when somebody comes from certificates of their own.
#[test]
fn a_pair_of_another_authority_serves_until_ours_is_known() {
    let mut world = Alone::new();
    let other =
        Authority::new(at(0).0 - Duration::from_hours(3), Duration::from_hours(100)).unwrap();
    let earlier = at(0).0 - Duration::from_hours(3);
    let pair = other.issue(&names()[..1], earlier, Duration::from_hours(50)).unwrap();
    world.secret = Some(BTreeMap::new());
    world.value("tls.crt").clone_from(&pair.pem.certificate);
    world.value("tls.key").clone_from(&pair.pem.key);
    world.bundles = vec![other.certificate.pem(); 2];
    world.written = earlier;
    world.settle(0);
    assert_eq!(world.unready, None);
    assert_eq!(world.served(), pair.leaf);
    world.settle(9);
    assert_eq!(world.served(), pair.leaf);
    world.settle(10);
    assert_ne!(world.served(), pair.leaf);
    assert!(world.is_trusted(10));
    assert_eq!(carried(&world.bundles[0]), 2, "others may still serve the old one");
    world.settle(310);
    assert_eq!(carried(&world.bundles[0]), 1);
}

#[test]
fn without_permissions_nothing_changes_hands() {
    let mut world = Alone::new();
    world.settle(0);
    world.settle(20);
    let (now, tick) = at(700);
    let data = world.secret.clone().unwrap();
    // The pair is due; bundles cannot be looked at. The same authority signs, so it is renewed.
    let seen = Seen { secret: Secret::There(data), bundles: None, now, tick };
    let plan = world.keeper.look(&seen);
    let (renewed, rotation) = plan.secret.unwrap().unwrap();
    assert_eq!(rotation, Some(Rotation::Pair));
    assert!(plan.bundles.is_empty());
    apply(&mut world.secret, &renewed);
    let secret = Secret::There(world.secret.clone().unwrap());
    let plan = world.keeper.look(&Seen { secret, bundles: None, now, tick });
    assert_eq!(plan.serve.unwrap().leaf, renewed.pair.unwrap().leaf);
    // The Secret cannot be read: bundles are repaired from memory, nothing else.
    let bundles = [Bundle::read("0", "1", b"", false)];
    let seen = Seen { secret: Secret::Unknown, bundles: Some(&bundles), now, tick };
    let plan = world.keeper.look(&seen);
    assert!(plan.secret.unwrap().is_none());
    assert_eq!(plan.bundles[0].1, world.bundles[0]);
    // A start that may read nothing has nothing to write.
    let mut fresh = Keeper::new(names(), SPANS);
    let plan = fresh.look(&Seen { secret: Secret::Unknown, bundles: Some(&bundles), now, tick });
    assert!(plan.bundles.is_empty() && plan.serve.is_none() && plan.unready.is_some());
}

#[test]
fn a_bundle_that_was_written_in_between_is_waited_for_again() {
    let mut world = Alone::new();
    world.settle(0);
    assert_eq!(world.step(9), 0);
    // Taken out and put back between two looks: only the version tells.
    let (now, tick) = at(10);
    let bundles =
        ["0", "1"].map(|name| Bundle::read(name, "7", world.bundles[0].as_bytes(), false));
    let secret = Secret::There(world.secret.clone().unwrap());
    let plan = world.keeper.look(&Seen { secret, bundles: Some(&bundles), now, tick });
    assert!(plan.unready.unwrap().contains("since less than 10s"));
}

#[test]
fn what_was_needed_long_stays_for_a_while_when_nobody_needs_it_any_more() {
    let mut world = Alone::new();
    world.settle(0);
    world.settle(500);
    let earlier = world.keeper.signing().unwrap().clone();
    // A Secret of somebody who knew nothing of ours; we let go of the earlier authority at 520.
    world.secret = None;
    let mut other = Keeper::new(names(), SPANS);
    let (now, tick) = at(505);
    let plan = other.look(&Seen { secret: Secret::Absent, bundles: None, now, tick });
    apply(&mut world.secret, &plan.secret.unwrap().unwrap().0);
    world.settle(510);
    world.settle(520);
    assert_ne!(world.keeper.signing(), Some(&earlier));
    let ca = world.value("ca.crt").clone();
    let without = String::from_utf8(ca).unwrap().replace(&earlier.pem(), "");
    *world.value("ca.crt") = without.into_bytes();
    world.settle(530);
    assert_eq!(carried(&world.bundles[0]), 2, "whoever was cut off may serve a pair of it");
    world.settle(819);
    assert_eq!(carried(&world.bundles[0]), 2);
    world.settle(830);
    assert_eq!(carried(&world.bundles[0]), 1);
}

#[test]
fn a_pair_whose_authority_a_bundle_lost_is_kept_and_the_bundle_repaired() {
    let mut world = Alone::new();
    world.settle(0);
    world.settle(20);
    let (before, right) = (world.served(), world.bundles[0].clone());
    // Somebody put an authority and a pair of their own into Secret and bundles.
    let mut other = Alone::new();
    other.settle(25);
    (world.secret, world.bundles[0]) = (other.secret, other.bundles[0].clone());
    world.bundles[1] = format!("{right}{}", other.bundles[1]);
    world.settle(30);
    assert_eq!(world.served(), before);
    assert!(world.is_trusted(30));
    world.settle(40);
    assert_ne!(world.served(), before);
    assert!(world.is_trusted(40));
}

#[test]
fn a_secret_that_was_restored_gives_no_pair_that_is_about_to_end() {
    let mut world = Alone::new();
    world.settle(0);
    let backup = world.secret.clone();
    world.settle(601);
    let renewed = world.served();
    world.settle(880);
    world.secret.clone_from(&backup);
    assert_eq!(world.step(890), 1);
    assert_eq!(world.served(), renewed);
    world.settle(890);
    assert!(world.served().not_after > renewed.not_after);

    // A start has nothing else to show, and waits for what follows.
    (world.keeper, world.secret) = (Keeper::new(names(), SPANS), backup);
    assert_eq!(world.step(890), 1);
    assert!(world.unready.as_ref().unwrap().contains("ends within 300s"), "{:?}", world.unready);
    world.settle(890);
    world.settle(900);
    assert_eq!(world.unready, None);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 64, failure_persistence: None, ..proptest::prelude::ProptestConfig::default()
    })]

    /// Whatever a byte of the Secret or of a bundle becomes: no crash, and what is served is trusted.
    #[test]
    fn a_byte_that_changes_breaks_nothing(
        key in proptest::sample::select(vec!["tls.crt", "tls.key", "ca.crt", "ca.key", ""]),
        place: proptest::sample::Index,
        byte: u8,
    ) {
        let mut world = Alone::new();
        world.settle(0);
        world.settle(20);
        if key.is_empty() {
            let mut bytes = world.bundles[0].clone().into_bytes();
            let place = place.index(bytes.len());
            bytes[place] = byte & 0x7f;
            world.bundles[0] = String::from_utf8(bytes).unwrap();
        } else {
            let value = world.value(key);
            let place = place.index(value.len());
            value[place] = byte;
        }
        for seconds in [30, 40, 50] {
            world.settle(seconds);
            assert!(world.is_trusted(seconds), "{key}");
        }
    }
}

#[test]
fn no_key_is_printed() {
    let mut world = Alone::new();
    world.settle(0);
    let bundles = world.seen();
    let (now, tick) = at(700);
    let secret = Secret::Absent;
    let plan = world.keeper.look(&Seen { secret, bundles: Some(&bundles), now, tick });
    let printed = format!("{:?} {plan:?}", world.keeper);
    assert!(!printed.contains("PRIVATE"), "{printed}");
    for key in ["tls.key", "ca.key"] {
        let bytes = format!("{:?}", world.value(key));
        assert!(!printed.contains(&bytes[1..60]), "{key}");
    }
}
