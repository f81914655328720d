//! Which cells answer for a definition.

use std::sync::Arc;

use crate::cache::QueryCell;
use crate::catalog::Served;
use crate::model::query::NAMESPACE_PLACEHOLDER;
use crate::model::{Query, QuerySpec, QueryTemplate};

/// A cell of a definition.
#[derive(Clone, Debug)]
pub struct CellOf {
    /// The namespace that its query was completed with; none where it is the same for all.
    pub namespace: Option<Arc<str>>,
    /// The cell.
    pub cell: Arc<QueryCell>,
}

/// The cells that answer for a definition: its own, or those of `on_demand` that reads and
/// announcements have completed its query with. Costs a look at each of `on_demand` where there is
/// none of its own.
#[must_use]
pub fn cells_of(served: &Served, on_demand: &[Arc<QueryCell>]) -> Vec<CellOf> {
    if let Some(cell) = &served.cell {
        return vec![CellOf { namespace: None, cell: Arc::clone(cell) }];
    }
    let mine = |cell: &Arc<QueryCell>| {
        let namespace = match place_of(served, cell.query()) {
            Place::None => return None,
            Place::All => None,
            Place::Namespace(namespace) => Some(namespace),
        };
        Some(CellOf { namespace, cell: Arc::clone(cell) })
    };
    on_demand.iter().filter_map(mine).collect()
}

/// Where a query belongs.
enum Place {
    /// It does not complete the definition's.
    None,
    /// It does, for all namespaces.
    All,
    /// It does, for this one.
    Namespace(Arc<str>),
}

fn place_of(served: &Served, query: &Query) -> Place {
    match (&served.entry.query, &served.entry.objects) {
        (QueryTemplate::Fixed(_), _) | (QueryTemplate::PerObjects(_), None) => Place::None,
        (template @ QueryTemplate::PerNamespace { .. }, _) => {
            let namespace = namespace_of(template, query);
            namespace.map_or(Place::None, |namespace| Place::Namespace(namespace.into()))
        }
        (QueryTemplate::PerObjects(template), Some(of)) => match template.namespace_of(of, query) {
            None => Place::None,
            Some(namespace) if namespace.is_empty() => Place::All,
            Some(namespace) => Place::Namespace(namespace),
        },
    }
}

/// The namespace for which `template` gives exactly `query`, if there is one. The placeholder's
/// text is cut out of the query by the parts around it and checked by resolving again.
fn namespace_of(template: &QueryTemplate, query: &Query) -> Option<String> {
    let QueryTemplate::PerNamespace { query: text, .. } = template else { return None };
    let QuerySpec::Prometheus(asked) = &query.spec else { return None };
    let (before, _) = text.split_once(NAMESPACE_PLACEHOLDER)?;
    // Most queries are of others.
    if !asked.query.starts_with(before) {
        return None;
    }
    let places = text.matches(NAMESPACE_PLACEHOLDER).count();
    let fixed = text.len() - places * NAMESPACE_PLACEHOLDER.len();
    // Every place holds the same text, so its length follows from the lengths of the two.
    let length = asked.query.len().checked_sub(fixed)? / places;
    let namespace = asked.query.get(before.len()..before.len() + length)?;
    (*template.resolve(namespace)? == *query).then(|| namespace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AnswerShape, SourceName};

    fn template(text: &str) -> QueryTemplate {
        QueryTemplate::PerNamespace {
            source: SourceName::new("main"),
            query: text.into(),
            lookback_delta: None,
            shape: AnswerShape::Items,
        }
    }

    #[test]
    fn a_resolved_query_gives_its_namespace_back() {
        let two = template("a{ns=\"$namespace\"} / b{ns=\"$namespace\"}");
        assert_eq!(namespace_of(&two, &two.resolve("team-a").unwrap()).as_deref(), Some("team-a"));
        let other = template("c{ns=\"$namespace\"}");
        assert_eq!(namespace_of(&two, &other.resolve("team-a").unwrap()), None);
        let longer = template("a{ns=\"$namespace\"} / c{ns=\"$namespace\"}");
        assert_eq!(namespace_of(&two, &longer.resolve("team-a").unwrap()), None);
    }
}
