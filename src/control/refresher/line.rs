//! The queries that wait for a place in one lane, and which go next.
//!
//! Pure. First reads, for which somebody waits, go before all others, but for every fourth fetch: who
//! brings thousands of new queries does not stop everybody's refreshes. Queries that keep failing go
//! after all others, but for every eighth fetch: none waits for ever. Within a class the owners of queries take turns, one fetch each, so that one
//! with thousands does not starve one with five; of one owner's queries the one with the lowest
//! rank goes next ([`rank`]).
//!
//! Queries with the same [`Batch`] go together, as many as its limit allows by their weight; who
//! does not fit any more goes with the next fetch. A batch has a turn of its own
//! beside the owners, and within it owners take turns again. A batch that starts for a first read
//! takes along whatever else of it waits, but nothing that keeps failing.
//!
//! A query that left, or that was put in another class, is not searched for: its place carries a
//! ticket, and whoever takes says which tickets are good.
//!
//! Adding and taking cost the logarithm of an owner's different ranks: a few hundred.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::control::schedule::{Id, Ticket};
use crate::model::{Batch, Tick};

/// How pressing a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The first read of a query: somebody waits for the answer.
    First = 0,
    /// A refresh.
    Regular = 1,
    /// Another try of a query that keeps failing while its upstream answers others.
    Failing = 2,
}

const CLASSES: [Class; 3] = [Class::First, Class::Regular, Class::Failing];

/// After so many first reads in a row a refresh goes, if one waits.
const FIRST_IN_A_ROW: u32 = 3;

/// After so many fetches of others in a row one of a query that keeps failing goes, if one waits
/// and may.
const OTHERS_IN_A_ROW: u32 = 7;

/// Who owns a query: a hash of the namespace of its definition.
pub(super) type Owner = u32;

/// A read counts as recent by this much at most: so much longer does the least recently read
/// query wait, and nothing waits for ever.
const MAX_UNREAD: Duration = Duration::from_mins(1);

/// A quarter of a second, roughly: what differs by less is alike, and goes in the order of arrival.
pub(super) type Rank = u64;

/// The order among one owner's queries: that of their starts, with the least recently read put off.
pub(super) fn rank(since: Tick, last_read: Option<Tick>) -> Rank {
    let unread = last_read.map_or(MAX_UNREAD, |read| since.since(read).min(MAX_UNREAD));
    since.after(unread).0 >> 8
}

/// One owner's, lowest rank first, and in the order of arrival within a rank.
#[derive(Default)]
struct Queue(BTreeMap<Rank, VecDeque<Place>>);

/// One query's, and what it weighs.
#[derive(Clone, Copy)]
struct Place {
    ticket: Ticket,
    id: Id,
    weight: u32,
}

/// The queries of one fetch.
struct Load {
    ids: Vec<Id>,
    /// Weight that it can still take.
    left: u32,
}

impl Load {
    fn fits(&self, weight: u32) -> bool {
        self.left > 0 && (self.ids.is_empty() || weight <= self.left)
    }
}

impl Queue {
    fn push(&mut self, rank: Rank, place: Place) {
        self.0.entry(rank).or_default().push_back(place);
    }

    /// Takes the first place whose ticket is good.
    fn pop(&mut self, good: &mut dyn FnMut(Id, Ticket) -> bool) -> Option<Id> {
        while let Some(mut first) = self.0.first_entry() {
            while let Some(Place { ticket, id, .. }) = first.get_mut().pop_front() {
                if good(id, ticket) {
                    if first.get().is_empty() {
                        first.remove();
                    }
                    return Some(id);
                }
            }
            first.remove();
        }
        None
    }

