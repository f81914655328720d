use std::path::Path;

use crate::rules::RuleFile;
use crate::rules::testing::{Cluster, json, parse, recorded, registry};

fn problems(text: &str) -> Vec<String> {
    match RuleFile::parse(Path::new("r.yaml"), text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// Files whose only mistake is a resource that the cluster does not have: here that is the rule's
/// own problem, told when the cluster is known.
const NEED_THE_CLUSTER: [&str; 3] = ["S-029", "S-032", "S-048"];

#[test]
fn files_are_accepted_and_refused_as_by_the_original() {
    let cases = json("cases/startup.json");
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 43);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let path = recorded(case["config"].as_str().unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        let verdict = RuleFile::parse(&path, &text);
        if NEED_THE_CLUSTER.contains(&id) {
            let registry = registry(&verdict.unwrap(), &Cluster::new(), |_| Some([].into()));
            let [problem] = registry.problems() else { panic!("{id}") };
            assert!(problem.message.contains("the cluster has no resource"), "{id}: {problem:?}");
            continue;
        }
        assert_eq!(verdict.is_err(), case["exits"], "{id}: {verdict:?}");
        for problem in verdict.err().into_iter().flatten() {
            assert!(problem.line > 0 && problem.column > 0, "{id}: {problem}");
        }
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = r#"
rules:
- seriesQuery: [x]
  seriesFilters: [{is: a, isNot: b}, {}, {is: "a(?!b)"}]
  name: {matches: "^(a)(b)$"}
  resources:
    template: pod
    namespaced: "false"
    overrides: {pod: {resources: pod}, x: {}, y: {resource: deployments.apps}}
  metricQuery: x
  metricsQuery: 'x << end >>'
externalRules: {a: b}
resourceRules: {window: 5, cpu: {nodeQuery: '<<'}}
Rules: []
rules: []
"#;
    let found = problems(text);
    for (at, expected) in [
        "r.yaml:3:16: rules[0].seriesQuery: text is expected here, not a list",
        "r.yaml:4:19: rules[0].seriesFilters[0]: a filter has either `is` (\"a\") or `isNot` (\"b\"), not both",
        "r.yaml:4:38: rules[0].seriesFilters[1]: a filter needs either `is` or `isNot`",
        "r.yaml:4:47: rules[0].seriesFilters[2].is: ",
        "r.yaml:5:9: rules[0].name: \"^(a)(b)$\" has 2 groups, so `as` has to say",
        "r.yaml:7:15: rules[0].resources.template: the template \"pod\" must include at least <<.Resource>>",
        "r.yaml:8:17: rules[0].resources.namespaced: true or false, without quotes, is expected here",
        "r.yaml:9:17: rules[0].resources.overrides.pod.resource: a resource must be named",
        "r.yaml:9:23: rules[0].resources.overrides.pod.resources: unknown field; did you mean resource?",
        "r.yaml:9:40: rules[0].resources.overrides.x.resource: a resource must be named",
        "r.yaml:9:61: rules[0].resources.overrides.y.resource: \"deployments.apps\" cannot be a resource",
        "r.yaml:10:3: rules[0].metricQuery: unknown field; did you mean metricsQuery?",
        "r.yaml:11:17: rules[0].metricsQuery: ",
        "r.yaml:12:16: externalRules: a list is expected here, not a mapping",
        "r.yaml:13:25: resourceRules.window: \"5\" is no duration",
        "r.yaml:13:45: resourceRules.cpu.nodeQuery: ",
        "r.yaml:14:1: Rules: unknown field; did you mean rules?",
        "r.yaml:15:1: rules: this key is written twice, first in line 2",
    ]
    .into_iter()
    .enumerate()
    {
        let line = found.get(at).map_or("", String::as_str);
        assert!(line.starts_with(expected), "{expected}\n{line}\n{found:#?}");
    }
    assert_eq!(found.len(), 18, "{found:#?}");
    assert_eq!(problems("rules: ["), ["r.yaml:1:8: not valid YAML: unclosed bracket '['"]);
    assert!(problems("- a")[0].starts_with("r.yaml:1:1: a mapping is expected here, not a list"));
}

#[test]
fn yaml_forms_are_those_of_the_original() {
    let file = parse("");
    assert!(file.custom.is_empty() && file.external.is_empty() && file.resource_rules.is_none());
    let file = parse(
        "rules:\n- &base {seriesQuery: q, name: {as: 1e3}, resources: {overrides: {pod: {resource: pod}}}}\n\
         - <<: *base\n  name: {as: ~}\n- ~\n- metricsQuery: a\n  <<: [*base, {metricsQuery: b}]\n",
    );
    let names: Vec<_> = file.custom.iter().map(|rule| rule.metric_name("s").unwrap()).collect();
    assert_eq!(names, ["1e3", "s", "s", "1e3"]);
    let queries: Vec<&str> = file.custom.iter().map(|rule| &**rule.series_query()).collect();
    assert_eq!(queries, ["q", "q", "", "q"]);
    // What stands later wins, also over what was written out.
    assert_eq!(&**file.custom[3].metrics_query(), "b");
    let lines: Vec<usize> = file.custom.iter().map(|rule| rule.place().line).collect();
    assert_eq!(lines, [2, 3, 5, 6]);
    assert_eq!(&*file.custom[3].place().field, "rules[3]");
    let of_resources = parse("resourceRules: {window: ~}").resource_rules.unwrap();
    assert_eq!((of_resources.line, &*of_resources.field), (1, "resourceRules"));
    assert_eq!(
        problems(
            "rules:\n- resources:\n    overrides: {a: {resource: pod}, a: {resource: node}}\n"
        ),
        [
            "r.yaml:3:37: rules[0].resources.overrides.a: this label is written twice, first in line 3"
        ]
    );
}

#[test]
fn a_file_full_of_mistakes_is_reported_in_part() {
    let text = format!("rules:\n{}", "- x: 1\n".repeat(500));
    assert_eq!(problems(&text).len(), 100);
}

proptest::proptest! {
    /// Whatever stands in a file: it is taken, or there is a reason with a place.
    #[test]
    fn no_file_panics_and_every_refusal_has_a_reason(
        key in "(rules|externalRules|resourceRules|other)",
        rules in proptest::collection::vec(
            "(seriesQuery: ('up'|'\\{a=\"b\"\\}'|'\\{'|5), )?(seriesFilters: \\[\\{(is|isNot|isnt): '(a|\\(|\\^x\\$)'\\}\\], )?(resources: \\{(template: '(<<[.]Resource>>|<<[.]X>>|<<)'|overrides: \\{pod: \\{resource: (pod|5)\\}\\}|namespaced: (false|x))\\}, )?(name: \\{(matches: '\\^([.]\\*)_total'|matches: '\\('|as: '\\$\\{1\\}x')\\}, )?metricsQuery: ('sum\\(<<[.]Series>>\\{<<[.]LabelMatchers>>\\}\\) by \\(<<[.]GroupBy>>\\)'|'<<[.]Nope>>'|'<<'|\\[\\]|)",
            0..4,
        ),
    ) {
        let items: Vec<String> = rules.iter().map(|rule| format!("- {{ {rule} }}\n")).collect();
        let text = format!("{key}:\n{}", items.concat());
        if let Err(problems) = RuleFile::parse(Path::new("r.yaml"), &text) {
            proptest::prop_assert!(!problems.is_empty(), "{}", text);
            proptest::prop_assert!(problems.iter().all(|problem| !problem.message.is_empty()), "{:?}", problems);
        }
    }
}
