//! Which of the Events that wait is published next, and which is dropped: without calls.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{About, News};

/// Namespaces that are remembered: more than wait at once.
const MAX_NAMESPACES: usize = 1024;

/// When each namespace had its last turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last: HashMap<Box<str>, u64>,
    turn: u64,
}

impl Turns {
    /// Takes the next one: of a metric before those of HPAs, of which there may be a hundred for one;
    /// a warning before what is merely so; of the namespace whose turn is longest ago, so that a crowd
    /// in one holds up nobody in another.
    pub(super) fn take_next(&mut self, waiting: &mut VecDeque<News>) -> Option<News> {
        let order = |(index, news): &(usize, &News)| {
            let last = self.last.get(namespace(news)).copied().unwrap_or_default();
            (is_of_hpa(news), !news.warning, last, *index)
        };
        let (index, _) = waiting.iter().enumerate().min_by_key(order)?;
        let news = waiting.remove(index)?;
        if self.last.len() >= MAX_NAMESPACES {
            let left: HashSet<_> = waiting.iter().map(namespace).collect();
            self.last.retain(|namespace, _| left.contains(&**namespace));
        }
        self.turn += 1;
        self.last.insert(namespace(&news).into(), self.turn);
        Some(news)
    }
}

/// Drops one where there are too many: of HPAs if there are any, of the namespace that has the most,
/// what is merely so before a warning, and of these the oldest.
pub(super) fn drop_one(waiting: &mut VecDeque<News>) {
    let mut sizes: HashMap<(bool, &str), usize> = HashMap::new();
    for news in &*waiting {
        *sizes.entry((is_of_hpa(news), namespace(news))).or_default() += 1;
    }
    let order = |(index, news): &(usize, &News)| {
        let size = sizes.get(&(is_of_hpa(news), namespace(news))).copied().unwrap_or_default();
        (!is_of_hpa(news), std::cmp::Reverse(size), news.warning, *index)
    };
    let first = waiting.iter().enumerate().min_by_key(order).map(|(index, _)| index);
    if let Some(index) = first {
        waiting.remove(index);
    }
}

fn is_of_hpa(news: &News) -> bool {
    matches!(news.about, About::Hpa(_))
}

/// Whose turn it takes: that of no name for what belongs to no namespace.
fn namespace(news: &News) -> &str {
    match &news.about {
        About::Metric(id, _) => id.namespace.as_deref().unwrap_or_default(),
        About::Hpa(hpa) => &hpa.namespace,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::events::Hpa;
    use crate::model::{DefinitionId, DefinitionKind};

    fn hpa(namespace: &str, name: &str) -> About {
        About::Hpa(Hpa { namespace: namespace.into(), name: name.into() })
    }

    fn metric(name: &str) -> About {
        let kind = DefinitionKind::ClusterExternalMetric;
        About::Metric(
            Arc::new(DefinitionId { kind, namespace: None, name: name.into() }),
            name.into(),
        )
    }

    fn news(about: About, warning: bool) -> News {
        News { about, warning, reason: "Denied", note: String::new(), related: None }
    }

    fn order(waiting: &mut VecDeque<News>) -> Vec<About> {
        let mut turns = Turns::default();
        std::iter::from_fn(|| turns.take_next(waiting)).map(|news| news.about).collect()
    }

    #[test]
    fn metrics_come_before_hpas() {
        let abouts =
            [hpa("shop", "a"), metric("b"), hpa("shop", "c"), metric("d"), hpa("shop", "e")];
        let mut waiting: VecDeque<News> = abouts.clone().map(|about| news(about, true)).into();
        drop_one(&mut waiting);
        let [_, b, c, d, e] = abouts;
        assert_eq!(order(&mut waiting), [b.clone(), d, c, e]);
        let mut metrics: VecDeque<News> = [b.clone(), b].map(|about| news(about, true)).into();
        drop_one(&mut metrics);
        assert_eq!(metrics.len(), 1);
    }

    #[test]
    fn a_crowd_in_one_namespace_holds_up_no_other() {
        let crowd = (0..200).map(|i| news(hpa("crowd", &format!("h{i}")), true));
        let mut waiting: VecDeque<News> = crowd.collect();
        waiting.push_back(news(hpa("shop", "x"), true));
        waiting.push_back(news(hpa("shop", "y"), true));
        drop_one(&mut waiting);
        assert_eq!(waiting.len(), 201);
        let order = order(&mut waiting);
        assert_eq!(
            order[..4],
            [hpa("crowd", "h1"), hpa("shop", "x"), hpa("crowd", "h2"), hpa("shop", "y")]
        );
        assert_eq!(order.len(), 201, "the oldest of the crowd was dropped");
    }

    #[test]
    fn warnings_come_before_what_is_merely_so() {
        let mut waiting: VecDeque<News> =
            [news(metric("idle"), false), news(metric("gone"), true)].into();
        assert_eq!(order(&mut waiting.clone()), [metric("gone"), metric("idle")]);
        drop_one(&mut waiting);
        assert_eq!(order(&mut waiting), [metric("gone")]);
    }

    #[test]
    fn namespaces_are_remembered_within_a_bound() {
        let mut turns = Turns::default();
        for number in 0..5000 {
            let mut waiting = VecDeque::from([news(hpa(&format!("n{number}"), "x"), true)]);
            assert!(turns.take_next(&mut waiting).is_some());
        }
        assert!(turns.last.len() <= MAX_NAMESPACES);
    }
}
