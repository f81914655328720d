//! Label sets of metric series.

use std::fmt;
use std::sync::Arc;

/// An immutable label set, sorted by key, cheap to clone and to share between threads.
///
/// There are two ways to have no labels: a series without any ([`Labels::empty`]), and a number that
/// is no series and cannot have any ([`Labels::absent`]). On the wire they are `{}` and `null`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Option<Arc<[Label]>>);

/// Key and value.
type Label = (Arc<str>, Arc<str>);

impl Labels {
    /// A label set from pairs. Of two pairs with one key the later wins.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut all: Vec<Label> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        // Stable sort: equal keys keep their order, so that the later one can win below.
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.reverse();
        all.dedup_by(|a, b| a.0 == b.0);
        all.reverse();
        Self(Some(all.into()))
    }

    /// The labels of a series that has none.
    #[must_use]
    pub fn empty() -> Self {
        Self(Some(Arc::default()))
    }

    /// The labels of what is no series: a scalar of Prometheus.
    #[must_use]
    pub fn absent() -> Self {
        Self(None)
    }

    /// Whether there is no series that could have labels.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.0.is_none()
    }

    fn all(&self) -> &[Label] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let all = self.all();
        all.binary_search_by(|(k, _)| (**k).cmp(key)).ok().map(|i| &*all[i].1)
    }

    /// All labels in key order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.all().iter().map(|(k, v)| (&**k, &**v))
    }

    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// These labels with `winners` laid over them: a key in both takes the winner's value.
    #[must_use]
    pub fn overlaid(&self, winners: &Self) -> Self {
        if winners.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return winners.clone();
        }
        // Both are sorted already.
        let mut merged = Vec::with_capacity(self.len() + winners.len());
        let (mut ours, mut theirs) =
            (self.all().iter().peekable(), winners.all().iter().peekable());
        while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
            let order = our.0.cmp(&their.0);
            if order.is_eq() {
                ours.next();
            }
            let next = if order.is_lt() { ours.next() } else { theirs.next() };
            merged.extend(next.cloned());
        }
        merged.extend(ours.chain(theirs).cloned());
        Self(Some(merged.into()))
    }

    /// The keys that both sets have with different values.
    pub fn clashes<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.iter().filter_map(|(k, v)| (other.get(k)? != v).then_some(k))
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (k, v)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{k}={v}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_equal_keys_wins() {
        let labels = Labels::new([("b", "1"), ("a", "x"), ("b", "2")]);
        assert_eq!(labels.to_string(), "{a=x,b=2}");
        assert_eq!(labels.get("b"), Some("2"));
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn a_number_without_a_series_has_no_labels_until_it_is_given_some() {
        let (absent, empty) = (Labels::absent(), Labels::empty());
        assert!(absent.is_absent() && absent.is_empty() && !empty.is_absent() && empty.is_empty());
        assert_eq!((absent.get("a"), absent.len(), absent.iter().len()), (None, 0, 0));
        assert!(absent.overlaid(&empty).is_absent());
        assert_eq!(absent.overlaid(&Labels::new([("a", "b")])).to_string(), "{a=b}");
    }

    #[test]
    fn overlaid_labels_win() {
        let own = Labels::new([("queue", "jobs"), ("zone", "a")]);
        let constant = Labels::new([("queue", "mail")]);
        assert_eq!(own.overlaid(&constant).to_string(), "{queue=mail,zone=a}");
        assert_eq!(own.clashes(&constant).collect::<Vec<_>>(), ["queue"]);
        let around = Labels::new([("a", "1"), ("queue", "mail"), ("zz", "2")]);
        assert_eq!(own.overlaid(&around).to_string(), "{a=1,queue=mail,zone=a,zz=2}");
        assert_eq!(around.overlaid(&own).to_string(), "{a=1,queue=jobs,zone=a,zz=2}");
    }
}
