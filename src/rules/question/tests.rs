use std::sync::Arc;

use super::*;
use crate::rules::testing::parse;

fn rule(template: &str) -> Arc<Rule> {
    let template = template.replace('\'', "''");
    let file = parse(&format!("rules: [{{seriesQuery: q, metricsQuery: '{template}'}}]"));
    Arc::clone(&file.custom[0])
}

/// The query of a template about objects whose resource has the label `resource`, in a namespace
/// whose label is `namespaces`.
fn custom(
    template: &str,
    (namespace, names): (&str, &[&str]),
    extra: &[&str],
    selector: &str,
) -> String {
    let mut matchers = Matchers::of(&Selector::parse(selector).unwrap()).unwrap();
    if !namespace.is_empty() {
        matchers.push("namespaces", "=", namespace.to_owned());
    }
    matchers.push_names("resource", names);
    let group_by: Vec<&str> = ["resource"].into_iter().chain(extra.iter().copied()).collect();
    render(&rule(template), "foo", matchers, &group_by).unwrap()
}

#[test]
fn custom_queries_are_the_originals() {
    let (bar, two) = (("", &["bar"][..]), ("", &["bar", "baz"][..]));
    for (template, of, extra, selector, text) in [
        ("series <<.Series>>", bar, &[][..], "", "series foo"),
        ("<<.LabelMatchers>>", two, &[], "", r#"resource=~"bar|baz""#),
        ("<<.LabelMatchers>>", bar, &[], "", r#"resource="bar""#),
        ("<<.LabelMatchers>>", bar, &[], "metric1=value1", r#"metric1="value1",resource="bar""#),
        (r#"<<index .LabelValuesByName "resource">>"#, bar, &[], "", "bar"),
        (r#"<<index .LabelValuesByName "resource">>"#, two, &[], "", "bar|baz"),
        (
            r#"<<index .LabelValuesByName "namespaces">> <<index .LabelValuesByName "resource">>"#,
            ("default", &["bar", "baz"]),
            &[],
            "",
            "default bar|baz",
        ),
        ("<<.GroupBy>>", bar, &[], "", "resource"),
        ("<<.GroupBy>>", bar, &["extra", "groups"], "", "resource,extra,groups"),
        ("<<.GroupBySlice>>", bar, &[], "", "[resource]"),
        ("<<.GroupBySlice>>", bar, &["extra", "groups"], "", "[resource extra groups]"),
    ] {
        assert_eq!(custom(template, of, extra, selector), text, "{template}");
    }
}

#[test]
fn external_queries_are_the_originals() {
    let values = r#"<<index .LabelValuesByName "namespaces">> <<.GroupBySlice>>"#;
    for (template, namespace, group_by, selector, text) in [
        ("series <<.Series>>", "", &["foo"][..], "", "series foo"),
        ("<<.GroupBy>>", "", &["foo"], "", "foo"),
        ("<<.GroupBySlice>>", "", &["foo", "bar"], "", "[foo bar]"),
        (values, "default", &["foo", "bar"], "", "default [foo bar]"),
        (values, "", &["foo", "bar"], "", " [foo bar]"),
        ("<<.LabelMatchers>>", "", &[], "foo=bar", r#"foo="bar""#),
        ("<<.LabelMatchers>>", "default", &[], "foo=bar", r#"foo="bar",namespaces="default""#),
        ("<<.LabelMatchers>>", "", &[], "qux in (baz,bar),foo=bar", r#"foo="bar",qux=~"bar|baz""#),
        ("<<.LabelValuesByName>>", "", &[], "foo=bar", "map[foo:bar]"),
        ("<<.LabelValuesByName>>", "", &[], "foo in (bar,baz)", "map[foo:bar|baz]"),
    ] {
        let mut matchers = Matchers::of(&Selector::parse(selector).unwrap()).unwrap();
        if !namespace.is_empty() {
            matchers.push("namespaces", "=", namespace.to_owned());
        }
        assert_eq!(render(&rule(template), "foo", matchers, group_by).as_deref(), Ok(text));
    }
}

#[test]
fn operators_become_matchers() {
    for (selector, matchers) in [
        ("a=b", r#"a="b""#),
        ("a==b", r#"a="b""#),
        ("a!=b", r#"a!="b""#),
        ("a in (b)", r#"a=~"b""#),
        ("a in (c,b,c)", r#"a=~"b|c""#),
        ("a in ()", r#"a=~"""#),
        ("a notin (b)", r#"a!~"b""#),
        ("a notin (c,b)", r#"a!~"b|c""#),
        ("a", r#"a!="""#),
        ("!a", r#"a="""#),
        ("z=1,a.b/c in (x.y)", r#"a.b/c=~"x.y",z="1""#),
    ] {
        let list = Matchers::of(&Selector::parse(selector).unwrap()).unwrap().list;
        assert_eq!(list.join(","), matchers);
    }
    assert!(Matchers::of(&Selector::parse("a<1").unwrap()).is_err());
}

#[test]
fn values_are_quoted_as_in_go() {
    for (text, written) in [
        ("a-b.c", r#""a-b.c""#),
        ("a\"b\\c", r#""a\"b\\c""#),
        ("\n\t\r\x07\x08\x0b\x0c\0\x7f", r#""\n\t\r\a\b\v\f\x00\x7f""#),
        ("é☃😀", "\"é☃😀\""),
        ("\u{a0}\u{200b}\u{10ffff}", r#""\u00a0\u200b\U0010ffff""#),
    ] {
        assert_eq!(quoted(text), written);
    }
}

fn text(template: &str) -> Result<RuleText, String> {
    RuleText::new(&rule(template), &"s".into(), Matchers::default(), &"pod".into())
}

#[test]
fn a_template_that_looks_at_names_is_not_divided() {
    let divides = |template: &str| text(template).unwrap().is_divisible();
    assert!(divides("sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)"));
    // Asked by a pattern also for one name: refused, though it could be divided.
    assert!(!divides(r#"sum(s{pod=~"<<index .LabelValuesByName "pod">>"}) by (pod)"#));
    assert!(!divides(r#"sum(s{pod="<<index .LabelValuesByName "pod">>"}) by (pod)"#));
    assert!(!divides(
        r#"sum(s{<<.LabelMatchers>>,q="<<index .LabelValuesByName "pod">>"}) by (pod)"#
    ));
    assert!(!divides(
        r#"<<if eq (index .LabelValuesByName "pod") ".+">>s{<<.LabelMatchers>>}<<else>>t{<<.LabelMatchers>>}<<end>>"#
    ));
}

#[test]
fn texts_that_cannot_be_written_say_why() {
    assert_eq!(
        text("<<if false>>x<<end>>").unwrap_err(),
        "metricsQuery of rules[0] gives an empty query"
    );
    assert!(
        text("<<.Nothing>>")
            .unwrap_err()
            .starts_with("metricsQuery of rules[0] cannot be executed: ")
    );
    // Only for more than one name.
    let picky = text(r#"<<if eq (index .LabelValuesByName "pod") "name">>x<<end>>"#).unwrap();
    let error = picky.write(Some(&["a".into(), "b".into()])).unwrap_err();
    assert_eq!(error, FetchError::Invalid("metricsQuery of rules[0] gives an empty query".into()));
}
