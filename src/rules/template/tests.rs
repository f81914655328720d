use proptest::prelude::*;

use super::*;

fn fields() -> Fields {
    let text = |text: &str| Value::String(text.to_owned());
    let pairs = [("namespace", "prod"), ("pod", "a|b"), ("svc", "")];
    BTreeMap::from([
        ("Series", text("http_requests_total")),
        ("LabelMatchers", text(r#"namespace="prod",pod=~"a|b""#)),
        (
            "LabelValuesByName",
            Value::Map(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ),
        ("GroupBy", text("namespace,pod")),
        ("GroupBySlice", Value::Slice(vec!["namespace".to_owned(), "pod".to_owned()])),
        ("N", Value::Int(7)),
        ("F", Value::Float(2.5)),
        ("B", Value::Bool(true)),
        ("Nil", Value::Nil),
    ])
}

fn run(template: &str) -> Result<String, ExecuteError> {
    Template::parse(template).unwrap_or_else(|e| panic!("{template}: {e}")).execute(&fields())
}

/// What Go's `text/template` (go1.26) writes for these.
fn check_outputs(table: &[(&str, &str)]) {
    for (template, expected) in table {
        let output = run(template).unwrap_or_else(|e| panic!("{template}: {e}"));
        assert_eq!(output, *expected, "{template}");
    }
}

#[test]
fn queries() {
    check_outputs(&[
        ("", ""),
        ("up > 1 < 2 {{x}} $1", "up > 1 < 2 {{x}} $1"),
        (
            "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
            r#"sum(http_requests_total{namespace="prod",pod=~"a|b"}) by (namespace,pod)"#,
        ),
        (
            r#"<<index .LabelValuesByName "pod">>|<<index .LabelValuesByName "no">>|<<.LabelValuesByName.no>>"#,
            "a|b||<no value>",
        ),
        ("<<.LabelValuesByName.no.x>>", "<no value>"),
        (
            r#"<< range $k, $v := .LabelValuesByName >><< if ne $k "namespace" >><< $k >>="<< $v >>",<< end >><< end >>"#,
            r#"pod="a|b",svc="","#,
        ),
        (
            "<<.GroupBySlice>> <<.LabelValuesByName>>",
            "[namespace pod] map[namespace:prod pod:a|b svc:]",
        ),
        ("<<.Nil>> <<print .Nil>>", "<no value> <nil>"),
        ("<<.F>> <<.N>> <<.B>>", "2.5 7 true"),
        ("<<$.Series>><<with .N>><<.>><<$.GroupBy>><<end>>", "http_requests_total7namespace,pod"),
        ("<<$é := 1>><<$é>>", "1"),
    ]);
}

#[test]
fn control() {
    check_outputs(&[
        ("<<range .GroupBySlice>><<.>>,<<else>>none<<end>>", "namespace,pod,"),
        ("<<range $i, $e := .GroupBySlice>><<if $i>>,<<end>><<$e>><<end>>", "namespace,pod"),
        (
            "<<range $i, $e := .GroupBySlice>><<if eq $i 1>><<break>><<end>><<$e>><<end>>",
            "namespace",
        ),
        ("<<range .GroupBySlice>><<if eq . \"namespace\">><<continue>><<end>><<.>><<end>>", "pod"),
        (
            "<<range .GroupBySlice>>(<<range slice $.GroupBySlice 2>>x<<else>><<break>><<end>>)<<end>>",
            "()()",
        ),
        (
            "<<range .GroupBySlice>>(<<range slice $.GroupBySlice 2>>x<<else>><<continue>><<end>>)<<end>>",
            "((",
        ),
        ("<<range 3>><<.>><<end>> <<range $i := 2>><<$i>><<end>>", "012 01"),
        ("<<range .LabelValuesByName.no>>x<<else>>y<<end>>", "y"),
        ("<<range $x := slice .GroupBySlice 2>>a<<else>><<$x>><<end>>", "[]"),
        ("<<$k := 1>><<$v := 2>><<range $k, $v = .GroupBySlice>><<end>><<$k>><<$v>>", "1pod"),
        ("<<if .Nil>>a<<else if .B>>b<<else>>c<<end>>", "b"),
        ("<<if .Nil>>a<<else if 0>>b<<else>>c<<end>>", "c"),
        ("<<if .>>y<<end>>", "y"),
        ("<<if $x := 0>>a<<else>><<$x>><<end>>", "0"),
        ("<<with \"\">>a<<else with .Series>><<.>><<else>>c<<end>>", "http_requests_total"),
        ("<<with $x := .Series>><<.>> <<$x>><<end>>", "http_requests_total http_requests_total"),
        ("<<$x := 1>><<$x>><<if .B>><<$x = 2>><<$x := 3>><<end>><<$x>>", "12"),
        ("<<$ := 5>><<$>>", "5"),
        (
            "<<define \"a\">>[<<.>>]<<end>><<template \"a\" .Series>><<template `a`>>",
            "[http_requests_total][<no value>]",
        ),
        ("<<define \"a\">>x<<end>><<define \"a\">> <<end>><<template \"a\">>", "x"),
        ("<<block \"b\" .Series>>{<<.>>}<<end>><<template \"b\" 3>>", "{http_requests_total}{3}"),
        ("a <<- .Series ->> b", "ahttp_requests_totalb"),
        ("a <<- /* hi */ ->>\n b<</* x */>>c", "abc"),
        ("<<- 3>> <<-3>>", "3 -3"),
        ("<<\n.Series\n|\nlen\n>>", "19"),
    ]);
}

#[test]
fn functions() {
    check_outputs(&[
        (
            "<<print \"a\" 1 2 \"b\" 3 true nil 1.5>>|<<println \"a\" 1 nil>>",
            "a1 2b3 true <nil> 1.5|a 1 <nil>\n",
        ),
        ("<<\"x\" | printf \"%s-%s\" \"y\">>", "y-x"),
        ("<<len \"é\">> <<len .GroupBySlice>> <<.LabelValuesByName | len>>", "2 2 3"),
        ("<<eq .Series \"a\" \"http_requests_total\">> <<ne 1 1>>", "true false"),
        ("<<eq .Series nil>> <<eq nil nil>> <<eq .GroupBySlice nil>>", "false true false"),
        (
            "<<lt 1 2>> <<lt \"a\" \"b\">> <<le 1.5 1.5>> <<gt 2 1>> <<ge 'a' 97>>",
            "true true true true true",
        ),
        ("<<eq (index \"a\" 0) 97>> <<lt -1 (index \"a\" 0)>>", "true true"),
        ("<<and 1 0 (index .GroupBySlice 99)>> <<or 0 \"x\" (index .GroupBySlice 99)>>", "0 x"),
        ("<<or nil>> <<and nil 1>> <<not nil>> <<1 | and 2>>", "<no value> <no value> true 1"),
        ("<<index .Series 0>> <<index .GroupBySlice 0 0>> <<index .N>>", "104 110 7"),
        (
            "<<slice .Series 0 4>> <<slice .GroupBySlice 1>> <<slice .GroupBySlice 0 1 2>>",
            "http [pod] [namespace]",
        ),
        (
            r#"<<html "<a&'\">">> <<html nil>> <<urlquery "a b&c=é/~">> <<urlquery 1 2>>"#,
            "&lt;a&amp;&#39;&#34;&gt; &lt;no value&gt; a+b%26c%3D%C3%A9%2F~ 1+2",
        ),
        (r#"<<js "<a'=\"\\\u00ad\u2028é\n>">>"#, r#"\u003Ca\'\u003D\"\\\u00AD\u2028é\u000A\u003E"#),
        ("<<print print>>", ""),
        ("<<(index .LabelValuesByName \"no\") | printf \"%q\">>", "\"\""),
    ]);
}

#[test]
fn literals() {
    check_outputs(&[
        (
            "<<0x1e>> <<0X1F>> <<0b11>> <<0o17>> <<017>> <<1_000>> <<+3>> <<'a'>> <<'\\n'>> <<'\\''>>",
            "30 31 3 15 15 1000 3 97 10 39",
        ),
        (
            "<<1.0>> <<1e6>> <<1E5>> <<.5>> <<1.>> <<1_2.5>> <<1e21>> <<0.000012345>> <<-0.0>> <<0e5>>",
            "1 1e+06 100000 0.5 1 12.5 1e+21 1.2345e-05 -0 0",
        ),
        (
            "<<9223372036854775807>> <<-9223372036854775808>>",
            "9223372036854775807 -9223372036854775808",
        ),
        (r#"<<"\t\x41\101\u00e9\U0001F600\"">>"#, "\tA\u{41}é😀\""),
        ("<<`a\\n\r\n\"`>>", "a\\n\n\""),
        ("<<true>> <<false>>", "true false"),
    ]);
}

#[test]
fn formats() {
    check_outputs(&[
        (
            "<<printf \"%d %s\" 1>>|<<printf \"%d\" \"x\">>|<<printf \"x\" 1 \"y\" nil>>|<<printf \"%!\">>|<<printf \"%\">>",
            "1 %!s(MISSING)|%!d(string=x)|x%!(EXTRA int=1, string=y, <nil>)|%!!(MISSING)|%!(NOVERB)",
        ),
        (
            r#"<<printf "%5s|%-5s|%05s|%.2s|%5.1s|%q|%#q|%+q" "é☃b" "ab" "ab" "é☃b" "xyz" "a\"b\u200b\xff" "ab" "é☃">>"#,
            "  é☃b|ab   |000ab|é☃|    x|\"a\\\"b\\u200b\\xff\"|`ab`|\"\\u00e9\\u2603\"",
        ),
        (
            r#"<<printf "%x|% x|%#x|% #X|%.1x|%6x|%-6X|" "é" "abc" "abc" "abc" "abc" "ab" "ab">>"#,
            "c3a9|61 62 63|0x616263|0X61 0X62 0X63|61|  6162|6162  |",
        ),
        (
            "<<printf \"%5d|%-5d|%05d|%+d|% d|%.3d|%8.3d|%.0d|%08.3d\" 42 42 42 42 42 42 42 0 42>>",
            "   42|42   |00042|+42| 42|042|     042||     042",
        ),
        (
            "<<printf \"%x|%#x|%X|%#X|%o|%#o|%O|%b|%#b|%c|%q|%U|%#U\" -42 42 255 255 8 8 8 5 5 9731 9731 9731 9731>>",
            "-2a|0x2a|FF|0XFF|10|010|0o10|101|0b101|☃|'☃'|U+2603|U+2603 '☃'",
        ),
        (
            "<<printf \"%f|%.2f|%8.2f|%-8.1f|%08.2f|%+.1f|%.0f\" 3.14159 3.14159 3.14159 3.14159 -3.14159 3.0 2.5>>",
            "3.141590|3.14|    3.14|3.1     |-0003.14|+3.0|2",
        ),
        (
            "<<printf \"%e|%E|%g|%G|%.3g|%6.2e|%.10g\" 123456.789 0.00001 1e21 1e-7 1234567.0 12345.678 100.5>>",
            "1.234568e+05|1.000000E-05|1e+21|1E-07|1.23e+06|1.23e+04|100.5",
        ),
        (
            "<<printf \"%v %v %v %v %v\" 1000000.0 123456789.0 0.0001 0.00001 100000.0>>",
            "1e+06 1.23456789e+08 0.0001 1e-05 100000",
        ),
        ("<<printf \"%t|%5t|%-6v|%s\" true false true true>>", "true|false|true  |%!s(bool=true)"),
        (
            "<<printf \"%s|%q|%d|%x|%T|%#v\" .GroupBySlice .GroupBySlice .GroupBySlice .GroupBySlice .GroupBySlice .GroupBySlice>>",
            "[namespace pod]|[\"namespace\" \"pod\"]|[%!d(string=namespace) %!d(string=pod)]|[6e616d657370616365 706f64]|[]string|[]string{\"namespace\", \"pod\"}",
        ),
        (
            "<<printf \"%s|%T|%#v\" .LabelValuesByName .LabelValuesByName .LabelValuesByName>>",
            "map[namespace:prod pod:a|b svc:]|map[string]string|map[string]string{\"namespace\":\"prod\", \"pod\":\"a|b\", \"svc\":\"\"}",
        ),
        (
            "<<printf \"%v|%d|%T|%#v|%7v\" nil nil nil nil nil>>",
            "<nil>|%!d(<nil>)|<nil>|<nil>|  <nil>",
        ),
        (
            "<<printf \"%[2]d %[1]d %d %[5]d %[x]d %*d %.*f\" 1 2 3>>",
            "2 1 2 %!d(BADINDEX) %!d(BADINDEX) %!d(MISSING) %!(BADPREC)%!f(MISSING)",
        ),
        ("<<printf \"%*d|%-*d|%0*d|%.*f\" 5 1 5 2 0 3 2 3.14159>>", "    1|2    |3|3.14"),
        (
            "<<printf \"%c %T %v %#v %x\" (index \"h\" 0) (index \"h\" 0) (index \"h\" 0) (index \"h\" 0) (index \"h\" 0)>>",
            "h uint8 104 0x68 68",
        ),
        ("<<printf \"100%%\">>", "100%"),
    ]);
}

#[test]
fn floats_that_are_no_numbers() {
    let fields = Fields::from([
        ("Nan", Value::Float(f64::NAN)),
        ("Inf", Value::Float(f64::INFINITY)),
        ("Min", Value::Float(f64::NEG_INFINITY)),
    ]);
    let template = "<<.Nan>> <<.Inf>> <<.Min>> <<printf \"%06.1f|%+v\" .Inf .Nan>> <<gt .Nan 1.0>>";
    let output = Template::parse(template).unwrap().execute(&fields).unwrap();
    assert_eq!(output, "NaN +Inf -Inf   +Inf|NaN true");
}

#[test]
fn texts_that_are_no_templates() {
    for (template, line, column, expected) in [
        ("a << .Series | upper >>", 1, 16, "function \"upper\" not defined"),
        ("<< $x >>", 1, 4, "undefined variable \"$x\""),
        ("x << end >>", 1, 3, "unexpected <<end>>"),
        ("x << else >>", 1, 3, "unexpected <<else>>"),
        ("<< print \"a >>", 1, 10, "unterminated quoted string"),
        ("x << >>", 1, 6, "missing value for command"),
        ("<< break >>", 1, 4, "<<break>> outside <<range>>"),
        ("<<.X", 1, 5, "unclosed action"),
        ("a\né<<.X}", 2, 6, "bad character U+007D '}'"),
        ("<<define \"a\">>x<<end>><<define \"a\">>y<<end>>", 1, 32, "multiple definition"),
        ("<<if .B>>a\n<<else>>b<<else>>c<<end>>", 2, 9, "expected <<end>>"),
        ("<<if .B>>", 1, 10, "<<end>> is missing"),
        ("<<with 1>>a<<else if .S>>b<<end>>", 1, 19, "unexpected \"if\" in input"),
        ("<<range $a, .X>>x<<end>>", 1, 13, "range can only initialize variables"),
        ("<<range $a, $b .X>>x<<end>>", 1, 13, "undefined variable \"$b\""),
        ("<<if $a, $b := .X>>x<<end>>", 1, 8, "too many declarations in if"),
        ("<<range 2>><<block \"x\" .>><<break>><<end>><<end>>", 1, 29, "outside <<range>>"),
        ("<<if .B>><<define \"q\">>a<<end>><<end>>", 1, 12, "unexpected \"define\" in command"),
        ("<<1 | 2>>", 1, 7, "non executable command in pipeline stage 2"),
        ("<<nil.x>>", 1, 6, "unexpected . after a term"),
        ("<<(.X>>", 1, 6, "unclosed left paren"),
        ("<<.X)>>", 1, 5, "unexpected right paren"),
        ("<<()>>", 1, 4, "missing value for parenthesized pipeline"),
        ("<<|.X>>", 1, 3, "unexpected \"|\" in command"),
        ("<<.X, .Y>>", 1, 5, "unexpected \",\" in operand"),
        ("<<.X.>>", 1, 5, "unexpected \".\" in operand"),
        ("<<..X>>", 1, 4, "unexpected . after a term"),
        ("<<'ab'>>", 1, 3, "malformed character constant: 'ab'"),
        ("<<''>>", 1, 3, "invalid syntax"),
        ("<<\"\\q\">>", 1, 3, "invalid syntax"),
        ("<<\"\\400\">>", 1, 3, "invalid syntax"),
        ("<<`a>>", 1, 3, "unterminated raw quoted string"),
        ("<<1a>>", 1, 3, "bad number syntax"),
        ("<<089>>", 1, 3, "integer overflow"),
        ("<<1__0>>", 1, 3, "illegal number syntax"),
        ("<<1e999>>", 1, 3, "illegal number syntax"),
        ("<<.X : 1>>", 1, 6, "expected :="),
        ("<<\u{1}>>", 1, 3, "unrecognized character in action: U+0001"),
        ("<</* a>>", 1, 1, "unclosed comment"),
        ("<</* a */ >>", 1, 1, "comment ends before closing delimiter"),
        ("<<template x>>", 1, 12, "unexpected \"x\" in template clause"),
        // What Go has and this has not.
        ("<<1+2i>>", 1, 3, "complex numbers are not supported"),
        ("<<0x1p4>>", 1, 3, "hexadecimal floats are not supported"),
    ] {
        let error = Template::parse(template).expect_err(template);
        assert!(error.message.contains(expected), "{template}: {}", error.message);
        assert_eq!((error.line, error.column), (line, column), "{template}");
    }
}

#[test]
fn templates_that_fail() {
    for (template, line, column, expected) in [
        ("<<.Labels>>", 1, 3, "can't evaluate field Labels"),
        ("a\n<<.Series.x>>", 2, 3, "can't evaluate field x in type string"),
        ("<<.GroupBySlice.x>>", 1, 3, "in type []string"),
        ("<<.Nil.x>>", 1, 3, "nil pointer evaluating Nil.x"),
        ("<<index .LabelValuesByName 1>>", 1, 3, "value has type int; should be string"),
        ("<<index .GroupBySlice 2>>", 1, 3, "error calling index: index out of range: 2"),
        ("<<index .GroupBySlice -1>>", 1, 3, "index out of range: -1"),
        ("<<index .GroupBySlice \"a\">>", 1, 3, "cannot index slice/array with type string"),
        ("<<index nil>>", 1, 3, "index of untyped nil"),
        ("<<index .N 1>>", 1, 3, "can't index item of type int"),
        ("<<slice .Series 3 1>>", 1, 3, "invalid slice index: 3 > 1"),
        ("<<slice .Series 0 1 2>>", 1, 3, "cannot 3-index slice a string"),
        ("<<slice .GroupBySlice 3>>", 1, 3, "index out of range: 3"),
        ("<<len 3>>", 1, 3, "error calling len: len of type int"),
        ("<<len nil>>", 1, 3, "error calling len"),
        ("<<eq 1 1.0>>", 1, 3, "incompatible types for comparison: int and float64"),
        ("<<eq .Series 1>>", 1, 3, "incompatible types for comparison: string and int"),
        ("<<eq .GroupBySlice .GroupBySlice>>", 1, 3, "non-comparable type []string"),
        ("<<eq 1>>", 1, 3, "missing argument for comparison"),
        ("<<lt true false>>", 1, 3, "invalid type for comparison"),
        ("<<lt nil 1>>", 1, 3, "invalid type for comparison"),
        ("<<not 1 2>>", 1, 3, "wrong number of args for not: want 1 got 2"),
        ("<<print>><<index>>", 1, 12, "wrong number of args for index: want at least 1 got 0"),
        ("<<.Series 1>>", 1, 3, "Series has arguments but cannot be invoked as function"),
        ("<<.LabelValuesByName.pod 1>>", 1, 3, "pod is not a method but has arguments"),
        ("<<.Series | .GroupBy>>", 1, 13, "GroupBy has arguments"),
        ("<<1 2>>", 1, 3, "can't give argument to non-function"),
        ("<<nil>>", 1, 3, "nil is not a command"),
        ("<<call .Series>>", 1, 3, "non-function of type string"),
        ("<<printf 5>>", 1, 10, "expected string; got int"),
        ("<<$x =1>>", 1, 3, "undefined variable: $x"),
        ("<<range $i, $j := 3>>x<<end>>", 1, 9, "more than one variable"),
        ("<<range .Series>>x<<end>>", 1, 9, "range can't iterate over a string"),
        ("<<range 1.5>>x<<end>>", 1, 9, "range can't iterate over a float64"),
        ("<<template \"no\">>", 1, 12, "template \"no\" not defined"),
        ("<<18446744073709551615>>", 1, 3, "18446744073709551615 overflows int"),
        // What Go does and this does not.
        ("<<.>>", 1, 3, "cannot be printed"),
        ("<<printf \"%x\" 1.5>>", 1, 3, "%x of a float is not supported"),
        ("<<printf \"%#f\" 1.5>>", 1, 3, "the flag # is not supported"),
        ("<<printf \"%p\" .GroupBySlice>>", 1, 3, "%p is not supported"),
        ("<<slice \"é\" 0 1>>", 1, 1, "not UTF-8"),
    ] {
        let error = run(template).expect_err(template);
        assert!(error.message.contains(expected), "{template}: {}", error.message);
        assert_eq!((error.line, error.column), (line, column), "{template}");
    }
}

#[test]
fn unknown_fields_are_told_the_known() {
    let fields = Fields::from([("Group", Value::Nil), ("Resource", Value::Nil)]);
    let error = Template::parse("<<.Resource>>_<<.Kind>>").unwrap().execute(&fields).unwrap_err();
    assert_eq!(error.to_string(), "line 1: can't evaluate field Kind: there are .Group, .Resource");
}

#[test]
fn work_and_output_are_bounded() {
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(5000), close.repeat(5000));
    for template in [
        nested("<<if .B>>", "<<end>>"),
        format!("<<{}1{}>>", "(".repeat(5000), ")".repeat(5000)),
        nested("<<block \"a\" .>>", "<<end>>"),
    ] {
        let error = Template::parse(&template).unwrap_err();
        assert!(error.message.contains("nests deeper"), "{}", error.message);
    }
    for (template, expected) in [
        ("<<define \"r\">><<template \"r\">><<end>><<template \"r\">>", "maximum template depth"),
        ("<<range 9223372036854775807>><<end>>", "does too much"),
        ("<<range 1000000>><<range 1000000>><<len .Series>><<end>><<end>>", ""),
        ("<<range 2000000>>x<<end>>", "larger than 1 MiB"),
        ("<<$x := \"xxxxxxxx\">><<range 100>><<$x = print $x $x>><<end>>", "larger than 1 MiB"),
        ("<<printf \"%1000000d%1000000d\" 1 1>>", "larger than 1 MiB"),
        (
            "<<$x := printf \"%1000000d\" 1>><<range 9000000>><<if eq $x $x>><<end>><<end>>",
            "does too much",
        ),
    ] {
        let error = run(template).expect_err(template);
        assert!(error.message.contains(expected), "{template}: {}", error.message);
    }
    // An `else if` nests nothing.
    let chain = format!("<<if 0>>{}<<else>>z<<end>>", "<<else if 0>>a".repeat(500));
    assert_eq!(run(&chain).unwrap(), "z");
}

/// As deep as a text may nest, and called in each other as deep as calls may.
#[test]
fn the_deepest_template_fits_the_stack() {
    let body = format!(
        "{}<<template \"r\" {}.{}>>{}",
        "<<with .>>".repeat(25),
        "(".repeat(20),
        ")".repeat(20),
        "<<end>>".repeat(25)
    );
    let template = format!("<<define \"r\">>{body}<<end>><<template \"r\" .>>");
    let error = run(&template).unwrap_err();
    assert!(error.message.contains("maximum template depth"), "{error}");
}

/// Pieces of templates, glued at random: far more of these are templates than of random texts.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<<",
        ">>",
        "<<- ",
        " ->>",
        " ",
        "\n",
        "x",
        "é",
        ".",
        ".Series",
        ".LabelValuesByName",
        ".GroupBySlice",
        "$x",
        "$x := ",
        "$x = ",
        "$",
        ", ",
        "|",
        "(",
        ")",
        "if ",
        "else",
        "end",
        "range ",
        "with ",
        "define ",
        "block ",
        "template ",
        "\"a\"",
        "`b`",
        "'c'",
        "1",
        "-1",
        "0x1f",
        "1.5",
        "nil",
        "true",
        "print ",
        "printf ",
        "\"%5.2f%s\"",
        "index ",
        "slice ",
        "len ",
        "eq ",
        "lt ",
        "and ",
        "not ",
        "break",
        "continue",
        "/*",
        "*/",
        "\"",
        "'",
        "`",
        "<<if .Series>>",
        "<<range .GroupBySlice>>",
        "<<end>>",
        "<<.>>",
        "<<else>>",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.execute(&fields());
        }
    }

    #[test]
    fn no_pieces_panic(text in pieces()) {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.execute(&fields());
        }
    }

    #[test]
    fn no_format_panics(format in "[%a-zA-Z0-9.*#+ \\[\\]-]{0,20}") {
        let template = format!("<<printf {format:?} 1 .Series 2.5 nil .GroupBySlice -3>>");
        let _ = Template::parse(&template).unwrap().execute(&fields());
    }

    #[test]
    fn text_without_actions_is_itself(text in any::<String>().prop_filter("an action", |t| !t.contains("<<"))) {
        prop_assert_eq!(run(&text).unwrap(), text);
    }

    #[test]
    fn strings_survive_quotes(text in any::<String>()) {
        let fields = Fields::from([("X", Value::String(text.clone()))]);
        let quoted = Template::parse("<<printf `%q` .X>>").unwrap().execute(&fields).unwrap();
        let template = Template::parse(&format!("<<{quoted}>>")).unwrap();
        prop_assert_eq!(template.execute(&fields).unwrap(), text);
    }
}