    /// Loads up to `most` queries, while the next one fits.
    fn load(
        &mut self,
        most: usize,
        load: &mut Load,
        good: &mut dyn FnMut(Id, Ticket) -> bool,
    ) -> Fit {
        let mut loaded = 0;
        while loaded < most
            && let Some(mut first) = self.0.first_entry()
        {
            let Some(&Place { ticket, id, weight }) = first.get().front() else {
                first.remove();
                continue;
            };
            if !load.fits(weight) {
                return Fit::Full;
            }
            first.get_mut().pop_front();
            if first.get().is_empty() {
                first.remove();
            }
            if good(id, ticket) {
                load.ids.push(id);
                load.left = load.left.saturating_sub(weight);
                loaded += 1;
            }
        }
        Fit::Room
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = (Id, Ticket)> {
        self.0.values().flatten().map(|place| (place.id, place.ticket))
    }
}

/// Whether a fetch can take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Room,
    Full,
}

/// Members of one batch and class, whose owners take turns.
#[derive(Default)]
struct Members {
    turns: VecDeque<Owner>,
    owners: HashMap<Owner, Queue, ahash::RandomState>,
    /// Whether the batch has a turn in the class.
    seated: bool,
}

impl Members {
    fn push(&mut self, owner: Owner, rank: Rank, place: Place) {
        let turns = &mut self.turns;
        self.owners
            .entry(owner)
            .or_insert_with(|| {
                turns.push_back(owner);
                Queue::default()
            })
            .push(rank, place);
    }

    fn take(&mut self, load: &mut Load, good: &mut dyn FnMut(Id, Ticket) -> bool) {
        let mut fit = Fit::Room;
        while fit == Fit::Room
            && load.left > 0
            && let Some(owner) = self.turns.pop_front()
        {
            let Some(queue) = self.owners.get_mut(&owner) else { continue };
            // Alone it need not wait for its next turn.
            let some = if self.turns.is_empty() { usize::MAX } else { 1 };
            fit = queue.load(some, load, good);
            match (queue.is_empty(), fit) {
                (true, _) => drop(self.owners.remove(&owner)),
                // Who did not fit is the first of the next fetch.
                (false, Fit::Full) => self.turns.push_front(owner),
                (false, Fit::Room) => self.turns.push_back(owner),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.owners.values().all(Queue::is_empty)
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Alone(Owner),
    Together(Batch),
}

/// Those of one class.
#[derive(Default)]
struct Rows {
    turns: VecDeque<Seat>,
    /// Those that go alone. An owner has a turn exactly while it is here.
    alone: HashMap<Owner, Queue, ahash::RandomState>,
}

/// Queries that wait.
#[derive(Default)]
pub(super) struct Line {
    ranks: [Rows; CLASSES.len()],
    /// Those that go together.
    batches: HashMap<Batch, [Members; CLASSES.len()], ahash::RandomState>,
    /// First reads that went since a refresh did.
    firsts: u32,
    /// Fetches since one of queries that keep failing went.
    others: u32,
    /// Places, those whose ticket is no good any more included.
    places: usize,
}

/// The queries of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) class: Class,
    pub(super) ids: Vec<Id>,
    /// Whose it is; none when several go together.
    pub(super) owner: Option<Owner>,
}

/// A query that gets in line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bid {
    pub(super) id: Id,
    pub(super) class: Class,
    /// Which others it can go with; none: it goes alone.
    pub(super) batch: Option<Batch>,
    /// What it takes of the batch's limit.
    pub(super) weight: u32,
    pub(super) owner: Owner,
    /// See [`rank`].
    pub(super) rank: Rank,
}

impl Line {
    /// Adds a query. Earlier tickets of it are to be no good from now on.
    pub(super) fn push(&mut self, bid: Bid, ticket: Ticket) {
        let Bid { id, class, batch, weight, owner, rank } = bid;
        self.places += 1;
        let place = Place { ticket, id, weight };
        let Rows { turns, alone } = &mut self.ranks[class as usize];
        if let Some(batch) = batch {
            let members = &mut self.batches.entry(batch).or_default()[class as usize];
            members.push(owner, rank, place);
            if !members.seated {
                members.seated = true;
                turns.push_back(Seat::Together(batch));
            }
        } else {
            let queue = alone.entry(owner).or_insert_with(|| {
                turns.push_back(Seat::Alone(owner));
                Queue::default()
            });
            queue.push(rank, place);
        }
    }

