//! When changes are put into use: soon, but together with those that come with them.

use std::time::Duration;

use tokio::time::Instant;

use super::store::Touched;

/// A burst is over when nothing has come for this long: `kubectl apply` of a folder writes a
/// resource every few milliseconds.
const QUIET: Duration = Duration::from_millis(20);

/// But nobody waits for longer than this: a fifth of what a change may take.
const AT_MOST: Duration = Duration::from_millis(100);

/// What changes no definition is put on the board no more often than this.
const BOARD_ONLY: Duration = Duration::from_secs(1);

/// Our own statuses, told back to us, no more often than this: the board is made whole each time, and
/// eight values are written every second. Whoever takes the lease over knows them by then: it lasts
/// twice as long.
const ECHO: Duration = Duration::from_secs(5);

/// Putting changes into use takes a third of one thread at most, however many come: after some, the
/// next ones wait for this many times as long as those took. A change that comes alone does not.
const REST_TIMES: u32 = 2;

/// But not for longer than this: a change is to be in use half a second after it was made.
const REST_AT_MOST: Duration = Duration::from_millis(200);

/// What waits, and since when.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the first and the last change came that touch definitions.
    definitions: Option<(Instant, Instant)>,
    /// When the first came that touches the board alone.
    board: Option<Instant>,
    /// When the first status came that takes the place of another.
    echo: Option<Instant>,
    /// Nothing is put into use before.
    rested: Option<Instant>,
}

impl Pace {
    pub(super) fn note(&mut self, touched: Touched, now: Instant) {
        match touched {
            Touched::Nothing => {}
            Touched::Echo => {
                self.echo.get_or_insert(now);
            }
            Touched::Board => {
                self.board.get_or_insert(now);
            }
            Touched::Definitions => {
                self.definitions.get_or_insert((now, now)).1 = now;
            }
        }
    }

    /// Whether anything waits.
    pub(super) fn is_due(&self) -> bool {
        self.definitions.is_some() || self.board.is_some() || self.echo.is_some()
    }

    /// When it is to be put into use.
    pub(super) fn due(&self) -> Instant {
        let definitions = self.definitions.map(|(first, last)| (first + AT_MOST).min(last + QUIET));
        let board = self.board.map(|first| first + BOARD_ONLY);
        let echo = self.echo.map(|first| first + ECHO);
        let never = || Instant::now() + ECHO;
        let due = [definitions, board, echo].into_iter().flatten().min().unwrap_or_else(never);
        self.rested.map_or(due, |rested| due.max(rested))
    }

    /// All of it is in use, since `now` and after so long.
    pub(super) fn done(&mut self, took: Duration, now: Instant) {
        let rest = (took * REST_TIMES).min(REST_AT_MOST);
        *self = Self { rested: Some(now + rest), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_change_waits_for_those_that_come_with_it_and_not_for_ever() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        assert!(!pace.is_due());
        pace.note(Touched::Nothing, begin);
        assert!(!pace.is_due());
        pace.note(Touched::Definitions, begin);
        assert_eq!(pace.due() - begin, millis(20));
        for at in (10..=90).step_by(10) {
            pace.note(Touched::Definitions, begin + millis(at));
            assert_eq!(pace.due() - begin, millis(100).min(millis(at + 20)));
        }
        pace.done(Duration::ZERO, begin + millis(100));
        assert!(!pace.is_due());
    }

    #[test]
    fn a_status_waits_unless_a_definition_takes_it_along() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        pace.note(Touched::Echo, begin);
        assert!(pace.is_due());
        assert_eq!(pace.due() - begin, millis(5000));
        pace.note(Touched::Board, begin);
        pace.note(Touched::Board, begin + millis(900));
        assert_eq!(pace.due() - begin, millis(1000));
        pace.note(Touched::Definitions, begin + millis(910));
        assert_eq!(pace.due() - begin, millis(930));
    }

    #[test]
    fn large_catalogs_are_changed_less_often() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        pace.done(millis(80), begin);
        pace.note(Touched::Definitions, begin + millis(10));
        assert_eq!(pace.due() - begin, millis(160));
        pace.note(Touched::Definitions, begin + millis(150));
        assert_eq!(pace.due() - begin, millis(160));
        pace.done(millis(3000), begin);
        pace.note(Touched::Definitions, begin);
        assert_eq!(pace.due() - begin, millis(200));
        // One that comes later waits for no rest.
        pace.done(millis(3000), begin);
        pace.note(Touched::Definitions, begin + millis(1000));
        assert_eq!(pace.due() - begin, millis(1020));
    }
}