    /// Takes the queries of the next fetch: one, or several with one [`Batch`]. `failing`: those
    /// that keep failing may go, too. `may` says of whose queries one may go alone. `good` says which
    /// tickets count.
    pub(super) fn take(
        &mut self,
        failing: bool,
        may: &dyn Fn(Owner) -> bool,
        good: &mut dyn FnMut(Id, Ticket) -> bool,
    ) -> Option<Taken> {
        let (mut looked, good) = (0, good);
        let taken = self.next(failing, may, &mut |id, ticket| {
            looked += 1;
            good(id, ticket)
        });
        self.places -= looked;
        taken
    }

    fn next(
        &mut self,
        failing: bool,
        may: &dyn Fn(Owner) -> bool,
        good: &mut dyn FnMut(Id, Ticket) -> bool,
    ) -> Option<Taken> {
        let mut order = CLASSES;
        if self.firsts >= FIRST_IN_A_ROW {
            order.swap(Class::First as usize, Class::Regular as usize);
        }
        if self.others >= OTHERS_IN_A_ROW {
            order.rotate_right(1);
        }
        for class in order {
            if class == Class::Failing && !failing {
                continue;
            }
            // Whoever may not go now keeps the turn.
            let mut passed = Vec::new();
            let mut taken = None;
            while taken.is_none()
                && let Some(seat) = self.ranks[class as usize].turns.pop_front()
            {
                let (ids, owner) = match seat {
                    Seat::Alone(owner) if !may(owner) => {
                        passed.push(seat);
                        continue;
                    }
                    Seat::Alone(owner) => (self.take_alone(class, owner, good), Some(owner)),
                    Seat::Together(batch) => (self.take_batch(class, batch, good), None),
                };
                taken = (!ids.is_empty()).then_some(Taken { class, ids, owner });
            }
            for seat in passed.into_iter().rev() {
                self.ranks[class as usize].turns.push_front(seat);
            }
            if taken.is_some() {
                self.others = if class == Class::Failing { 0 } else { self.others + 1 };
                self.firsts = if class == Class::First { self.firsts + 1 } else { 0 };
                return taken;
            }
        }
        None
    }

    /// How many places there are, those included whose ticket is no good any more.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Every query that waits; some of the tickets may be no good any more.
    pub(super) fn all(&self) -> impl Iterator<Item = (Id, Ticket)> {
        let alone = self.ranks.iter().flat_map(|rank| rank.alone.values());
        let together = self.batches.values().flatten().flat_map(|members| members.owners.values());
        alone.chain(together).flat_map(Queue::all)
    }

    fn take_alone(
        &mut self,
        class: Class,
        owner: Owner,
        good: &mut dyn FnMut(Id, Ticket) -> bool,
    ) -> Vec<Id> {
        let Rows { turns, alone } = &mut self.ranks[class as usize];
        let Some(queue) = alone.get_mut(&owner) else { return Vec::new() };
        let id = queue.pop(good);
        if queue.is_empty() {
            alone.remove(&owner);
        } else {
            turns.push_back(Seat::Alone(owner));
        }
        id.into_iter().collect()
    }

    fn take_batch(
        &mut self,
        class: Class,
        batch: Batch,
        good: &mut dyn FnMut(Id, Ticket) -> bool,
    ) -> Vec<Id> {
        let Some(members) = self.batches.get_mut(&batch) else { return Vec::new() };
        let limit = u32::try_from(batch.limit).unwrap_or(u32::MAX).max(1);
        let mut load = Load { ids: Vec::new(), left: limit };
        members[class as usize].take(&mut load, good);
        if class == Class::First && !load.ids.is_empty() {
            members[Class::Regular as usize].take(&mut load, good);
        }
        let own = &mut members[class as usize];
        own.seated = !own.is_empty();
        if own.seated {
            self.ranks[class as usize].turns.push_back(Seat::Together(batch));
        } else if members.iter().all(|members| !members.seated && members.is_empty()) {
            self.batches.remove(&batch);
        }
        load.ids
    }
}

#[cfg(test)]
mod tests;
